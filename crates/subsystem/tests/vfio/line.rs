//! The INTx line.

use subsystem::{FileId, Function, IrqKind};
use uapi::vfio::*;

use crate::client::{Client, Vfio, assert_refused, machine, take};
use crate::support::bus::Event;
use crate::support::function::TestFunction;
use crate::support::host::Descriptor;

const INTX: u32 = VFIO_PCI_INTX_IRQ_INDEX;
const BOOL: u32 = VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD: u32 = VFIO_IRQ_SET_DATA_EVENTFD;
const MASK: u32 = VFIO_IRQ_SET_ACTION_MASK;
const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK;
const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;
const DISABLE: u32 = 1 << 10;

/// A bound function whose line is enabled, with its target.
fn enabled(vfio: &Vfio) -> (Client<'_>, FileId, Event) {
    let (mut client, device) = Client::bound(vfio);
    let (event, fd) = client.eventfd();
    client.set_events(device, INTX, 0, &[fd]).unwrap();
    (client, device, event)
}

/// The device asserts or releases its line; the host reports it if it rose and is not disabled.
fn set_level(vfio: &Vfio, level: bool) {
    let told = vfio.host().function(Function(0), |function| {
        let rose = level && function.line == Some(false);
        function.line = Some(level);
        rose && function.command() & DISABLE == 0
    });
    if told {
        vfio.line_event(Function(0));
    }
}

fn masked(vfio: &Vfio) -> bool {
    vfio.host().function(Function(0), |function| function.command() & DISABLE != 0)
}

#[test]
fn b223_b224_nothing_but_enabling_while_disabled() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device) = Client::bound(&vfio);
    for action in [MASK, UNMASK, TRIGGER] {
        assert_refused!(client.irqs(device, INTX, action, (0, 1)), EINVAL, "set-irqs.disabled");
    }
    assert_refused!(client.irqs(device, INTX, TRIGGER, (0, 0)), EINVAL, "set-irqs.disabled");
    let bools = client.set_irqs(device, INTX, BOOL | TRIGGER, (0, 1), &[1]);
    assert_refused!(bools, EINVAL, "set-irqs.disabled");
    assert_refused!(client.set_events(device, INTX, 0, &[]), EINVAL, "set-irqs.line-range");
    assert_refused!(client.set_events(device, INTX, 0, &[99]), EBADF, "set-irqs.fd-closed");
    vfio.line_event(Function(0));
    vfio.watch_event(Function(0), subsystem::Watch::Unmask);
}

#[test]
fn b225_b227_b228_loopback_and_targets() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device, first) = enabled(&vfio);
    assert_eq!(vfio.host().function(Function(0), |function| function.enabled), Some(IrqKind::Line));
    client.irqs(device, INTX, TRIGGER, (0, 1)).unwrap();
    client.set_irqs(device, INTX, BOOL | TRIGGER, (0, 1), &[1]).unwrap();
    client.set_irqs(device, INTX, BOOL | TRIGGER, (0, 1), &[0]).unwrap();
    assert_eq!(take(&first), 2);
    let (second, fd) = client.eventfd();
    client.set_events(device, INTX, 0, &[fd]).unwrap();
    client.irqs(device, INTX, TRIGGER, (0, 1)).unwrap();
    assert_eq!((take(&first), take(&second)), (0, 1));
    client.set_events(device, INTX, 0, &[-1]).unwrap();
    client.irqs(device, INTX, TRIGGER, (0, 1)).unwrap();
    assert_eq!(take(&second), 0);
    client.irqs(device, INTX, TRIGGER, (0, 0)).unwrap();
    assert_eq!(client.set_events(device, INTX, 0, &[-1]), Ok(0), "enabled without a target");
    let data = 0i32.to_le_bytes();
    let mask = client.set_irqs(device, INTX, EVENTFD | MASK, (0, 1), &data);
    assert_refused!(mask, ENOTTY, "set-irqs.action");
    assert_refused!(client.irqs(device, INTX, MASK, (0, 0)), EINVAL, "set-irqs.line-range");
}

#[test]
fn the_line_is_masked_when_it_is_delivered() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device, event) = enabled(&vfio);
    set_level(&vfio, true);
    assert_eq!((take(&event), masked(&vfio)), (1, true));
    set_level(&vfio, false);
    set_level(&vfio, true);
    assert_eq!(take(&event), 0, "masked");
    client.irqs(device, INTX, UNMASK, (0, 1)).unwrap();
    assert_eq!((take(&event), masked(&vfio)), (1, true), "still raised: delivered again");
    set_level(&vfio, false);
    client.irqs(device, INTX, UNMASK, (0, 1)).unwrap();
    assert_eq!((take(&event), masked(&vfio)), (0, false));
    client.set_irqs(device, INTX, BOOL | MASK, (0, 1), &[0]).unwrap();
    assert!(!masked(&vfio));
    client.irqs(device, INTX, MASK, (0, 1)).unwrap();
    set_level(&vfio, true);
    assert_eq!((take(&event), masked(&vfio)), (0, true));
    client.set_irqs(device, INTX, BOOL | UNMASK, (0, 1), &[1]).unwrap();
    assert_eq!(take(&event), 1);
}

#[test]
fn a_line_that_is_raised_already_is_delivered_when_it_is_enabled() {
    let vfio =
        machine(&[TestFunction { can_reset: false, line: Some(true), ..TestFunction::conventional() }]);
    let (_, _, event) = enabled(&vfio);
    assert_eq!((take(&event), masked(&vfio)), (1, true));
}

#[test]
fn b226_b643_an_eventfd_unmasks_the_line() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device, event) = enabled(&vfio);
    let (_, fd) = client.eventfd();
    let null = client.caller.install(Descriptor::File(0));
    let unmask = |fd: i32| client.set_irqs(device, INTX, EVENTFD | UNMASK, (0, 1), &fd.to_le_bytes());
    let installed = || vfio.host().function(Function(0), |function| !function.watches.is_empty());
    assert_refused!(unmask(null), EINVAL, "set-irqs.not-eventfd");
    unmask(fd).unwrap();
    assert!(installed());
    assert_refused!(unmask(fd), EBUSY, "set-irqs.unmask-busy");
    set_level(&vfio, true);
    set_level(&vfio, false);
    assert_eq!((take(&event), masked(&vfio)), (1, true));
    vfio.watch_event(Function(0), subsystem::Watch::Unmask);
    assert!(!masked(&vfio));
    unmask(-1).unwrap();
    assert!(!installed());
    unmask(fd).unwrap();
    client.irqs(device, INTX, TRIGGER, (0, 0)).unwrap();
    assert!(!installed(), "it goes with the line");
}

#[test]
fn the_disable_bit_masks_the_line_and_silences_loopback() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device, event) = enabled(&vfio);
    client.set_config(device, 4, 2, 3 | DISABLE);
    assert!(masked(&vfio));
    client.irqs(device, INTX, TRIGGER, (0, 1)).unwrap();
    set_level(&vfio, true);
    client.irqs(device, INTX, UNMASK, (0, 1)).unwrap();
    assert_eq!((take(&event), masked(&vfio)), (0, true));
    assert_eq!(client.config(device, 4, 2), 3 | DISABLE);
    client.set_config(device, 5, 1, 0);
    assert_eq!(take(&event), 1, "it was raised meanwhile");
    set_level(&vfio, false);
    client.irqs(device, INTX, UNMASK, (0, 1)).unwrap();
    assert!(!masked(&vfio));
}

#[test]
fn a_line_that_is_not_wired_cannot_be_enabled() {
    // The pin is there when the device is opened, and the wire is not when the line is enabled.
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    vfio.host().function(Function(0), |function| function.line = None);
    let (_, fd) = client.eventfd();
    assert_refused!(client.set_events(device, INTX, 0, &[fd]), ENODEV, "set-irqs.no-line");
}
