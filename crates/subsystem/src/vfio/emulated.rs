//! Emulated devices: their drivers answer for them, and reach the user's memory for them in software.
//!
//! To its user such a device looks like a PCI function, as mediated devices mostly do, with configuration space and BARs, and
//! without interrupts. There is nothing to be mapped.
//!
//! Source: Linux 7.3, `include/linux/vfio.h` and `drivers/vfio/vfio_main.c` as observed, and
//! `Documentation/driver-api/vfio-mediated-device.rst`.

use uapi::Command as _;
use uapi::vfio::{
    VFIO_DEVICE_FEATURE, VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 as MIG_PRECOPY,
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS, VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, VfioDeviceInfo,
    VfioIrqInfo, VfioRegionInfo,
};

use super::args;
use super::pci::feature;
use super::pci::regions::{region_at, region_offset};
use super::set::{Hold, Opened};
use crate::ctx::CallCtx;
use crate::host::{Function, Host, Transfer};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::Tables;

/// A device that its driver emulates.
pub(crate) struct EmulatedDevice {
    function: Function,
}

/// What a driver asks for.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    /// Pages, pinned.
    Pin {
        pages: u64,
        write: bool,
    },
    /// That they be pinned no longer.
    Unpin {
        pages: u64,
    },
    Transfer(Transfer<'a>),
}

/// Does what the driver of an open device asks for, at an IOVA; for pages that is a multiple of their size.
pub(crate) fn serve<H: Host>(
    tables: &Tables<H>,
    host: &H,
    function: Function,
    iova: u64,
    request: Request<'_>,
) -> Result<(), Refusal> {
    let device = tables.device_of(function).ok_or(rules::EMULATED_CLOSED)?;
    device.set.with(|slot| match slot {
        Some(Opened { hold: Hold::Binding(binding), .. }) => {
            let context = &tables.context(binding.context)?.object;
            match request {
                Request::Pin { pages, write } => context.pin_pages(host, binding.object, iova, pages, write),
                Request::Unpin { pages } => {
                    context.unpin_pages(host, binding.object, iova, pages);
                    Ok(())
                }
                Request::Transfer(bytes) => context.transfer(host, binding.object, iova, bytes),
            }
        }
        Some(Opened { hold: Hold::Container(number), .. }) => {
            tables.container(*number)?.object.serve(host, function, iova, request)
        }
        Some(Opened { hold: Hold::Nothing, .. }) | None => Err(rules::EMULATED_CLOSED),
    })
}

impl EmulatedDevice {
    /// A device of this number.
    pub(super) fn new(function: Function) -> Self {
        EmulatedDevice { function }
    }

    pub(super) fn ioctl<H: Host>(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        command: u32,
        address: u64,
    ) -> Result<u32, Refusal> {
        match command {
            VFIO_DEVICE_GET_INFO => self.get_info(ctx, address),
            VFIO_DEVICE_GET_REGION_INFO => self.get_region_info(host, ctx, address),
            VFIO_DEVICE_GET_IRQ_INFO => self.get_irq_info(ctx, address),
            VFIO_DEVICE_SET_IRQS => Err(rules::SET_IRQS_EMULATED),
            VFIO_DEVICE_RESET => {
                self.reset(host);
                Ok(0)
            }
            VFIO_DEVICE_FEATURE => match feature::take(ctx, address)?.flags & VFIO_DEVICE_FEATURE_MASK {
                MIG_PRECOPY => Err(rules::FEATURE_PRECOPY),
                _ => Err(rules::FEATURE_UNKNOWN),
            },
            _ => Err(rules::UNKNOWN_COMMAND),
        }
    }

    pub(super) fn reset<H: Host>(&self, host: &H) {
        host.emulated_reset(self.function);
    }

    fn get_info<H: Host>(&self, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut info: VfioDeviceInfo = args::take(ctx.memory, address, rules::GET_INFO_ARGSZ)?;
        info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
        info.num_regions = VFIO_PCI_NUM_REGIONS;
        info.num_irqs = VFIO_PCI_NUM_IRQS;
        args::reply(ctx.memory, address, &info, VfioDeviceInfo::MIN_SIZE)?;
        Ok(0)
    }

    fn get_region_info<H: Host>(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut info: VfioRegionInfo = args::take(ctx.memory, address, rules::REGION_INFO_ARGSZ)?;
        if info.index >= VFIO_PCI_NUM_REGIONS {
            return Err(rules::REGION_INFO_INDEX);
        }
        info.size = host.emulated_region(self.function, info.index);
        info.offset = region_offset(info.index);
        info.flags = match info.size {
            0 => 0,
            _ => VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
        };
        args::reply(ctx.memory, address, &info, size_of::<VfioRegionInfo>())?;
        Ok(0)
    }

    fn get_irq_info<H: Host>(&self, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut info: VfioIrqInfo = args::take(ctx.memory, address, rules::IRQ_INFO_ARGSZ)?;
        if info.index >= VFIO_PCI_NUM_IRQS {
            return Err(rules::IRQ_INFO_INDEX);
        }
        (info.flags, info.count) = (0, 0);
        args::reply(ctx.memory, address, &info, size_of::<VfioIrqInfo>())?;
        Ok(0)
    }

    pub(super) fn read<H: Host>(&self, host: &H, offset: u64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (index, mut at) = self.place(host, offset, bytes.len())?;
        let length = bytes.len();
        let mut rest = bytes;
        while let Some((now, later)) =
            width(at, rest.len()).and_then(|width| rest.split_at_mut_checked(width))
        {
            let value = host.emulated_read(self.function, index, at, now.len() as u8);
            now.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
        Ok(length)
    }

    pub(super) fn write<H: Host>(&self, host: &H, offset: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (index, mut at) = self.place(host, offset, bytes.len())?;
        let mut rest = bytes;
        while let Some((now, later)) = width(at, rest.len()).and_then(|width| rest.split_at_checked(width)) {
            let mut value = [0; 4];
            value.iter_mut().zip(now).for_each(|(into, byte)| *into = *byte);
            host.emulated_write(self.function, index, at, now.len() as u8, u32::from_le_bytes(value));
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
        Ok(bytes.len())
    }

    /// The region that an access is in, as a whole, and how far in it starts.
    fn place<H: Host>(&self, host: &H, offset: u64, length: usize) -> Result<(u32, u64), Refusal> {
        let (index, at) = region_at(offset);
        let size = match index {
            0..VFIO_PCI_NUM_REGIONS => host.emulated_region(self.function, index),
            _ => 0,
        };
        match at.checked_add(length as u64) {
            _ if size == 0 => Err(rules::REGION_INDEX),
            Some(end) if end <= size => Ok((index, at)),
            _ => Err(rules::BAR_BOUNDS),
        }
    }
}

/// How wide the next cycle of an access is: as its alignment allows. `None` where nothing is left.
fn width(at: u64, left: usize) -> Option<usize> {
    [4, 2, 1].into_iter().find(|&width| width <= left && at.is_multiple_of(width as u64))
}
