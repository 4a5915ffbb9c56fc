//! Each allocation, and each pin, of each step fails in turn; the state is as before then, and the step works after all.

use subsystem::{FileId, Function, NodeKind, Refusal, Subsystem};
use uapi::Command;
use uapi::vfio::{VFIO_PCI_MSIX_IRQ_INDEX, VFIO_TYPE1v2_IOMMU, VfioIommuType1DmaMap};

use crate::client::{Client, PARAMETERS, device_node, machine, state};
use crate::support::function::TestFunction;
use crate::support::host::TestHost;
use crate::support::memory::Layout;

const BUFFER: u64 = 0x4000_0000;

/// Prepares and takes a step on a new machine each time, of which the first, the second, … allocation fails, until none
/// is left that could. The rules that were broken.
fn fail_each<T, R>(
    prepare: impl Fn(&mut Client<'_>) -> T,
    step: impl Fn(&mut Client<'_>, &T) -> Result<R, Refusal>,
) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for n in 0.. {
        let vfio = machine(&[]);
        let mut client = Client::new(&vfio);
        let prepared = prepare(&mut client);
        let before = state(&vfio);
        vfio.host().fail_allocation(Some(n));
        let result = step(&mut client, &prepared);
        let failed = vfio.host().has_failed();
        vfio.host().fail_allocation(None);
        let Err(refusal) = result else {
            assert!(!failed, "allocation {n} failed and the step did not");
            return broken;
        };
        assert!(failed, "{refusal:?}");
        assert_eq!(refusal.errno(), uapi::Errno::ENOMEM);
        assert_eq!(state(&vfio), before, "allocation {n}");
        assert!(step(&mut client, &prepared).is_ok(), "allocation {n}");
        broken.push(refusal.rule().name);
    }
    unreachable!("some attempt succeeds")
}

fn add(client: &mut Client<'_>) -> Function {
    client.vfio.host().add_function(TestFunction::express())
}

/// A device that is open, and `/dev/iommu`.
fn open(client: &mut Client<'_>) -> (FileId, FileId, i32) {
    let function = add(client);
    client.vfio.probe(function).expect("probe");
    let (iommufd, fd) = client.iommufd();
    (client.open(0), iommufd, fd)
}

/// A device that is bound, and an IOAS with 4 pages mapped.
fn bind(client: &mut Client<'_>) -> (FileId, FileId, u32) {
    let (device, iommufd, fd) = open(client);
    client.bind(device, fd).expect("bind");
    let ioas = client.ioas(iommufd);
    client.vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
    client.map(iommufd, ioas, BUFFER, 0, 4 * 4096);
    (device, iommufd, ioas)
}

#[test]
fn probe() {
    let broken = fail_each(add, |client, function| client.vfio.probe(*function));
    assert_eq!(
        broken.iter().filter(|rule| **rule == "probe.node").count(),
        3,
        "iommu_group, group and device: {broken:?}"
    );
    assert!(broken.contains(&"vfio.no-memory"));
}

#[test]
fn a_probe_that_failed_is_not_in_the_log() {
    let vfio = machine(&[]);
    let function = vfio.host().add_function(TestFunction::express());
    vfio.host().fail_allocation(Some(3));
    assert!(vfio.probe(function).is_err());
    assert_eq!(vfio.host().bus(|bus| (bus.taint, bus.log.len())), (0, 0));
}

#[test]
fn opening() {
    let probe = |client: &mut Client<'_>| {
        let function = add(client);
        client.vfio.probe(function).expect("probe");
        device_node(client.vfio, Function(0)).expect("a node").kind
    };
    assert!(!fail_each(probe, |client, node| client.open_node(*node)).is_empty());
    assert!(
        fail_each(|_| {}, |client, ()| client.open_node(NodeKind::Iommufd)).len() >= 3,
        "tables and view"
    );
}

#[test]
fn binding() {
    let broken = fail_each(open, |client, (device, _, fd)| client.bind(*device, *fd));
    assert!(broken.contains(&"vfio.no-memory"), "the shadow of configuration space: {broken:?}");
}

#[test]
fn attaching() {
    assert!(!fail_each(bind, |client, (device, _, ioas)| client.attach(*device, *ioas)).is_empty());
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (device, iommufd, ioas) = bind(&mut client);
    let before = state(&vfio);
    vfio.host().fail_pin(Some(0));
    assert!(client.attach(device, ioas).is_err());
    vfio.host().fail_pin(None);
    assert_eq!(state(&vfio), before);
    assert!(client.physical(iommufd, ioas, 0).is_err());
    assert!(client.attach(device, ioas).is_ok());
}

#[test]
fn making_a_fault_queue() {
    // The next file needs room of its own.
    let iommufd = |client: &mut Client<'_>| (0..64).map(|_| client.iommufd().0).last().expect("64 files");
    let mut broken = fail_each(iommufd, |client, iommufd| client.fault_queue(*iommufd));
    broken.dedup();
    assert_eq!(
        broken,
        ["iommufd.no-memory", "vfio.no-memory", "iommufd.no-memory"],
        "the object, the file and the descriptor"
    );
}

#[test]
fn making_a_page_table_with_a_fault_queue() {
    let queued = |client: &mut Client<'_>| {
        let (_, iommufd, ioas) = bind(client);
        (iommufd, ioas, client.fault_queue(iommufd).expect("a fault queue").0)
    };
    let broken = fail_each(queued, |client, &(iommufd, ioas, queue)| {
        let made = client.faulting_hwpt(iommufd, (1, ioas), queue);
        // The queue is not held by a page table that was not made.
        if made.is_err() {
            let rule = client.destroy(iommufd, queue).expect_err("its file is open").rule();
            assert_eq!(rule.name, "destroy.queue-open");
        }
        made
    });
    assert!(!broken.is_empty());
}

#[test]
fn interrupts() {
    let with_event = |client: &mut Client<'_>| (bind(client).0, client.eventfd().1);
    let broken = fail_each(with_event, |client, (device, event)| {
        client.set_events(*device, VFIO_PCI_MSIX_IRQ_INDEX, 0, &[*event; 4])
    });
    assert_eq!(broken.len(), 2, "the data and the targets");
}

#[test]
fn emulated_devices() {
    let added = |client: &mut Client<'_>| client.vfio.host().add_emulated();
    let broken = fail_each(added, |client, function| client.vfio.register_emulated(*function));
    assert_eq!(broken.iter().filter(|rule| **rule == "probe.node").count(), 3, "{broken:?}");
    let open = |client: &mut Client<'_>| {
        let function = added(client);
        client.vfio.register_emulated(function).expect("a device");
        client.vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
        let (iommufd, fd) = client.iommufd();
        (function, client.open(function.0), iommufd, fd)
    };
    assert!(!fail_each(open, |client, (_, device, _, fd)| client.bind(*device, *fd)).is_empty());
    let bound = |client: &mut Client<'_>| {
        let (function, device, iommufd, fd) = open(client);
        client.bind(device, fd).expect("bind");
        let ioas = client.ioas(iommufd);
        client.map(iommufd, ioas, BUFFER, 0, 2 * 4096);
        client.map(iommufd, ioas, BUFFER, 2 * 4096, 2 * 4096);
        (function, device, ioas)
    };
    assert!(!fail_each(bound, |client, (_, device, ioas)| client.attach(*device, *ioas)).is_empty());
    let attached = |client: &mut Client<'_>| {
        let (function, device, ioas) = bound(client);
        client.attach(device, ioas).expect("attach");
        function
    };
    // Across two mappings: what was pinned of the first goes when the second cannot be.
    let broken = fail_each(attached, |client, function| client.vfio.pin_pages(*function, 4096, 2, true));
    assert!(broken.len() >= 3, "{broken:?}");
    for n in 0..2 {
        let vfio = machine(&[]);
        let function = attached(&mut Client::new(&vfio));
        let before = state(&vfio);
        vfio.host().fail_pin(Some(n));
        assert_eq!(vfio.pin_pages(function, 4096, 2, true).map_err(Refusal::errno), Err(uapi::Errno::ENOMEM));
        assert_eq!(state(&vfio), before);
    }
}

#[test]
fn emulated_devices_of_a_container() {
    let joined = |client: &mut Client<'_>| {
        let vfio = client.vfio;
        let function = vfio.host().add_emulated();
        vfio.register_emulated(function).expect("a device");
        vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
        let group = client.open_group(0).expect("the group");
        let (container, fd) = client.container();
        (function, group, container, fd)
    };
    let join = |client: &mut Client<'_>, &(_, group, _, fd): &_| client.set_container(group, fd);
    assert!(!fail_each(joined, join).is_empty());
    let open = |client: &mut Client<'_>| {
        let (function, group, container, fd) = joined(client);
        client.set_container(group, fd).expect("join");
        client.set_iommu(container, VFIO_TYPE1v2_IOMMU).expect("type1");
        let mut map = VfioIommuType1DmaMap { flags: 3, vaddr: BUFFER, size: 4 * 4096, ..Command::new() };
        client.call(container, &mut map).expect("MAP_DMA");
        (function, group)
    };
    let give_out = |client: &mut Client<'_>, (_, group): &_| client.device_of(*group, "emulated-0");
    assert!(fail_each(open, give_out).len() >= 3, "the file, the descriptor, and the list of open devices");
    let given = |client: &mut Client<'_>| {
        let (function, group) = open(client);
        client.device_of(group, "emulated-0").expect("the device");
        function
    };
    let broken = fail_each(given, |client, function| client.vfio.pin_pages(*function, 4096, 2, true));
    assert!(broken.len() >= 2, "{broken:?}");
}

#[test]
fn the_nodes_that_are_always_there() {
    for n in 0..2 {
        let host = TestHost::new();
        host.fail_allocation(Some(n));
        assert!(Subsystem::new(host, PARAMETERS).is_err());
    }
}
