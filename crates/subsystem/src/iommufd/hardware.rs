//! What an IOMMU says of itself, and the commands for what no IOMMU here has: nested page tables and vIOMMUs. Their arguments
//! are checked as they would be with one; then what is asked for is not there.

use uapi::iommufd::{
    IOMMU_HW_INFO_FLAG_INPUT_TYPE, IOMMU_HW_INFO_TYPE_DEFAULT, IommuHwInfo, IommuHwQueueAlloc,
    IommuHwptInvalidate, IommuVdeviceAlloc, IommuVeventqAlloc, IommuViommuAlloc,
};

use super::PAGE;
use super::call::Call;
use super::context::Context;
use super::device::Device;
use super::unit::Unit;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock};

/// Most entries of an invalidation, and most events of a queue.
const MOST_ENTRIES: u32 = 1 << 19;

impl<H: Host> Context<H> {
    /// `IOMMU_GET_HW_INFO`
    pub(super) fn get_hw_info(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwInfo>()?;
        let command = &mut argument.value;
        if command.flags & !IOMMU_HW_INFO_FLAG_INPUT_TYPE != 0 || command.reserved != [0; 3] {
            return Err(rule::HW_INFO_FIELDS);
        }
        let unit = self.unit_of(command.dev_id, rule::HW_INFO_DEVICE)?.ok_or(rule::HW_INFO_NOIOMMU)?;
        let wanted = match command.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE {
            0 => IOMMU_HW_INFO_TYPE_DEFAULT,
            _ => command.out_data_type,
        };
        let description = unit.description();
        if wanted != IOMMU_HW_INFO_TYPE_DEFAULT && wanted != description.kind() {
            return Err(rule::HW_INFO_TYPE);
        }
        let bytes = description.as_bytes();
        put_padded(call, command.data_uptr, command.data_len, bytes)?;
        command.data_len = u32::try_from(bytes.len()).unwrap_or(0);
        command.out_data_type = description.kind();
        command.out_max_pasid_log2 = unit.pasid_bits();
        command.out_capabilities = unit.capabilities();
        call.reply(&argument)
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
        self.unit_of(command.dev_id, rule::VIOMMU_DEVICE)?;
        Err(rule::VIOMMU_UNSUPPORTED)
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

    /// What serves a device; refused with `unknown` if there is no such device.
    fn unit_of(&self, id: u32, unknown: Refusal) -> Result<Option<Unit>, Refusal> {
        self.objects.read(|objects| objects.device(id).map(Device::unit).ok_or(unknown))
    }
}

/// Writes to the caller's buffer as much as fits, and zeros behind it.
fn put_padded<H: Host>(call: &Call<'_, H>, address: u64, length: u32, bytes: &[u8]) -> Result<(), Refusal> {
    const ZEROS: [u8; 256] = [0; 256];
    let memory = call.caller.memory;
    let length = length as usize;
    let known = bytes.get(..length).unwrap_or(bytes);
    memory.write(address, known).map_err(|_| rule::HW_INFO_BUFFER)?;
    let mut done = known.len();
    while let Some(rest) = length.checked_sub(done).filter(|rest| *rest > 0) {
        let zeros = ZEROS.get(..rest).unwrap_or(&ZEROS);
        let at = address.checked_add(done as u64).ok_or(rule::HW_INFO_BUFFER)?;
        memory.write(at, zeros).map_err(|_| rule::HW_INFO_BUFFER)?;
        done = done.saturating_add(zeros.len());
    }
    Ok(())
}
