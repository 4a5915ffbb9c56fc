//! The commands that only an IOMMU can fulfil. Their arguments are checked as they would be with one; then what is
//! asked for is not there.

use uapi::iommufd::{
    IOMMU_HW_INFO_FLAG_INPUT_TYPE, IOMMU_HWPT_DIRTY_TRACKING_ENABLE, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
    IommuHwInfo, IommuHwQueueAlloc, IommuHwptGetDirtyBitmap, IommuHwptInvalidate, IommuHwptSetDirtyTracking,
    IommuVdeviceAlloc, IommuVeventqAlloc, IommuViommuAlloc,
};

use super::PAGE;
use super::call::Call;
use super::context::Context;
use super::placement::is_aligned;
use crate::rules::iommufd as rule;
use crate::{Host, Mutex, Refusal, RwLock};

/// Most entries of an invalidation, and most events of a queue.
const MOST_ENTRIES: u32 = 1 << 19;

impl<H: Host> Context<H> {
    /// `IOMMU_GET_HW_INFO`
    pub(super) fn get_hw_info(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwInfo>()?.value;
        if command.flags & !IOMMU_HW_INFO_FLAG_INPUT_TYPE != 0 || command.reserved != [0; 3] {
            return Err(rule::HW_INFO_FIELDS);
        }
        self.refuse_device(command.dev_id, rule::HW_INFO_DEVICE, rule::HW_INFO_NOIOMMU)
    }

    /// `IOMMU_HWPT_SET_DIRTY_TRACKING`
    pub(super) fn hwpt_set_dirty_tracking(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwptSetDirtyTracking>()?.value;
        if command.flags & !IOMMU_HWPT_DIRTY_TRACKING_ENABLE != 0 {
            return Err(rule::DIRTY_FIELDS);
        }
        self.objects.read(|objects| objects.hwpt(command.hwpt_id).map(|_| ()).ok_or(rule::HWPT_UNKNOWN))?;
        Err(rule::DIRTY_NOIOMMU)
    }

    /// `IOMMU_HWPT_GET_DIRTY_BITMAP`
    pub(super) fn hwpt_get_dirty_bitmap(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwptGetDirtyBitmap>()?.value;
        if command.flags & !IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR != 0 || command.reserved != 0 {
            return Err(rule::DIRTY_FIELDS);
        }
        let alignment = self.objects.read(|objects| {
            let hwpt = objects.hwpt(command.hwpt_id).ok_or(rule::HWPT_UNKNOWN)?;
            Ok(objects.ioas(hwpt.ioas)?.areas.with(|areas| areas.alignment()))
        })?;
        let rest = command.length.checked_sub(1).ok_or(rule::DIRTY_LENGTH)?;
        command.iova.checked_add(rest).ok_or(rule::DIRTY_WRAPS)?;
        for value in [command.iova, command.length] {
            if !is_aligned(value, alignment) || value.checked_rem(command.page_size) != Some(0) {
                return Err(rule::DIRTY_ALIGNMENT);
            }
        }
        Err(rule::DIRTY_NOIOMMU)
    }

    /// `IOMMU_HWPT_INVALIDATE`: says in every case how many entries were handled.
    pub(super) fn hwpt_invalidate(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwptInvalidate>()?;
        let command = argument.value;
        argument.value.entry_num = 0;
        call.reply(&argument)?;
        if command.reserved != 0 {
            return Err(rule::INVALIDATE_RESERVED);
        }
        let array = command.data_uptr != 0 && (1..=PAGE).contains(&u64::from(command.entry_len));
        if command.entry_num > 0 && (!array || command.entry_num > MOST_ENTRIES) {
            return Err(rule::INVALIDATE_ARRAY);
        }
        self.objects
            .read(|objects| objects.get(command.hwpt_id).map(|_| ()).ok_or(rule::INVALIDATE_UNKNOWN))?;
        Err(rule::INVALIDATE_TYPE)
    }

    /// `IOMMU_VIOMMU_ALLOC`
    pub(super) fn viommu_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuViommuAlloc>()?.value;
        if command.flags != 0 || command.type_ == 0 {
            return Err(rule::VIOMMU_FIELDS);
        }
        self.refuse_device(command.dev_id, rule::VIOMMU_DEVICE, rule::VIOMMU_NOIOMMU)
    }

    /// `IOMMU_VDEVICE_ALLOC`
    pub(super) fn vdevice_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        call.take::<IommuVdeviceAlloc>()?;
        Err(rule::VIOMMU_UNKNOWN)
    }

    /// `IOMMU_VEVENTQ_ALLOC`
    pub(super) fn veventq_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuVeventqAlloc>()?.value;
        if command.flags != 0 || command.reserved != 0 || command.type_ == 0 {
            return Err(rule::EVENT_QUEUE_FIELDS);
        }
        if !(1..=MOST_ENTRIES).contains(&command.veventq_depth) {
            return Err(rule::EVENT_QUEUE_DEPTH);
        }
        Err(rule::VIOMMU_UNKNOWN)
    }

    /// `IOMMU_HW_QUEUE_ALLOC`
    pub(super) fn hw_queue_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwQueueAlloc>()?.value;
        if command.flags != 0 || command.type_ == 0 {
            return Err(rule::HW_QUEUE_FIELDS);
        }
        let rest = command.length.checked_sub(1).ok_or(rule::HW_QUEUE_LENGTH)?;
        command.nesting_parent_iova.checked_add(rest).ok_or(rule::HW_QUEUE_WRAPS)?;
        Err(rule::VIOMMU_UNKNOWN)
    }

    /// Refuses with `unknown` if there is no such device, and else with `noiommu`.
    fn refuse_device(&self, id: u32, unknown: Refusal, noiommu: Refusal) -> Result<(), Refusal> {
        self.objects.read(|objects| objects.device(id).map(|_| ()).ok_or(unknown))?;
        Err(noiommu)
    }
}
