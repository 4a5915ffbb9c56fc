//! What a device says of itself: the device, its regions, its interrupts.

use uapi::Command;
use uapi::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, VfioDeviceInfo,
    VfioInfoCapHeader, VfioIrqInfo, VfioRegionInfo,
};

use super::regions::{is_mappable, region_offset};
use super::{Opened, PciDevice, vga};
use crate::ctx::CallCtx;
use crate::host::Host;
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

const READ_WRITE: u32 = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_GET_INFO`
    pub(super) fn get_info(&self, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut info: VfioDeviceInfo = args::take(ctx.memory, address, rules::GET_INFO_ARGSZ)?;
        let resettable = self.with_opened(|opened| Ok(opened.resettable))?;
        info.flags = VFIO_DEVICE_FLAGS_PCI | if resettable { VFIO_DEVICE_FLAGS_RESET } else { 0 };
        info.num_regions = VFIO_PCI_NUM_REGIONS;
        info.num_irqs = VFIO_PCI_NUM_IRQS;
        args::reply(ctx.memory, address, &info, info.stated_size())?;
        Ok(0)
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`
    pub(super) fn get_region_info(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        address: u64,
    ) -> Result<u32, Refusal> {
        let mut info: VfioRegionInfo = args::take(ctx.memory, address, rules::REGION_INFO_ARGSZ)?;
        self.with_opened(|opened| {
            (info.size, info.flags) = self.describe_region(host, opened, info.index)?;
            info.offset = region_offset(info.index);
            let table = opened.config.msix_table().map(|(bar, _)| u32::from(bar));
            if info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0 && table == Some(info.index) {
                info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
            }
            Ok(())
        })?;
        if info.flags & VFIO_REGION_INFO_FLAG_CAPS != 0 {
            reply_chain(ctx, address, &mut info)?;
        }
        args::reply(ctx.memory, address, &info, size_of::<VfioRegionInfo>())?;
        Ok(0)
    }

    /// The size of a region, and what can be done with it.
    fn describe_region(&self, host: &H, opened: &Opened<H>, index: u32) -> Result<(u64, u32), Refusal> {
        match index {
            VFIO_PCI_CONFIG_REGION_INDEX => Ok((opened.config.size().into(), READ_WRITE)),
            VFIO_PCI_ROM_REGION_INDEX => {
                Ok(self.readable_rom(host).map_or((0, 0), |(rom, _)| (rom.size, VFIO_REGION_INFO_FLAG_READ)))
            }
            VFIO_PCI_VGA_REGION_INDEX if self.has_vga(host) => Ok((vga::SIZE, READ_WRITE)),
            VFIO_PCI_VGA_REGION_INDEX => Err(rules::REGION_INFO_VGA),
            VFIO_PCI_NUM_REGIONS.. => Err(rules::REGION_INFO_INDEX),
            bar => match u8::try_from(bar).ok().and_then(|bar| host.region(self.function, bar)) {
                None => Ok((0, 0)),
                Some(region) if is_mappable::<H>(region) => {
                    Ok((region.size, READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP))
                }
                Some(region) => Ok((region.size, READ_WRITE)),
            },
        }
    }

    /// `VFIO_DEVICE_GET_IRQ_INFO`
    pub(super) fn get_irq_info(&self, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut info: VfioIrqInfo = args::take(ctx.memory, address, rules::IRQ_INFO_ARGSZ)?;
        if info.index >= VFIO_PCI_NUM_IRQS {
            return Err(rules::IRQ_INFO_INDEX);
        }
        info.count = self.with_opened(|opened| Ok(opened.config.vectors(info.index)))?;
        info.flags = VFIO_IRQ_INFO_EVENTFD
            | match info.index {
                VFIO_PCI_INTX_IRQ_INDEX => VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
                VFIO_PCI_MSIX_IRQ_INDEX if self.options.dynamic_msix && info.count > 0 => 0,
                _ => VFIO_IRQ_INFO_NORESIZE,
            };
        args::reply(ctx.memory, address, &info, size_of::<VfioIrqInfo>())?;
        Ok(0)
    }
}

/// Adds the capability that says that the pages of the MSI-X table can be mapped, if the buffer has room for it; states
/// the size that would do if not.
fn reply_chain<H: Host>(
    ctx: &CallCtx<'_, H>,
    address: u64,
    info: &mut VfioRegionInfo,
) -> Result<(), Refusal> {
    const START: usize = size_of::<VfioRegionInfo>();
    const END: usize = START + size_of::<VfioInfoCapHeader>();
    info.cap_offset = 0;
    if info.stated_size() < END {
        info.argsz = END as u32;
        return Ok(());
    }
    let header = VfioInfoCapHeader { id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE as u16, version: 1, next: 0 };
    args::reply_at(ctx.memory, address, START, &header)?;
    info.cap_offset = START as u32;
    Ok(())
}
