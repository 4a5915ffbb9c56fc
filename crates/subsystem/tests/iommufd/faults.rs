//! The n-th allocation or pin of a sequence that works is made to fail, for every n.

use subsystem::iommufd::{Binding, Context, DeviceObject};
use subsystem::{Function, IommuInfo, Kconfig, Refusal};
use uapi::Errno;

use crate::client::{BEHIND_IOMMU, BUFFER, Client, FUNCTION, pages};
use crate::support::host::TestHost;
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

/// How the two devices are bound, and what the steps of the sequence leave for later ones.
struct Ids {
    bindings: [Binding; 2],
    device: Option<DeviceObject>,
    other: Option<DeviceObject>,
    first: u32,
    second: u32,
    hwpt: u32,
    iova: u64,
}

impl Ids {
    fn new(bindings: [Binding; 2]) -> Self {
        Ids { bindings, device: None, other: None, first: 0, second: 0, hwpt: 0, iova: 0 }
    }

    fn device(&self) -> DeviceObject {
        self.device.expect("bound")
    }
}

type Step = fn(&Client<'_>, &mut Ids) -> Result<(), Refusal>;

/// The main path, with everything that takes memory or pins. In an order in which each step has something to lose.
const STEPS: &[(&str, Step)] = &[
    ("bind", |client, ids| {
        ids.device = Some(client.context.bind(client.host, FUNCTION, ids.bindings[0])?);
        Ok(())
    }),
    ("bind another", |client, ids| {
        ids.other = Some(client.context.bind(client.host, Function(8), ids.bindings[1])?);
        Ok(())
    }),
    ("IOAS_ALLOC", |client, ids| client.try_ioas().map(|id| ids.first = id)),
    ("IOAS_ALLOC again", |client, ids| client.try_ioas().map(|id| ids.second = id)),
    ("ALLOW_IOVAS", |client, ids| client.allow(ids.first, &[(0x1000, 0x7fff), (0x10_0000, 0xfedf_ffff)])),
    ("MAP before ATTACH", |client, ids| {
        client.map_any(ids.first, BUFFER, pages(16)).map(|iova| ids.iova = iova)
    }),
    ("MAP more", |client, ids| client.map_any(ids.first, BUFFER, pages(3)).map(drop)),
    ("ATTACH", |client, ids| client.attach(ids.device(), ids.first).map(drop)),
    ("MAP after ATTACH", |client, ids| client.map_at(ids.first, BUFFER, pages(4), 0x4000_0000).map(drop)),
    ("COPY into an IOAS without page table", |client, ids| {
        client.copy_at((ids.first, ids.iova + pages(2)), pages(4), (ids.second, 0x1000)).map(drop)
    }),
    ("COPY of several areas into an IOAS with one", |client, ids| {
        client.map_at(ids.second, BUFFER + pages(8), pages(4), 0x5000)?;
        let copied = client.copy_at((ids.second, 0x2000), pages(6), (ids.first, 0x5000_0000));
        copied.map(drop).inspect_err(|_| {
            client.unmap(ids.second, 0x5000, pages(4)).expect("UNMAP takes nothing");
        })
    }),
    ("GET_PA", |client, ids| match ids.bindings[0] {
        Binding::Noiommu => client.physical(ids.first, ids.iova, pages(16)).map(drop),
        Binding::Iommu { .. } | Binding::Emulated => Ok(()),
    }),
    ("HWPT_ALLOC", |client, ids| client.hwpt(ids.device(), ids.second).map(|id| ids.hwpt = id)),
    ("replace", |client, ids| client.attach(ids.device(), ids.second).map(drop)),
    ("replace back", |client, ids| client.attach(ids.device(), ids.first).map(drop)),
    ("share", |client, ids| client.attach(ids.other.expect("bound"), ids.first).map(drop)),
    ("MAP for both", |client, ids| client.map_at(ids.first, BUFFER, pages(2), 0x6000_0000).map(drop)),
    ("UNMAP", |client, ids| client.unmap(ids.first, ids.iova, pages(16)).map(drop)),
    ("DESTROY", |client, ids| client.destroy(ids.hwpt)),
    ("DETACH", |client, ids| {
        client.detach(ids.device());
        Ok(())
    }),
    ("unbind", |client, ids| {
        client.context.unbind(client.host, ids.device());
        Ok(())
    }),
];

/// What is made to fail, and the rules that speak of it.
struct Failure {
    arm: fn(&TestHost, Option<u64>),
    rule: &'static str,
}

const ALLOCATION: Failure = Failure { arm: TestHost::fail_allocation, rule: "iommufd.no-memory" };
const PIN: Failure = Failure { arm: TestHost::fail_pin, rule: "pin.no-memory" };

/// Runs the sequence with the `n`-th allocation or pin failing, each refused step again afterwards; returns the step
/// that was refused.
fn run(bindings: [Binding; 2], n: u64, failure: &Failure) -> Option<&'static str> {
    let host = TestHost::new();
    for (group, function) in [(1, FUNCTION), (2, Function(8))] {
        host.put_behind(function, IommuInfo { group, ..IOMMU });
    }
    let client = Client::new(&host);
    client.memory(BUFFER, 8, Layout::Scattered);
    client.memory(BUFFER + pages(8), 8, Layout::Contiguous);
    let mut ids = Ids::new(bindings);
    let mut refused = None;
    (failure.arm)(&host, Some(n));
    for (name, step) in STEPS {
        let before = client.state();
        if let Err(refusal) = step(&client, &mut ids) {
            assert!(host.has_failed() && refused.is_none(), "{name} (n = {n}): {refusal}");
            let rule = refusal.rule();
            assert_eq!((rule.errno, rule.name), (Errno::ENOMEM, failure.rule), "{name} (n = {n})");
            assert_eq!(client.state(), before, "{name} (n = {n}) left something behind");
            refused = Some(*name);
            step(&client, &mut ids).unwrap_or_else(|refusal| panic!("{name} again (n = {n}): {refusal}"));
        }
    }
    assert_eq!(host.has_failed(), refused.is_some(), "a failure was not noticed (n = {n})");
    (failure.arm)(&host, None);
    client.close();
    refused
}

/// Runs the sequence until nothing fails any more; which steps were refused, without repetition.
fn run_all(bindings: [Binding; 2], failure: &Failure) -> Vec<&'static str> {
    let mut steps: Vec<_> = (0..).map_while(|n| run(bindings, n, failure)).collect();
    steps.dedup();
    steps
}

/// Devices without an IOMMU, behind one, and one of each, whose IOAS has two page tables then.
const BOTH: [[Binding; 2]; 3] =
    [[Binding::Noiommu, Binding::Noiommu], [BEHIND_IOMMU, BEHIND_IOMMU], [Binding::Noiommu, BEHIND_IOMMU]];

#[test]
fn every_allocation() {
    BOTH.into_iter().for_each(every_allocation_of);
}

fn every_allocation_of(bindings: [Binding; 2]) {
    let refused = run_all(bindings, &ALLOCATION);
    for step in [
        "bind",
        "ALLOW_IOVAS",
        "MAP before ATTACH",
        "ATTACH",
        "MAP after ATTACH",
        "COPY into an IOAS without page table",
        "COPY of several areas into an IOAS with one",
        "HWPT_ALLOC",
        "replace back",
        "share",
        "MAP for both",
    ] {
        assert!(refused.contains(&step), "{step} takes memory, but was never refused it: {refused:?}");
    }
    for step in ["UNMAP", "DESTROY", "DETACH", "unbind", "GET_PA"] {
        assert!(!refused.contains(&step), "{step} takes no memory");
    }
}

#[test]
fn every_pin() {
    let steps = [
        "ATTACH",
        "MAP after ATTACH",
        "COPY of several areas into an IOAS with one",
        "HWPT_ALLOC",
        "replace back",
        "MAP for both",
    ];
    for bindings in BOTH {
        assert_eq!(run_all(bindings, &PIN), steps);
    }
}

#[test]
fn a_context_without_memory() {
    let host = TestHost::new();
    host.fail_allocation(Some(0));
    assert_eq!(Context::new(&host, Kconfig::FULL).err().map(|refusal| refusal.errno()), Some(Errno::ENOMEM));
}
