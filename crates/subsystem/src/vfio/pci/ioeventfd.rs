//! `VFIO_DEVICE_IOEVENTFD`: a register that is written when an eventfd is signalled.

use uapi::Errno;
use uapi::vfio::{
    VFIO_DEVICE_IOEVENTFD_8, VFIO_DEVICE_IOEVENTFD_16, VFIO_DEVICE_IOEVENTFD_32, VFIO_DEVICE_IOEVENTFD_64,
    VfioDeviceIoeventfd,
};

use super::PciDevice;
use super::regions::{Place, region_at};
use crate::ctx::CallCtx;
use crate::host::{Function, Host, Watch};
use crate::mem::{IdError, IdMap};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

/// How many a device has at most.
const MOST: u32 = 1000;

/// The writes of a device, by number.
pub(super) struct Writes(IdMap<Write>);

/// What is written, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Write {
    bar: u8,
    at: u64,
    /// In bytes.
    width: u8,
    data: u64,
}

impl Writes {
    /// None.
    pub(super) const fn new() -> Self {
        Writes(IdMap::new(0, MOST - 1))
    }

    /// Takes all of them away.
    pub(super) fn clear<H: Host>(&mut self, host: &H, function: Function) {
        self.0.iter().for_each(|(number, _)| host.watch(function, Watch::Write(number), None));
        *self = Writes::new();
    }

    fn find(&self, write: Write) -> Option<u32> {
        self.0.iter().find(|(_, other)| **other == write).map(|(number, _)| number)
    }
}

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_IOEVENTFD`
    pub(super) fn ioeventfd(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let argument: VfioDeviceIoeventfd = args::take(ctx.memory, address, rules::IOEVENTFD_ARGSZ)?;
        let width: u8 = match argument.flags {
            VFIO_DEVICE_IOEVENTFD_8 => 1,
            VFIO_DEVICE_IOEVENTFD_16 => 2,
            VFIO_DEVICE_IOEVENTFD_32 => 4,
            VFIO_DEVICE_IOEVENTFD_64 => 8,
            _ => return Err(rules::IOEVENTFD_FLAGS),
        };
        if argument.fd < -1 {
            return Err(rules::IOEVENTFD_FD);
        }
        let (index, at) = region_at(argument.offset);
        let (bar, region) = self.bar(host, index).map_err(|_| rules::IOEVENTFD_BAR)?;
        let end = at.saturating_add(width.into());
        if end > region.size {
            return Err(rules::IOEVENTFD_BOUNDS);
        }
        self.with_opened(|opened| {
            let table = opened.config.msix_table();
            if table.is_some_and(|(table, range)| table == bar && at < range.end && end > range.start) {
                return Err(rules::IOEVENTFD_TABLE);
            }
            let write = Write { bar, at, width, data: argument.data };
            match (opened.writes.find(write), argument.fd) {
                (Some(number), -1) => {
                    host.watch(self.function, Watch::Write(number), None);
                    opened.writes.0.remove(number);
                }
                (Some(_), _) => return Err(rules::IOEVENTFD_EXISTS),
                (None, -1) => return Err(rules::IOEVENTFD_UNKNOWN),
                (None, fd) => {
                    opened.writes.0.reserve(host).map_err(|error| match error {
                        IdError::Exhausted => rules::IOEVENTFD_MOST,
                        IdError::OutOfMemory => rules::NO_MEMORY,
                    })?;
                    let event = ctx.files.event(fd).map_err(|error| match error {
                        Errno::EBADF => rules::IOEVENTFD_FD_CLOSED,
                        _ => rules::IOEVENTFD_NOT_EVENTFD,
                    })?;
                    let number = opened.writes.0.insert(host, write).map_err(|_| rules::NO_MEMORY)?;
                    host.watch(self.function, Watch::Write(number), Some(event));
                }
            }
            Ok(0)
        })
    }

    /// The eventfd of a write was signalled. Where nothing answers, the write is lost, as one of the CPU would be.
    pub(crate) fn write_event(&self, host: &H, number: u32) {
        let _lost = self.with_opened(|opened| {
            let Write { bar, at, width, data } =
                *opened.writes.0.get(number).ok_or(rules::IOEVENTFD_UNKNOWN)?;
            let (index, region) = self.bar(host, bar.into())?;
            let place = Place { index, region, hidden: 0..0 };
            let bytes = data.to_le_bytes();
            self.region_write(host, place, at, bytes.get(..width.into()).unwrap_or(&bytes))
        });
    }
}
