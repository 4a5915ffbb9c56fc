//! `VFIO_IOMMU_GET_INFO`: what the address space is like, with capabilities behind the answer.

use uapi::Command as _;
use uapi::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, VfioInfoCapHeader,
    VfioIommuType1Info, VfioIommuType1InfoCapIovaRange, VfioIommuType1InfoCapMigration,
    VfioIommuType1InfoDmaAvail, VfioIovaRange,
};

use super::dirty::BITMAP_BYTES;
use super::{Call, PAGE, Space, Type1};
use crate::host::{Host, Mutex as _};
use crate::rules::{Refusal, type1 as rules};
use crate::vfio::args;

/// Where the capabilities are: one behind the other, each at a multiple of 8.
const MIGRATION: usize = size_of::<VfioIommuType1Info>();
const AVAILABLE: usize = MIGRATION + size_of::<VfioIommuType1InfoCapMigration>();
const PADDING: usize = AVAILABLE + size_of::<VfioIommuType1InfoDmaAvail>();
const RANGES: usize = PADDING.next_multiple_of(8);
const FIRST_RANGE: usize = RANGES + size_of::<VfioIommuType1InfoCapIovaRange>();

impl<H: Host> Type1<H> {
    pub(super) fn get_info(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let memory = call.ctx.memory;
        let mut info: VfioIommuType1Info = args::take(memory, call.argument, rules::INFO_ARGSZ)?;
        let stated = info.stated_size();
        self.space.with(|space| {
            let count = space.ranges().count();
            let length = match count {
                0 => RANGES,
                _ => FIRST_RANGE.saturating_add(count.saturating_mul(size_of::<VfioIovaRange>())),
            };
            info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
            info.iova_pgsizes = space.page_sizes();
            (info.cap_offset, info.pad) = (0, 0);
            if stated < length {
                info.argsz = length as u32;
                return Ok(());
            }
            info.cap_offset = MIGRATION as u32;
            space.write_capabilities(call)
        })?;
        args::reply(memory, call.argument, &info, stated)
    }
}

impl<H: Host> Space<H> {
    /// The ranges of IOVAs that can be mapped, ascending; none as long as all devices are emulated.
    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut from = self.knows_ranges.then_some(0);
        core::iter::from_fn(move || {
            let range = self.usable_from(from?)?;
            from = range.1.checked_add(1);
            Some(range)
        })
    }

    fn write_capabilities(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let (memory, argument) = (call.ctx.memory, call.argument);
        let header =
            |id: u32, next: usize| VfioInfoCapHeader { id: id as u16, version: 1, next: next as u32 };
        let migration = VfioIommuType1InfoCapMigration {
            header: header(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, AVAILABLE),
            flags: 0,
            pad: 0,
            pgsize_bitmap: PAGE,
            max_dirty_bitmap_size: BITMAP_BYTES,
        };
        args::reply_at(memory, argument, MIGRATION, &migration)?;
        let count = self.ranges().count() as u32;
        let header_of_available =
            header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, if count == 0 { 0 } else { RANGES });
        let available = VfioIommuType1InfoDmaAvail { header: header_of_available, avail: self.available };
        args::reply_at(memory, argument, AVAILABLE, &available)?;
        args::reply_at(memory, argument, PADDING, &0_u32)?;
        if count == 0 {
            return Ok(());
        }
        let ranges = VfioIommuType1InfoCapIovaRange {
            header: header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0),
            nr_iovas: count,
            reserved: 0,
        };
        args::reply_at(memory, argument, RANGES, &ranges)?;
        for (index, (start, end)) in self.ranges().enumerate() {
            let at = FIRST_RANGE.saturating_add(index.saturating_mul(size_of::<VfioIovaRange>()));
            args::reply_at(memory, argument, at, &VfioIovaRange { start, end })?;
        }
        Ok(())
    }
}
