//! What the ioctls on memory cost, and how that grows: `cargo bench -p ioasis-subsystem --bench ioctls [-- --quick]`.
//!
//! * MAP and UNMAP among many areas and among few, at a fixed IOVA and at one that is chosen, in an IOAS without and
//!   with a page table. The chosen one is behind all areas, and every hole before it is too small.
//! * GET_PA of 512 MiB that are contiguous and of a page.
//!
//! The host is simulated: pinning costs next to nothing.

use std::process::ExitCode;
use std::time::Duration;

use bench::{Comparisons, timed};
use client::{BUFFER, Client, pages};
use support::host::TestHost;
use support::memory::Layout;

/// What the locks of the simulated host are made of.
mod sync {
    pub(crate) use std::sync::{Mutex, RwLock};
    pub(crate) use std::thread_local;
}

#[expect(dead_code, reason = "what the tests need is in there too")]
#[path = "../tests/iommufd/client.rs"]
mod client;
#[expect(dead_code, reason = "what the tests need is in there too")]
#[path = "../tests/support/mod.rs"]
mod support;

/// Where the areas begin: one page each, and a page is left free behind each.
const FIRST: u64 = 1 << 32;
/// Calls, or pairs of calls, in a round.
const CALLS: u32 = 100;
const FEW: u64 = 1_000;

/// An IOAS with many areas.
struct Populated<'a> {
    client: Client<'a>,
    ioas: u32,
    areas: u64,
    /// Counts the calls.
    call: u64,
}

impl<'a> Populated<'a> {
    fn new(host: &'a TestHost, areas: u64, attached: bool) -> Self {
        let client = Client::new(host);
        client.memory(BUFFER, 2, Layout::Contiguous);
        let ioas = client.ioas();
        for area in 0..areas {
            client.map_at(ioas, BUFFER, pages(1), FIRST + pages(2 * area)).expect("MAP");
        }
        // Nothing is chosen below the areas.
        client.allow(ioas, &[(FIRST, u64::MAX)]).expect("ALLOW_IOVAS");
        if attached {
            client.attach(client.bind(), ioas).expect("ATTACH");
        }
        Self { client, ioas, areas, call: 0 }
    }

    fn fixed(&mut self) -> Duration {
        let Self { client, ioas, areas, call } = self;
        timed(|| {
            for _ in 0..CALLS {
                // All over the areas, by a step that has no divisor in common with their number.
                *call += 1;
                let iova = FIRST + pages(2 * (call.wrapping_mul(0x9e37_79b1) % *areas) + 1);
                client.map_at(*ioas, BUFFER, pages(1), iova).expect("MAP");
                client.unmap(*ioas, iova, pages(1)).expect("UNMAP");
            }
        })
    }

    fn chosen(&mut self) -> Duration {
        let Self { client, ioas, areas, .. } = self;
        timed(|| {
            for _ in 0..CALLS {
                let iova = client.map_any(*ioas, BUFFER, pages(2)).expect("MAP");
                assert!(iova >= FIRST + pages(2 * *areas - 1), "the holes between areas are too small");
                client.unmap(*ioas, iova, pages(2)).expect("UNMAP");
            }
        })
    }
}

/// MAP and UNMAP.
fn mapping(comparisons: &mut Comparisons, many: u64, attached: bool) {
    let hosts = [trusting(), trusting()];
    let mut many = Populated::new(&hosts[0], many, attached);
    let mut few = Populated::new(&hosts[1], FEW, attached);
    let table = if attached { "page table" } else { "no page table" };
    let name = |iova| format!("MAP + UNMAP, {iova}, {table}: {} / {FEW} areas", many.areas);
    let (fixed, chosen) = (name("fixed"), name("chosen"));
    comparisons.compare(&fixed, CALLS, Some(4.0), || many.fixed(), || few.fixed());
    comparisons.compare(&chosen, CALLS, Some(4.0), || many.chosen(), || few.chosen());
    many.client.close();
    few.client.close();
}

/// GET_PA.
fn physical(comparisons: &mut Comparisons) {
    const MUCH: u64 = 512 << 20;
    let host = trusting();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, MUCH / pages(1), Layout::Contiguous);
    let iova = client.map_any(ioas, BUFFER, MUCH).expect("MAP");
    let ask = |length| {
        timed(|| {
            for _ in 0..CALLS {
                let (_, contiguous) = client.physical(ioas, iova, length).expect("GET_PA");
                assert_eq!(contiguous, length);
            }
        })
    };
    comparisons.compare("GET_PA: 512 MiB / 4 KiB", CALLS, Some(2.0), || ask(MUCH), || ask(pages(1)));
    client.close();
}

fn main() -> ExitCode {
    let mut comparisons = Comparisons::new();
    let many = comparisons.size(1_000_000, 100_000);
    mapping(&mut comparisons, many, false);
    mapping(&mut comparisons, many, true);
    physical(&mut comparisons);
    comparisons.finish()
}

/// A host that does not look after what it is told: the subsystem is what is measured.
fn trusting() -> TestHost {
    let host = TestHost::new();
    host.trust_mappings();
    host
}
