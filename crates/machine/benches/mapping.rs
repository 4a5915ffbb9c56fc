//! What mapping memory for a device costs, and what an access of a device costs, as ratios.
//!
//! `cargo bench -p ioasis-machine --bench mapping`; `-- --quick` for a tenth of the rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::dma::{Checker, DmaPort, Mode, PortControl, View, Views};
use machine::ram::{FRAME, LayoutKind, Ram, RamSpec};
use subsystem::{Grant, Source, Task};
use sys::{Memory, MemoryOptions, PageSize};

const LAYOUTS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

struct Setup {
    ram: Arc<Ram>,
    views: Views,
    task: Task,
    view: View,
    port: DmaPort,
    _control: PortControl,
}

fn setup(layout: LayoutKind) -> Setup {
    let ram = Ram::new(&RamSpec { layout, ..RamSpec::default() }).expect("RAM");
    let views = Views::new(Arc::clone(&ram), Arc::new(Checker::new(Mode::Enforce)));
    let task = ram.accounts().task(1, 0, None);
    let view = views.create();
    let (port, control) = views.port("0000:01:00.0", 64);
    control.set_bus_master(true);
    views.attach(&control, Some(view));
    Setup { ram, views, task, view, port, _control: control }
}

impl Setup {
    fn allocate(&self, length: usize) -> Memory {
        let options = MemoryOptions { length, page_size: PageSize::Base, highest: u64::MAX };
        self.ram.allocate(&options).expect("memory")
    }

    fn map(&self, memory: &Memory) -> Grant<machine::ram::Pin> {
        let source = Source::User { task: self.task, address: memory.start().as_ptr() as u64 };
        let pages = memory.length() as u64 / FRAME;
        let pin = self.ram.pin(source, 0, pages, true).expect("machine RAM");
        let grant = Grant { iova: 0x1000_0000, pin, first: 0, pages, writable: true };
        self.views.grant(self.view, &grant);
        grant
    }

    fn unmap(&self, grant: &Grant<machine::ram::Pin>) {
        self.views.revoke(self.view, grant);
        self.views.unpin(grant.pin, grant.first, grant.pages);
    }
}

/// The median time of one round.
fn time(rounds: usize, mut round: impl FnMut(usize)) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|at| {
            let start = Instant::now();
            round(at);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

fn mapping(layout: LayoutKind, rounds: usize) {
    let setup = setup(layout);
    let [small, large] = [2 << 20, 1 << 30].map(|length| {
        let memory = setup.allocate(length);
        time(rounds, |_| {
            let grant = setup.map(&memory);
            setup.unmap(black_box(&grant));
        })
    });
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    println!("{layout:?}: map and unmap 2 MiB {small:?}, 1 GiB {large:?}: {ratio:.2} times (limit 3)");
}

/// Numbers that jump about, the same for both sides.
fn jump(at: usize) -> usize {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

fn access(layout: LayoutKind, rounds: usize) {
    const ACCESSES: usize = 1024;
    let mut setup = setup(layout);
    let memory = setup.allocate(256 << 20);
    let pages = memory.length() / FRAME as usize;
    let grant = setup.map(&memory);
    let addresses: Vec<u64> =
        (0..ACCESSES).map(|at| setup.ram.run(grant.pin, (jump(at) % pages) as u64, 1).address).collect();
    let pointers: Vec<*mut u8> = (0..ACCESSES)
        .map(|at| memory.start().as_ptr().wrapping_add(jump(at) % pages * FRAME as usize))
        .collect();

    let block = vec![7_u8; FRAME as usize];
    let copy = time(rounds, |_| {
        for &pointer in &pointers {
            // SAFETY: the page is within the memory, which is this function's own.
            unsafe { pointer.copy_from_nonoverlapping(black_box(block.as_ptr()), block.len()) };
        }
    });
    let port = &mut setup.port;
    let checked = time(rounds, |_| {
        for &address in &addresses {
            port.write(address, black_box(&block)).expect("mapped");
        }
    });
    let word = time(rounds, |_| {
        for &address in &addresses {
            port.write_u32_release(address, 1).expect("mapped");
        }
    });
    let each = |time: Duration| time.as_secs_f64() * 1e9 / ACCESSES as f64;
    println!(
        "{layout:?}: 4 KiB by memcpy {:.0} ns, by a port {:.0} ns: {:.2} of its rate; a checked word {:.1} ns",
        each(copy),
        each(checked),
        copy.as_secs_f64() / checked.as_secs_f64(),
        each(word),
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 101 } else { 1001 };
    for layout in LAYOUTS {
        mapping(layout, rounds);
    }
    for layout in LAYOUTS {
        access(layout, rounds);
    }
}
