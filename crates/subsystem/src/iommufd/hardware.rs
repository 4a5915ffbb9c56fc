//! What an IOMMU says of itself.

use uapi::iommufd::{IOMMU_HW_INFO_FLAG_INPUT_TYPE, IOMMU_HW_INFO_TYPE_DEFAULT, IommuHwInfo};

use super::call::Call;
use super::context::Context;
use super::device::Device;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock};

/// Most entries of an invalidation, and most events of a queue.
pub(super) const MOST_ENTRIES: u32 = 1 << 19;

impl<H: Host> Context<H> {
    /// `IOMMU_GET_HW_INFO`
    pub(super) fn get_hw_info(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwInfo>()?;
        let command = &mut argument.value;
        if command.flags & !IOMMU_HW_INFO_FLAG_INPUT_TYPE != 0 || command.reserved != [0; 3] {
            return Err(rule::HW_INFO_FIELDS);
        }
        let unit = self
            .objects
            .read(|objects| objects.device(command.dev_id).map(Device::unit).ok_or(rule::HW_INFO_DEVICE))?;
        let unit = unit.ok_or(rule::HW_INFO_NOIOMMU)?;
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
