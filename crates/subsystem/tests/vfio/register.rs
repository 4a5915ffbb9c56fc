//! Registration: names, indices, groups, taint, and removal.

use subsystem::kconfig::Tristate;
use subsystem::{
    Function, IommuInfo, Kconfig, Level, ModuleParameters, Node, NodeKind, Parameters, Slept, Subsystem,
    Symbol, Usage,
};

use crate::client::{Client, PARAMETERS, assert_refused, device_node, machine, state, take};
use crate::support::function::TestFunction;
use crate::support::host::TestHost;
use crate::support::iommu::IOMMU;

fn index_of(vfio: &crate::client::Vfio, function: u32) -> Option<(u32, bool)> {
    match device_node(vfio, Function(function))?.kind {
        NodeKind::Device { index, noiommu, .. } => Some((index, noiommu)),
        _ => None,
    }
}

fn without(symbol: Symbol) -> Kconfig {
    Kconfig::FULL.with(&[(symbol, Tristate::N)]).unwrap()
}

#[test]
fn b001_b015_b018_b591_the_nodes_of_a_device_without_an_iommu() {
    let vfio = machine(&[TestFunction::express()]);
    let nodes = vfio.host().bus(|bus| bus.nodes.clone());
    let function = Function(0);
    let expected = [
        Node { kind: NodeKind::Iommufd, mode: 0o660 },
        Node { kind: NodeKind::Container, mode: 0o666 },
        Node { kind: NodeKind::Group { minor: 0, group: 0, noiommu: true }, mode: 0o600 },
        Node { kind: NodeKind::Device { function, index: 0, noiommu: true }, mode: 0o600 },
    ];
    assert_eq!(nodes, expected);
}

#[test]
fn b004_b006_without_the_parameter_the_probe_fails_and_nothing_is_left() {
    let parameters = Parameters { modules: ModuleParameters::DEFAULT, ..PARAMETERS };
    let vfio = Subsystem::new(TestHost::new(), parameters).unwrap();
    let function = vfio.host().add_function(TestFunction::express());
    let before = state(&vfio);
    assert_refused!(vfio.probe(function), EINVAL, "probe.no-iommu");
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = true);
    assert_eq!(state(&vfio), before);
    assert_eq!(vfio.host().bus(|bus| (bus.taint, bus.log.len())), (0, 0));
    vfio.probe(function).unwrap();
    assert_eq!(index_of(&vfio, 0), Some((0, true)));
}

#[test]
fn a_kernel_without_noiommu_ignores_the_parameter() {
    let kconfig = without(Symbol::VfioNoiommu);
    let vfio = Subsystem::new(TestHost::new(), Parameters { kconfig, ..PARAMETERS }).unwrap();
    let function = vfio.host().add_function(TestFunction::express());
    assert_refused!(vfio.probe(function), EINVAL, "probe.no-iommu");
}

#[test]
fn b007_turning_the_parameter_off_changes_no_registered_device() {
    let vfio = machine(&[TestFunction::express()]);
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = false);
    let (mut client, device) = Client::bound(&vfio);
    let (iommufd, fd) = client.iommufd();
    let other = client.open(0);
    assert_refused!(client.bind(other, fd), EINVAL, "bind.device-open");
    vfio.release(device);
    client.bind(other, fd).unwrap();
    let ioas = client.ioas(iommufd);
    client.attach(other, ioas).unwrap();
    assert_eq!(index_of(&vfio, 0), Some((0, true)));
}

#[test]
fn b008_b010_b013_the_taint_and_its_lines() {
    let vfio = machine(&[TestFunction::express()]);
    let group = "Warn 0: Adding kernel taint for vfio-noiommu group on device";
    let cdev = "Warn 0: Adding kernel taint for vfio-noiommu cdev";
    assert_eq!(vfio.host().bus(|bus| (bus.taint, bus.log.clone())), (64, vec![group.into(), cdev.into()]));
    Client::bound(&vfio);
    assert_eq!(vfio.host().bus(|bus| bus.log.len()), 2, "opening and binding say nothing");

    let kconfig = without(Symbol::VfioGroup);
    let vfio = Subsystem::new(TestHost::new(), Parameters { kconfig, ..PARAMETERS }).unwrap();
    vfio.probe(vfio.host().add_function(TestFunction::express())).unwrap();
    assert_eq!(vfio.host().bus(|bus| bus.log.clone()), [cdev]);
    assert_eq!(vfio.host().bus(|bus| bus.nodes.len()), 2, "neither group nor container");
}

#[test]
fn b016_b017_b585_indices_are_shared_and_the_lowest_free_one_is_taken() {
    let behind_iommu = TestFunction { iommu: Some(IOMMU), ..TestFunction::express() };
    let vfio = machine(&[TestFunction::express(), behind_iommu, TestFunction::conventional()]);
    assert_eq!(index_of(&vfio, 0), Some((0, true)));
    assert_eq!(index_of(&vfio, 1), Some((1, false)));
    assert_eq!(index_of(&vfio, 2), Some((2, true)));
    vfio.remove(Function(1));
    vfio.remove(Function(0));
    vfio.probe(Function(1)).unwrap();
    vfio.probe(Function(0)).unwrap();
    assert_eq!(index_of(&vfio, 1), Some((0, false)));
    assert_eq!(index_of(&vfio, 0), Some((1, true)));
}

#[test]
fn b027_a_bridge_is_refused() {
    let vfio = machine(&[]);
    let bridge = vfio.host().add_function(TestFunction::bridge());
    assert_refused!(vfio.probe(bridge), EINVAL, "probe.bridge");
    assert_eq!(vfio.usage(), Usage::default());
}

#[test]
fn a_function_has_one_driver() {
    let vfio = machine(&[TestFunction::express()]);
    let before = state(&vfio);
    assert_refused!(vfio.probe(Function(0)), EBUSY, "probe.twice");
    assert_eq!(state(&vfio), before);
    vfio.remove(Function(0));
    vfio.remove(Function(0));
    assert_eq!(vfio.usage(), Usage::default());
}

#[test]
fn removal_without_users_waits_for_nobody() {
    let vfio = machine(&[TestFunction::express()]);
    vfio.remove(Function(0));
    assert_eq!(vfio.host().bus(|bus| bus.nodes.len()), 2, "those that are always there");
    assert_eq!(vfio.usage(), Usage::default());
}

#[test]
fn b043_b584_removal_waits_for_a_file_that_was_never_bound() {
    let vfio = machine(&[TestFunction::express()]);
    let client = Client::new(&vfio);
    let file = client.open(0);
    let (machine, other) = (vfio.clone(), vfio.clone());
    vfio.host().during_sleep(move || {
        assert_eq!(device_node(&machine, Function(0)), None, "the node goes first");
        let group = machine
            .host()
            .bus(|bus| bus.nodes.iter().any(|node| matches!(node.kind, NodeKind::Group { .. })));
        assert!(group, "the group goes with the device");
        Slept::Over
    });
    vfio.host().during_sleep(move || {
        other.release(file);
        assert_eq!(other.host().bus(|bus| bus.woken.clone()), [Function(0)]);
        Slept::Over
    });
    vfio.remove(Function(0));
    assert_eq!(vfio.host().bus(|bus| bus.nodes.len()), 2);
    assert_eq!(vfio.usage(), Usage::default());
    let blocked = "Warn 0: No device request channel registered, blocked until released by user";
    let lines = vfio.host().bus(|bus| bus.log.iter().filter(|line| *line == blocked).count());
    assert_eq!(lines, 1, "once, however often it waits");
}

#[test]
fn the_user_is_asked_in_each_round_and_told_of_every_tenth() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (event, fd) = client.eventfd();
    client.set_events(device, uapi::vfio::VFIO_PCI_REQ_IRQ_INDEX, 0, &[fd]).unwrap();
    for round in 1..=12 {
        let (event, machine) = (event.clone(), vfio.clone());
        vfio.host().during_sleep(move || {
            assert_eq!(take(&event), 1, "round {round}");
            if round == 12 {
                machine.release(device);
            }
            Slept::Over
        });
    }
    vfio.remove(Function(0));
    let relayed = vfio.host().bus(|bus| {
        let notice = format!("{:?} 0: Relaying", Level::Notice);
        bus.log.iter().filter(|line| line.starts_with(&notice)).cloned().collect::<Vec<_>>()
    });
    assert_eq!(
        relayed,
        ["Notice 0: Relaying device request to user (#0)", "Notice 0: Relaying device request to user (#10)"]
    );
}

#[test]
fn b587_a_signal_does_not_end_the_wait() {
    let vfio = machine(&[TestFunction::express()]);
    let file = Client::new(&vfio).open(0);
    vfio.host().during_sleep(|| Slept::Interrupted);
    let machine = vfio.clone();
    vfio.host().during_sleep(move || {
        machine.release(file);
        Slept::Over
    });
    vfio.remove(Function(0));
    let blocked = |line: &String| line.contains("blocked until device is released");
    assert_eq!(vfio.host().bus(|bus| bus.log.iter().filter(|line| blocked(line)).count()), 1);
}

#[test]
fn b601_to_b603_a_held_handle_opens_while_the_removal_waits() {
    let vfio = machine(&[TestFunction::conventional()]);
    let node = device_node(&vfio, Function(0)).unwrap().kind;
    let first = Client::new(&vfio).open(0);
    let machine = vfio.clone();
    vfio.host().during_sleep(move || {
        let mut client = Client::new(&machine);
        client.caller.caps.sys_rawio = false;
        assert_refused!(client.open_node(node), EPERM, "open.capability");
        client.caller.caps.sys_rawio = true;
        let second = client.open_node(node).unwrap();
        let (iommufd, fd) = client.iommufd();
        client.bind(second, fd).unwrap();
        machine.release(first);
        assert_eq!(machine.usage().devices, 1, "the second file prolongs the wait");
        machine.release(iommufd);
        let later = machine.clone();
        machine.host().during_sleep(move || {
            later.release(second);
            let client = Client::new(&later);
            assert_refused!(client.open_node(node), ENODEV, "open.unregistered");
            Slept::Over
        });
        Slept::Over
    });
    vfio.remove(Function(0));
    assert_refused!(Client::new(&vfio).open_node(node), ENXIO, "open.no-device");
    assert_eq!(vfio.usage(), Usage::default());
}

#[test]
fn b603_a_function_that_would_be_reset_cannot_be_bound_while_the_removal_waits() {
    let vfio = machine(&[TestFunction::express()]);
    let node = device_node(&vfio, Function(0)).unwrap().kind;
    let first = Client::new(&vfio).open(0);
    let machine = vfio.clone();
    vfio.host().during_sleep(move || {
        let mut client = Client::new(&machine);
        let second = client.open_node(node).unwrap();
        let (iommufd, fd) = client.iommufd();
        assert_refused!(client.bind(second, fd), EAGAIN, "bind.reset-busy");
        for file in [first, second, iommufd] {
            machine.release(file);
        }
        Slept::Over
    });
    vfio.remove(Function(0));
    assert_eq!(vfio.usage(), Usage::default());
}

#[test]
fn b087_a_device_that_is_gone_wins_over_the_capability() {
    let vfio = machine(&[TestFunction::express()]);
    let node = device_node(&vfio, Function(0)).unwrap().kind;
    vfio.remove(Function(0));
    let mut client = Client::new(&vfio);
    client.caller.caps.sys_rawio = false;
    assert_refused!(client.open_node(node), ENXIO, "open.no-device");
}

#[test]
fn a_device_whose_dma_is_not_coherent_is_refused() {
    let vfio = machine(&[]);
    let iommu = Some(IommuInfo { coherent: false, ..IOMMU });
    let function = vfio.host().add_function(TestFunction { iommu, ..TestFunction::express() });
    assert_refused!(vfio.probe(function), EINVAL, "probe.coherency");
    assert_eq!(vfio.usage(), Usage::default());
}
