//! RW: eventfds that write to a BAR (`VFIO_DEVICE_IOEVENTFD`).

use sys::{Result, Suite};
use uapi::Command;
use uapi::vfio::*;

use crate::case::{Case, answer, case};
use crate::fixture::{Fixture, Need};
use crate::interrupts::Event;
use crate::outcome::Outcome;
use crate::pci::config;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-276", |f| with(f, |it| it.flags = VFIO_DEVICE_IOEVENTFD_8 | VFIO_DEVICE_IOEVENTFD_16)),
        case("B-277", |f| with(f, |it| it.fd = -1)),
        case("B-278", |f| {
            let device = f.bound_with(Need::Any)?.device;
            let event = Event::new()?;
            register(f, &device, &event, |_| ())?;
            let again = register(f, &device, &event, |_| ());
            register(f, &device, &event, |it| it.fd = -1)?;
            answer(again)
        }),
        case("B-279", |f| with(f, |it| it.offset = config(0))),
        case("B-280", |f| with(f, |it| it.argsz = 27)),
    ]
}

/// The call for a register of the first BAR, with one change.
fn with<S: Suite>(f: &Fixture<S>, change: fn(&mut VfioDeviceIoeventfd)) -> Outcome {
    answer(register(f, &f.bound_with(Need::Any)?.device, &Event::new()?, change))
}

fn register<S: Suite>(
    f: &Fixture<S>,
    device: &S::File,
    event: &Event,
    change: fn(&mut VfioDeviceIoeventfd),
) -> Result<u32> {
    let flags = VFIO_DEVICE_IOEVENTFD_32;
    let mut argument =
        VfioDeviceIoeventfd { flags, offset: 0x10, fd: event.fd(), ..VfioDeviceIoeventfd::new() };
    change(&mut argument);
    f.call(device, &mut argument)
}
