//! `VFIO_DEVICE_FEATURE_DMA_BUF`: a part of a BAR as a file of its own, which IOMMUFD maps.

use uapi::Command;
use uapi::vfio::{
    VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MASK,
    VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, VfioDeviceFeature, VfioDeviceFeatureDmaBuf,
    VfioRegionDmaRange,
};

use super::PciDevice;
use super::regions::MemorySpace;
use crate::ctx::CallCtx;
use crate::host::{Function, Host, RegionKind, RwLock as _};
use crate::kconfig::{Kconfig, Symbol};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

/// A part of a BAR that was exported. It can be mapped until it is revoked, which takes what was mapped along: by a reset, D3,
/// memory decoding that is turned off, or low power. It can be mapped again after the reset, a write of the command register or
/// of the power state that lets memory decode, or the end of low power at the user's request. Once the function was closed, it
/// is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) function: Function,
    /// Its bus address: that of its first range.
    pub(crate) address: u64,
    /// The length of all ranges in bytes.
    pub(crate) length: u64,
    /// Whether there is no other range.
    pub(crate) single: bool,
    /// Which opening of the function it belongs to.
    opening: u32,
    /// Which export of that opening it is.
    number: u32,
}

/// Whether a feature argument is about this feature.
pub(crate) fn is_asked<H: Host>(ctx: &CallCtx<'_, H>, address: u64) -> bool {
    let argument = args::head::<VfioDeviceFeature>(ctx.memory, address, size_of::<VfioDeviceFeature>());
    argument.is_ok_and(|it| it.flags & VFIO_DEVICE_FEATURE_MASK == VFIO_DEVICE_FEATURE_DMA_BUF)
}

impl<H: Host> PciDevice<H> {
    /// What is to be exported; `None` if the caller only asks whether it could be. Its flags are known to be flags.
    pub(crate) fn export(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        kconfig: Kconfig,
        address: u64,
    ) -> Result<Option<Export>, Refusal> {
        let argument = super::feature::take(ctx, address)?;
        if !kconfig.has(Symbol::VfioPciDmabuf) {
            return Err(rules::FEATURE_UNKNOWN);
        }
        if argument.flags & VFIO_DEVICE_FEATURE_SET != 0 {
            return Err(rules::FEATURE_DIRECTION);
        }
        if argument.flags & VFIO_DEVICE_FEATURE_PROBE != 0 {
            return Ok(None);
        }
        if argument.flags & VFIO_DEVICE_FEATURE_GET == 0 {
            return Err(rules::FEATURE_NO_ACTION);
        }
        const HEAD: usize = size_of::<VfioDeviceFeature>();
        if argument.stated_size().saturating_sub(HEAD) < size_of::<VfioDeviceFeatureDmaBuf>() {
            return Err(rules::FEATURE_PAYLOAD);
        }
        let wanted: VfioDeviceFeatureDmaBuf = args::take_at(ctx.memory, address, HEAD)?;
        if wanted.nr_ranges == 0 || wanted.flags != 0 {
            return Err(rules::DMA_BUF_FIELDS);
        }
        let (_, bar) = self.bar(host, wanted.region_index).map_err(|_| rules::DMA_BUF_REGION)?;
        let range = |index: u32| -> Result<VfioRegionDmaRange, Refusal> {
            let each = (index as usize).saturating_mul(size_of::<VfioRegionDmaRange>());
            let at = HEAD.saturating_add(size_of::<VfioDeviceFeatureDmaBuf>()).saturating_add(each);
            args::take_at(ctx.memory, address, at)
        };
        let mut length: u64 = 0;
        for index in 0..wanted.nr_ranges {
            let range = range(index)?;
            if range.length == 0 || !(range.offset | range.length).is_multiple_of(H::PAGE) {
                return Err(rules::DMA_BUF_ALIGNMENT);
            }
            length = length.checked_add(range.length).ok_or(rules::DMA_BUF_BOUNDS)?;
        }
        if bar.kind == RegionKind::Io {
            return Err(rules::DMA_BUF_IO);
        }
        for index in 0..wanted.nr_ranges {
            let range = range(index)?;
            if range.offset.checked_add(range.length).is_none_or(|end| end > bar.size) {
                return Err(rules::DMA_BUF_BOUNDS);
            }
        }
        self.with_opened(|opened| {
            Ok(Some(Export {
                function: self.function,
                address: bar.address.saturating_add(range(0)?.offset),
                length,
                single: wanted.nr_ranges == 1,
                opening: opened.number,
                number: self.memory.write(MemorySpace::number_export),
            }))
        })
    }

    /// Whether an export can be mapped now.
    pub(crate) fn is_exported(&self, export: &Export) -> bool {
        let same = self.with_opened(|opened| Ok(opened.number == export.opening));
        same == Ok(true) && self.memory.read(|memory| memory.is_exported(export.number))
    }
}
