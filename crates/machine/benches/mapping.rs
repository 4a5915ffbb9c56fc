//! What mapping memory for a device costs, and what an access of a device costs, in each layout of memory:
//! `cargo bench -p ioasis-machine --bench mapping [-- --quick]`.
//!
//! * `IOMMU_IOAS_MAP` and `IOMMU_IOAS_UNMAP` on a machine with a device attached: 1 GiB and 2 MiB.
//! * A checked write of 4 KiB by a device against the same with `memcpy`.

use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bench::{Comparisons, timed};
use machine::dma::{Checker, Mode, Views};
use machine::ram::{FRAME, LayoutKind, Ram, RamSpec};
use machine::{DeviceSpec, File, Machine, MachineSpec, MemorySpec, ModelSpec};
use subsystem::{Grant, Source};
use sys::{Access, Memory, MemoryOptions, PageSize, Sys};
use uapi::Command;
use uapi::iommufd::{
    IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, IommuIoasAlloc, IommuIoasMap, IommuIoasUnmap,
};
use uapi::vfio::{VfioDeviceAttachIommufdPt, VfioDeviceBindIommufd};

const LAYOUTS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

/// Pairs of calls in a round.
const CALLS: u32 = 16;
/// Accesses in a round.
const ACCESSES: u32 = 1024;

const fn of_length(length: usize) -> MemoryOptions {
    MemoryOptions { length, page_size: PageSize::Base, highest: u64::MAX }
}

/// A program that has a device attached to an IOAS.
struct Program {
    machine: Machine,
    iommufd: File,
    ioas: u32,
    _device: File,
}

impl Program {
    fn new(layout: LayoutKind) -> sys::Result<Self> {
        let edu = DeviceSpec::new("0000:01:00.0".parse().expect("an address"), ModelSpec::Edu).inline();
        let memory = MemorySpec { layout, ..MemorySpec::default() };
        let spec = MachineSpec { memory, devices: vec![edu], ..MachineSpec::default() };
        let machine = Machine::from_spec(spec).expect("a machine");
        let open = |path| machine.open(Path::new(path), Access::ReadWrite);
        let (device, iommufd) = (open("/dev/vfio/devices/noiommu-vfio0")?, open("/dev/iommu")?);
        let mut bind = VfioDeviceBindIommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..Command::new() };
        // SAFETY: without a token the argument holds no address.
        unsafe { machine.ioctl_typed(&device, &mut bind) }?;
        let mut ioas = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut ioas)?;
        let ioas = ioas.out_ioas_id;
        machine.ioctl(&device, &mut VfioDeviceAttachIommufdPt { pt_id: ioas, ..Command::new() })?;
        Ok(Self { machine, iommufd, ioas, _device: device })
    }

    /// Maps and unmaps memory.
    fn round(&self, memory: &Memory) -> Duration {
        timed(|| (0..CALLS).for_each(|_| self.map_and_unmap(memory).expect("MAP and UNMAP")))
    }

    fn map_and_unmap(&self, memory: &Memory) -> sys::Result<()> {
        let length = memory.length() as u64;
        let mut map = IommuIoasMap {
            flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
            ioas_id: self.ioas,
            user_va: memory.start().as_ptr() as u64,
            length,
            ..Command::new()
        };
        // SAFETY: the program does not touch the memory, and neither does the device.
        unsafe { self.machine.ioctl_typed(&self.iommufd, &mut map) }?;
        let mut unmap = IommuIoasUnmap { ioas_id: self.ioas, iova: map.iova, length, ..Command::new() };
        self.machine.ioctl(&self.iommufd, &mut unmap).map(|_| ())
    }
}

fn mapping(comparisons: &mut Comparisons, layout: LayoutKind) {
    let program = Program::new(layout).expect("an attached device");
    let [large, small] = [1 << 30, 2 << 20]
        .map(|length| program.machine.allocate(&of_length(length)).expect("memory of the machine"));
    let name = format!("IOAS_MAP + UNMAP, {layout:?}: 1 GiB / 2 MiB");
    comparisons.compare(&name, CALLS, Some(3.0), || program.round(&large), || program.round(&small));
}

/// Numbers that jump about, the same for both sides.
fn jump(at: u32) -> usize {
    u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 40
}

fn access(comparisons: &mut Comparisons, layout: LayoutKind) {
    let ram = Ram::new(&RamSpec { layout, ..RamSpec::default() }).expect("RAM");
    let views = Views::new(Arc::clone(&ram), Arc::new(Checker::new(Mode::Enforce)));
    let view = views.create();
    let (mut port, control) = views.port("0000:01:00.0", 64);
    control.set_bus_master(true);
    views.attach(&control, Some(view));

    let memory = ram.allocate(&of_length(256 << 20)).expect("memory of the machine");
    let pages = memory.length() / FRAME as usize;
    let task = ram.accounts().task(1, 0, None);
    let source = Source::User { task, address: memory.start().as_ptr() as u64 };
    let pin = ram.pin(source, 0, pages as u64, true).expect("machine RAM");
    views.grant(view, &Grant { iova: 0x1000_0000, pin, first: 0, pages: pages as u64, writable: true });

    let page = |at| jump(at) % pages;
    let addresses: Vec<u64> = (0..ACCESSES).map(|at| ram.run(pin, page(at) as u64, 1).address).collect();
    let pointers: Vec<*mut u8> =
        (0..ACCESSES).map(|at| memory.start().as_ptr().wrapping_add(page(at) * FRAME as usize)).collect();
    let block = vec![7_u8; FRAME as usize];
    let by_port = || {
        timed(|| {
            for &address in &addresses {
                port.write(address, black_box(&block)).expect("mapped");
            }
        })
    };
    let by_memcpy = || {
        timed(|| {
            for &pointer in &pointers {
                // SAFETY: the page is within the memory, which is this function's own.
                unsafe { pointer.copy_from_nonoverlapping(black_box(block.as_ptr()), block.len()) };
            }
        })
    };
    let name = format!("4 KiB written, {layout:?}: checked DMA / memcpy");
    comparisons.compare(&name, ACCESSES, None, by_port, by_memcpy);
}

fn main() -> ExitCode {
    let mut comparisons = Comparisons::new();
    LAYOUTS.into_iter().for_each(|layout| mapping(&mut comparisons, layout));
    LAYOUTS.into_iter().for_each(|layout| access(&mut comparisons, layout));
    comparisons.finish()
}
