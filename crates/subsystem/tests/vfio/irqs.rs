//! SET_IRQS: the common checks, messages, and the notices of errors and requests.

use subsystem::{FileId, Function, IrqKind, Parameters, UserMemory};
use uapi::Errno;
use uapi::vfio::*;

use crate::client::{Client, PARAMETERS, Vfio, assert_refused, machine, take};
use crate::support::bus::Event;
use crate::support::function::TestFunction;
use crate::support::function::express::VECTORS;
use crate::support::host::{ARGUMENT, Descriptor, TestHost};

const NONE: u32 = VFIO_IRQ_SET_DATA_NONE;
const BOOL: u32 = VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD: u32 = VFIO_IRQ_SET_DATA_EVENTFD;
const MASK: u32 = VFIO_IRQ_SET_ACTION_MASK;
const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK;
const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;

/// The target of a vector, as the bus knows it.
fn target(vfio: &Vfio, vector: usize) -> Option<Event> {
    vfio.host().function(Function(0), |function| function.vectors[vector].clone())
}

fn enabled(vfio: &Vfio) -> Option<IrqKind> {
    vfio.host().function(Function(0), |function| function.enabled)
}

fn eventfds(client: &mut Client<'_>, count: usize) -> (Vec<Event>, Vec<i32>) {
    (0..count).map(|_| client.eventfd()).unzip()
}

fn disable(client: &Client<'_>, device: FileId, index: u32) {
    client.irqs(device, index, TRIGGER, (0, 0)).unwrap();
}

#[test]
fn b204_to_b213_the_common_checks_in_their_order() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let argument = VfioIrqSet { argsz: 19, flags: 0x40, index: 9, start: 0, count: u32::MAX };
    assert_refused!(client.sized(device, &argument, 19), EINVAL, "set-irqs.argsz");
    assert_refused!(client.sized(device, &argument, 20), EINVAL, "set-irqs.index");
    let argument = VfioIrqSet { index: MSIX, ..argument };
    assert_refused!(client.sized(device, &argument, 20), EINVAL, "set-irqs.wraps");
    let argument = VfioIrqSet { start: 1, count: u32::MAX - 2, ..argument };
    assert_refused!(client.sized(device, &argument, 20), EINVAL, "set-irqs.flags");
    let argument = VfioIrqSet { flags: BOOL | EVENTFD, ..argument };
    assert_refused!(client.sized(device, &argument, 20), EINVAL, "set-irqs.vectors");
    for (start, count) in [(VECTORS, 0), (0, VECTORS + 1), (VECTORS - 1, 2)] {
        let argument = VfioIrqSet { start, count, ..argument };
        assert_refused!(client.sized(device, &argument, 20), EINVAL, "set-irqs.vectors");
    }
    let argument = VfioIrqSet { start: 0, count: 4, ..argument };
    for flags in [0, NONE | BOOL, BOOL | EVENTFD, NONE | EVENTFD] {
        assert_refused!(
            client.sized(device, &VfioIrqSet { flags, ..argument }, 20),
            EINVAL,
            "set-irqs.data-type"
        );
    }
    for (flags, size) in [(EVENTFD, 32), (EVENTFD, 35), (BOOL, 23)] {
        let argument = VfioIrqSet { flags, ..argument };
        assert_refused!(client.sized(device, &argument, size), EINVAL, "set-irqs.data-short");
    }
    for actions in [0, MASK | TRIGGER, MASK | UNMASK | TRIGGER] {
        assert_refused!(client.irqs(device, MSIX, actions, (0, 1)), ENOTTY, "set-irqs.action");
    }
}

#[test]
fn data_that_cannot_be_read() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let at = ARGUMENT + 4096 - 20;
    let argument = VfioIrqSet { argsz: 24, flags: EVENTFD, index: MSIX, start: 0, count: 1 };
    client.caller.write(at, zerocopy::IntoBytes::as_bytes(&argument)).unwrap();
    let result = vfio.ioctl(&client.caller.ctx(), device, VFIO_DEVICE_SET_IRQS, at);
    assert_refused!(result, EFAULT, "argument.fault");
}

#[test]
fn b211_an_index_without_vectors_refuses_everything() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    for index in [VFIO_PCI_INTX_IRQ_INDEX, MSI] {
        assert_refused!(client.irqs(device, index, TRIGGER, (0, 0)), EINVAL, "set-irqs.vectors");
        assert_refused!(client.set_events(device, index, 0, &[-1]), EINVAL, "set-irqs.vectors");
    }
}

#[test]
fn b214_b215_a_target_that_is_no_eventfd_leaves_the_kind_disabled() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, good) = client.eventfd();
    let null = client.caller.install(Descriptor::File(0));
    for (bad, errno) in [(99, Errno::EBADF), (null, Errno::EINVAL)] {
        let result = client.set_events(device, MSIX, 0, &[good, bad, good]);
        assert_eq!(crate::client::refused(result).errno, errno);
        assert_eq!(enabled(&vfio), None);
    }
    client.set_events(device, MSIX, 0, &[good]).unwrap();
    assert_eq!(enabled(&vfio), Some(IrqKind::MsiX));
    assert_refused!(client.set_events(device, MSIX, 0, &[good, 99]), EBADF, "set-irqs.fd-closed");
    assert_eq!(enabled(&vfio), Some(IrqKind::MsiX), "what was enabled before stays so");
    assert!(target(&vfio, 0).is_none(), "without the targets that were touched");
}

#[test]
fn b217_to_b222_enabling_triggering_disabling() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    assert_refused!(client.irqs(device, MSIX, TRIGGER, (0, 0)), EINVAL, "set-irqs.disabled");
    assert_refused!(client.irqs(device, MSIX, TRIGGER, (0, 1)), EINVAL, "set-irqs.disabled");
    assert_refused!(client.set_events(device, MSIX, 0, &[]), ERANGE, "set-irqs.zero");
    let (events, fds) = eventfds(&mut client, 3);
    assert_eq!(client.set_events(device, MSIX, 2, &fds), Ok(0));
    assert!(target(&vfio, 1).is_none());
    for (vector, event) in (2..).zip(&events) {
        assert!(std::sync::Arc::ptr_eq(&target(&vfio, vector).unwrap(), event));
    }
    client.irqs(device, MSIX, TRIGGER, (0, 4)).unwrap();
    assert_eq!(events.iter().map(take).collect::<Vec<_>>(), [1, 1, 0]);
    client.set_irqs(device, MSIX, BOOL | TRIGGER, (2, 3), &[0, 7, 1]).unwrap();
    assert_eq!(events.iter().map(take).collect::<Vec<_>>(), [0, 1, 1]);
    for action in [MASK, UNMASK] {
        assert_refused!(client.irqs(device, MSIX, action, (0, 1)), ENOTTY, "set-irqs.action");
    }
    disable(&client, device, MSIX);
    assert_eq!(enabled(&vfio), None);
    assert_refused!(client.irqs(device, MSIX, TRIGGER, (0, 0)), EINVAL, "set-irqs.disabled");
}

#[test]
fn b217_one_kind_at_a_time() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fds) = eventfds(&mut client, 1);
    client.set_events(device, MSI, 0, &fds).unwrap();
    assert_refused!(
        client.set_events(device, VFIO_PCI_INTX_IRQ_INDEX, 0, &fds),
        EINVAL,
        "set-irqs.other-kind"
    );
    let off = client.irqs(device, VFIO_PCI_INTX_IRQ_INDEX, TRIGGER, (0, 0));
    assert_refused!(off, EINVAL, "set-irqs.other-kind");
    disable(&client, device, MSI);
    client.set_events(device, VFIO_PCI_INTX_IRQ_INDEX, 0, &fds).unwrap();
    assert_refused!(client.set_events(device, MSI, 0, &fds), EINVAL, "set-irqs.other-kind");
}

#[test]
fn b641_b642_vectors_are_added_and_cleared_while_enabled() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (events, fds) = eventfds(&mut client, 2);
    client.set_events(device, MSIX, 0, &fds[..1]).unwrap();
    client.set_events(device, MSIX, 3, &fds[1..]).unwrap();
    client.irqs(device, MSIX, TRIGGER, (3, 1)).unwrap();
    assert_eq!((take(&events[0]), take(&events[1])), (0, 1));
    client.set_events(device, MSIX, 0, &[-1]).unwrap();
    client.irqs(device, MSIX, TRIGGER, (0, 4)).unwrap();
    assert_eq!((take(&events[0]), take(&events[1])), (0, 1));
    assert!(target(&vfio, 0).is_none());
}

#[test]
fn without_dynamic_msix_the_number_of_vectors_is_fixed() {
    let vfio = Vfio::new(TestHost::new(), Parameters { dynamic_msix: false, ..PARAMETERS }).unwrap();
    vfio.probe(vfio.host().add_function(TestFunction::express())).unwrap();
    let (mut client, device) = Client::bound(&vfio);
    let (_, fds) = eventfds(&mut client, 1);
    client.set_events(device, MSIX, 0, &[fds[0], fds[0]]).unwrap();
    assert_refused!(client.set_events(device, MSIX, 2, &fds), EINVAL, "set-irqs.fixed");
    assert_eq!(client.set_events(device, MSIX, 2, &[-1]), Ok(0), "there is nothing to clear");
    assert_eq!(client.set_events(device, MSIX, 1, &fds), Ok(0));
}

#[test]
fn fewer_vectors_than_asked_for() {
    let vfio = machine(&[TestFunction { msix: 5, ..TestFunction::express() }]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fds) = eventfds(&mut client, 1);
    assert_eq!(client.set_events(device, MSIX, 7, &fds), Ok(5));
    assert_eq!(enabled(&vfio), None);
    vfio.host().function(Function(0), |function| function.msix = 0);
    assert_refused!(client.set_events(device, MSIX, 0, &fds), ENOSPC, "set-irqs.no-vectors");
}

#[test]
fn notices_of_errors_and_requests() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let (events, fds) = eventfds(&mut client, 2);
    for index in [VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX] {
        assert_refused!(client.irqs(device, index, TRIGGER, (0, 2)), EINVAL, "set-irqs.vectors");
        for action in [MASK, UNMASK] {
            assert_refused!(client.irqs(device, index, action, (0, 1)), ENOTTY, "set-irqs.action");
        }
        for count in [0, 1] {
            assert_refused!(client.irqs(device, index, TRIGGER, (0, count)), EINVAL, "set-irqs.no-target");
        }
        let bools = |count, data: &[u8]| client.set_irqs(device, index, BOOL | TRIGGER, (0, count), data);
        assert_refused!(bools(0, &[]), EINVAL, "set-irqs.no-count");
        assert_eq!(bools(1, &[1]), Ok(0), "with nobody to be told");
        assert_refused!(client.set_events(device, index, 0, &[]), EINVAL, "set-irqs.no-count");
        assert_refused!(client.set_events(device, index, 0, &[-2]), EINVAL, "set-irqs.target");
        assert_refused!(client.set_events(device, index, 0, &[99]), EBADF, "set-irqs.fd-closed");
        assert_eq!(client.set_events(device, index, 0, &[-1]), Ok(0));
        client.set_events(device, index, 0, &fds[..1]).unwrap();
        client.set_events(device, index, 0, &fds[1..]).unwrap();
        client.irqs(device, index, TRIGGER, (0, 1)).unwrap();
        bools(1, &[1]).unwrap();
        bools(1, &[0]).unwrap();
        assert_eq!((take(&events[0]), take(&events[1])), (0, 2));
        client.irqs(device, index, TRIGGER, (0, 0)).unwrap();
        assert_refused!(client.irqs(device, index, TRIGGER, (0, 1)), EINVAL, "set-irqs.no-target");
    }
}
