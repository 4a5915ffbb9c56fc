//! Container ioctls on the IOAS that was chosen for them: mapping, unmapping, and what the IOAS is like.

use uapi::Command as _;
use uapi::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL, VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
    VfioInfoCapHeader, VfioIommuType1DmaMap, VfioIommuType1DmaUnmap, VfioIommuType1Info,
    VfioIommuType1InfoCapIovaRange, VfioIommuType1InfoDmaAvail, VfioIovaRange,
};

use super::areas::Areas;
use super::call::Call;
use super::context::Context;
use super::link::Linker;
use super::map::{How, unmap_last};
use super::placement::Placement;
use crate::rules::iommufd as rule;
use crate::vfio::args;
use crate::{Host, Mutex, Refusal, Rights, RwLock};

impl<H: Host> Context<H> {
    /// `VFIO_IOMMU_MAP_DMA`
    pub(super) fn compat_map(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let argument: VfioIommuType1DmaMap =
            args::take(call.caller.memory, call.argument, rule::COMPAT_MAP_ARGSZ)?;
        let VfioIommuType1DmaMap { flags, vaddr, iova, size, .. } = argument;
        if flags & !(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE) != 0 {
            return Err(rule::COMPAT_MAP_FLAGS);
        }
        let has = |flag| flags & flag != 0;
        let rights = Rights { read: has(VFIO_DMA_MAP_FLAG_READ), write: has(VFIO_DMA_MAP_FLAG_WRITE) };
        let how = How { rights, placement: Placement::Fixed(iova) };
        self.objects
            .read(|objects| self.map_user(call, objects, objects.compat()?, how, (vaddr, size)).map(|_| ()))
    }

    /// `VFIO_IOMMU_UNMAP_DMA`: tells how many bytes were unmapped, even where a mapping that is partly in the range ended it.
    pub(super) fn compat_unmap(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let memory = call.caller.memory;
        let mut argument: VfioIommuType1DmaUnmap =
            args::take(memory, call.argument, rule::COMPAT_UNMAP_ARGSZ)?;
        if argument.flags & !VFIO_DMA_UNMAP_FLAG_ALL != 0 {
            return Err(rule::COMPAT_UNMAP_FLAGS);
        }
        let VfioIommuType1DmaUnmap { flags, iova, size, .. } = argument;
        let unmapped = self.objects.read(|objects| {
            self.with_areas(call.host, objects.compat()?, |areas, linker| {
                if flags & VFIO_DMA_UNMAP_FLAG_ALL == 0 {
                    return unmap_range(areas, linker, iova, size, &mut argument.size);
                }
                if iova != 0 || size != 0 {
                    return Err(rule::COMPAT_UNMAP_ALL);
                }
                Ok(areas.unmap_all(linker, &mut argument.size))
            })
        })?;
        args::reply(memory, call.argument, &argument, size_of::<VfioIommuType1DmaUnmap>())?;
        unmapped
    }

    /// `VFIO_IOMMU_GET_INFO`: as many of the capabilities as there is room for.
    pub(super) fn compat_info(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let memory = call.caller.memory;
        let mut info: VfioIommuType1Info = args::take(memory, call.argument, rule::COMPAT_INFO_ARGSZ)?;
        let stated = info.stated_size();
        info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
        (info.cap_offset, info.pad) = (0, 0);
        self.objects.read(|objects| {
            objects.compat()?.areas.with(|areas| {
                info.iova_pgsizes = areas.page_sizes();
                write_capabilities(call, areas, stated, &mut info)
            })
        })?;
        args::reply(memory, call.argument, &info, stated)
    }
}

/// Unmaps a range; how many `bytes` it was. The outer refusal is one that the caller is told nothing with.
fn unmap_range<H: Host>(
    areas: &mut Areas<H>,
    linker: &mut Linker<'_, H>,
    iova: u64,
    size: u64,
    bytes: &mut u64,
) -> Result<Result<(), Refusal>, Refusal> {
    if !areas.huge_pages() {
        // Without large pages any page can be unmapped alone, as type1 in its first version allows.
        areas.cut_behind(linker, iova.wrapping_add(size).wrapping_sub(1))?;
        if let Some(before) = iova.checked_sub(1) {
            areas.cut_behind(linker, before)?;
        }
    }
    *bytes = 0;
    Ok(unmap_last(iova, size).and_then(|last| areas.unmap(linker, iova, last, bytes)))
}

/// Writes the capabilities behind an answer, each at a multiple of 8, and how much room all of them need.
fn write_capabilities<H: Host>(
    call: &Call<'_, H>,
    areas: &Areas<H>,
    room: usize,
    info: &mut VfioIommuType1Info,
) -> Result<(), Refusal> {
    const AVAILABLE: usize = size_of::<VfioIommuType1Info>();
    const BEHIND_AVAILABLE: usize = AVAILABLE + size_of::<VfioIommuType1InfoDmaAvail>();
    const RANGES: usize = BEHIND_AVAILABLE.next_multiple_of(8);
    const FIRST_RANGE: usize = RANGES + size_of::<VfioIommuType1InfoCapIovaRange>();
    let (memory, argument) = (call.caller.memory, call.argument);
    let header = |id: u32, next: usize| VfioInfoCapHeader { id: id as u16, version: 1, next: next as u32 };
    let range_at =
        |index: u32| FIRST_RANGE.saturating_add((index as usize).saturating_mul(size_of::<VfioIovaRange>()));
    let mut nr_iovas: u32 = 0;
    for (start, end) in areas.open_ranges() {
        let (at, next) = (range_at(nr_iovas), range_at(nr_iovas.saturating_add(1)));
        if room >= next {
            args::reply_at(memory, argument, at, &VfioIovaRange { start, end })?;
        }
        nr_iovas = nr_iovas.saturating_add(1);
    }
    let needed = range_at(nr_iovas);
    if room >= BEHIND_AVAILABLE {
        // Linux links the next capability as soon as there is room for this one.
        let next = if room >= RANGES { RANGES } else { 0 };
        let header = header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, next);
        let available = VfioIommuType1InfoDmaAvail { header, avail: u32::MAX };
        args::reply_at(memory, argument, AVAILABLE, &available)?;
    }
    if room >= needed {
        let header = header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0);
        let ranges = VfioIommuType1InfoCapIovaRange { header, nr_iovas, reserved: 0 };
        args::reply_at(memory, argument, RANGES, &ranges)?;
        info.cap_offset = AVAILABLE as u32;
    }
    info.argsz = needed as u32;
    Ok(())
}
