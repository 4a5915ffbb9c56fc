//! `VFIO_DEVICE_IOEVENTFD`: register writes on an eventfd, of which only the refusals are built.

use uapi::vfio::{
    VFIO_DEVICE_IOEVENTFD_8, VFIO_DEVICE_IOEVENTFD_16, VFIO_DEVICE_IOEVENTFD_32, VFIO_DEVICE_IOEVENTFD_64,
    VfioDeviceIoeventfd,
};

use super::PciDevice;
use super::regions::region_at;
use crate::ctx::CallCtx;
use crate::host::Host;
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_IOEVENTFD`
    pub(super) fn ioeventfd(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let argument: VfioDeviceIoeventfd = args::take(ctx.memory, address, rules::IOEVENTFD_ARGSZ)?;
        let width = match argument.flags {
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
        let (index, bar) = self.bar(host, index).map_err(|_| rules::IOEVENTFD_BAR)?;
        let end = at.saturating_add(width);
        if end > bar.size {
            return Err(rules::IOEVENTFD_BOUNDS);
        }
        let table = self.with_opened(|opened| Ok(opened.config.msix_table()))?;
        if table.is_some_and(|(table, range)| table == index && at < range.end && end > range.start) {
            return Err(rules::IOEVENTFD_TABLE);
        }
        Err(if argument.fd == -1 { rules::IOEVENTFD_UNKNOWN } else { rules::IOEVENTFD_NOT_BUILT })
    }
}
