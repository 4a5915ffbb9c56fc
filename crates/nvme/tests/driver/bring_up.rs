//! Bring-up and what the controller says of itself.

use ioasis::Mode;
use machine::{DeviceSpec, Machine, MachineSpec, ModelSpec};
use nvme::{Completions, Controller, Error};

use crate::common::*;

#[test]
fn a_controller_comes_up_in_every_layout() {
    for layout in LAYOUTS {
        for thread in [false, true] {
            let machine = machine(layout, thread);
            let (controller, _) = bring_up(&machine, 0);
            assert_eq!(controller.device().mode(), Mode::IommufdNoiommu);
            assert_eq!(machine.findings(), []);
        }
    }
}

#[test]
fn it_says_what_it_is() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let info = controller.info();
    assert_eq!((info.version, info.vendor), ((1, 4, 0), 0x1b36));
    assert_eq!(info.serial, format!("ioasis-{ADDRESS}"));
    assert_eq!((info.max_depth, info.queues, info.max_transfer), (1024, 16, 2 << 20));
    assert!(info.volatile_write_cache);
    assert_eq!((namespace.id, namespace.blocks, namespace.block_size), (1, 16384, 512));
    assert_eq!(controller.namespaces().unwrap().len(), 1);
}

#[test]
fn another_kind_of_device_is_refused() {
    let edu = DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Edu);
    let machine = Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() }).unwrap();
    let error = Controller::new(open(&machine, ADDRESS), 0).err().unwrap();
    assert!(matches!(error, Error::NotNvme { class: 0x00_ff_00, .. }), "{error}");
    assert!(error.to_string().starts_with("0000:01:00.0 is not an NVMe controller"), "{error}");
}

#[test]
fn queues_are_as_deep_as_asked() {
    let machine = machine(machine::LayoutKind::Scattered, false);
    let (controller, _) = bring_up(&machine, 0);
    for depth in [2, 3, 63, 64, 65, 256, 257, 1024] {
        let queue = controller.queue(depth, Completions::Polled).unwrap();
        assert_eq!((queue.room(), queue.under_way()), (usize::from(depth) - 1, 0));
    }
    for depth in [0, 1, 1025, u16::MAX] {
        let error = controller.queue(depth, Completions::Polled).err().unwrap().to_string();
        assert!(error.ends_with(&format!("a queue of depth {depth} was asked for; 2 to 1024 are possible")));
    }
}

#[test]
fn queues_that_go_make_place_for_others() {
    let machine = plain();
    let (controller, _) = bring_up(&machine, 2);
    for _ in 0..40 {
        controller.queue(8, Completions::Interrupt).unwrap();
    }
    let mut queues: Vec<_> = (0..16)
        .map(|n| {
            controller.queue(8, if n < 2 { Completions::Interrupt } else { Completions::Polled }).unwrap()
        })
        .collect();
    let error = controller.queue(8, Completions::Polled).err().unwrap().to_string();
    assert_eq!(error, "0000:01:00.0: all I/O queue pairs of the controller are in use");
    queues.pop();
    let error = controller.queue(8, Completions::Interrupt).err().unwrap().to_string();
    assert_eq!(error, "0000:01:00.0: no MSI-X vector is left; ask for more in Controller::new");
    controller.queue(8, Completions::Polled).unwrap();
}

#[test]
fn more_vectors_than_there_are_is_an_error() {
    let machine = plain();
    let error = Controller::new(open(&machine, ADDRESS), 33).err().unwrap().to_string();
    assert_eq!(error, "0000:01:00.0 offers 32 MSI-X vectors, and 33 were asked for");
}
