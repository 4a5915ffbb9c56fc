//! What the ioctls on memory cost, and how that grows: `cargo bench -p ioasis-subsystem --bench ioctls [-- --quick]`.
//!
//! * MAP and UNMAP among few areas and among many, at a fixed IOVA and at one that is chosen, in an IOAS without and
//!   with a page table. The chosen one is behind all areas, and every hole before it is too small.
//! * GET_PA of a page and of 512 MiB that are contiguous.
//! * Memory for each area.
//!
//! The host is simulated: pinning costs next to nothing.

use std::time::Instant;

use client::{BUFFER, Client, pages};
use support::host::TestHost;
use support::memory::Layout;

#[expect(dead_code, reason = "what the tests need is in there too")]
#[path = "../tests/iommufd/client.rs"]
mod client;
#[expect(dead_code, reason = "what the tests need is in there too")]
#[path = "../tests/support/mod.rs"]
mod support;

/// Where the areas begin: one page each, and a page is left free behind each.
const FIRST: u64 = 1 << 32;

/// How much is done.
struct Effort {
    few: u64,
    many: u64,
    calls: u64,
    rounds: u32,
}

impl Effort {
    const FULL: Self = Self { few: 1_000, many: 1_000_000, calls: 20_000, rounds: 7 };
    const QUICK: Self = Self { few: 1_000, many: 100_000, calls: 2_000, rounds: 3 };

    /// Nanoseconds for a call of `f`, which gets a number that differs each time. The best of some rounds.
    fn nanoseconds(&self, mut f: impl FnMut(u64)) -> f64 {
        let round = |_| {
            let start = Instant::now();
            (0..self.calls).for_each(&mut f);
            start.elapsed().as_secs_f64() * 1e9 / self.calls as f64
        };
        (0..self.rounds).map(round).fold(f64::INFINITY, f64::min)
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let effort = if quick { Effort::QUICK } else { Effort::FULL };
    println!("MAP + UNMAP {:>28} areas {:>10} areas   ratio (aim: at most 4)", effort.few, effort.many);
    for attached in [false, true] {
        let few = Populated::measure(effort.few, attached, &effort);
        let many = Populated::measure(effort.many, attached, &effort);
        let table = if attached { "with page table" } else { "no page table" };
        for (name, few, many) in [("fixed", few.fixed, many.fixed), ("chosen", few.chosen, many.chosen)] {
            println!("  {name:<6} {table:<16} {few:>9.0} ns {many:>13.0} ns {:>7.2}", many / few);
        }
        if let Some(bytes) = many.bytes.filter(|_| !attached) {
            println!("  memory for each area: {bytes:.0} bytes (aim: at most 96)");
        }
    }
    physical(&effort);
}

/// The costs in an IOAS with many areas.
struct Populated {
    fixed: f64,
    chosen: f64,
    /// For each area, if the host tells how much memory the process has.
    bytes: Option<f64>,
}

impl Populated {
    fn measure(areas: u64, attached: bool, effort: &Effort) -> Self {
        let host = TestHost::new();
        let client = Client::new(&host);
        client.memory(BUFFER, 2, Layout::Contiguous);
        let ioas = client.ioas();
        let before = resident();
        for area in 0..areas {
            client.map_at(ioas, BUFFER, pages(1), FIRST + pages(2 * area)).expect("MAP");
        }
        let bytes =
            resident().zip(before).map(|(now, before)| now.saturating_sub(before) as f64 / areas as f64);
        // Nothing is chosen below the areas.
        client.allow(ioas, &[(FIRST, u64::MAX)]).expect("ALLOW_IOVAS");
        if attached {
            client.attach(client.bind(), ioas).expect("ATTACH");
        }
        let fixed = effort.nanoseconds(|call| {
            // All over the areas, by a step that has no divisor in common with their number.
            let area = call.wrapping_mul(0x9e37_79b1) % areas;
            let iova = FIRST + pages(2 * area + 1);
            client.map_at(ioas, BUFFER, pages(1), iova).expect("MAP");
            client.unmap(ioas, iova, pages(1)).expect("UNMAP");
        });
        let chosen = effort.nanoseconds(|_| {
            let iova = client.map_any(ioas, BUFFER, pages(2)).expect("MAP");
            assert!(iova >= FIRST + pages(2 * areas - 1), "the holes between areas are too small");
            client.unmap(ioas, iova, pages(2)).expect("UNMAP");
        });
        client.close();
        Self { fixed, chosen, bytes }
    }
}

/// GET_PA of little and of much.
fn physical(effort: &Effort) {
    const MUCH: u64 = 512 << 20;
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, MUCH / pages(1), Layout::Contiguous);
    let iova = client.map_any(ioas, BUFFER, MUCH).expect("MAP");
    let time = |length| {
        effort.nanoseconds(|_| {
            let (_, contiguous) = client.physical(ioas, iova, length).expect("GET_PA");
            assert_eq!(contiguous, length);
        })
    };
    let (little, much) = (time(pages(1)), time(MUCH));
    println!(
        "GET_PA                4 KiB: {little:.0} ns   512 MiB: {much:.0} ns   ratio {:.2} (aim: at most 2)",
        much / little
    );
    client.close();
}

/// How many bytes of memory the process has in use, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * pages(1))
}
