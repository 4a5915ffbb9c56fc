//! `VFIO_DEVICE_SET_IRQS`, and the eventfds that it is given.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read};
use sys::{Result, Suite};
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::call::ioctl_bytes;
use crate::fixture::Fixture;
use crate::outcome::Way;

/// What `VFIO_DEVICE_SET_IRQS` is asked, without its data.
#[derive(Clone, Copy)]
pub(crate) struct Irqs {
    pub(crate) index: u32,
    pub(crate) flags: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// An action without data.
pub(crate) const TRIGGER: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
/// Eventfds to be signalled.
pub(crate) const TARGETS: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
/// An eventfd that unmasks.
pub(crate) const UNMASK_BY: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;

/// An eventfd.
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> Way<Event> {
        Ok(Event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Its descriptor, as data.
    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// How often it was signalled since it was last asked.
    pub(crate) fn take(&self) -> Way<u64> {
        let mut count = 0u64;
        match read(&self.0, count.as_mut_bytes()) {
            Ok(_) => Ok(count),
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Irqs {
    pub(crate) fn new(index: u32, flags: u32, start: u32, count: u32) -> Self {
        Irqs { index, flags, start, count }
    }
}

impl<S: Suite> Fixture<'_, S> {
    /// `VFIO_DEVICE_SET_IRQS` with a descriptor for each vector.
    pub(crate) fn set_irqs(&self, device: &S::File, irqs: Irqs, fds: &[i32]) -> Result<u32> {
        let argsz = size_of::<VfioIrqSet>() + size_of_val(fds);
        self.set_irqs_sized(device, argsz as u32, irqs, fds)
    }

    /// The same with a size of the caller's choice, no larger than the argument.
    pub(crate) fn set_irqs_sized(
        &self,
        device: &S::File,
        argsz: u32,
        irqs: Irqs,
        fds: &[i32],
    ) -> Result<u32> {
        let Irqs { index, flags, start, count } = irqs;
        let mut argument = VfioIrqSet { argsz, flags, index, start, count }.as_bytes().to_vec();
        argument.extend(fds.as_bytes());
        ioctl_bytes(self.sys, device, VFIO_DEVICE_SET_IRQS, &mut argument)
    }
}
