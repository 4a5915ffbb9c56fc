//! `IOMMU_HWPT_INVALIDATE`: a guest has changed a page table of its own, or what its IOMMU keeps of a device.

use uapi::iommufd::IommuHwptInvalidate;

use super::PAGE;
use super::call::Call;
use super::context::Context;
use super::hardware::MOST_ENTRIES;
use super::objects::{Object, Objects};
use super::user_data::UserArray;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock};

impl<H: Host> Context<H> {
    /// `IOMMU_HWPT_INVALIDATE`: says in every case how many entries were handled.
    pub(super) fn hwpt_invalidate(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwptInvalidate>()?;
        let mut done = 0;
        let result = self.objects.write(|objects| self.invalidate(call, objects, &argument.value, &mut done));
        argument.value.entry_num = done;
        call.reply(&argument)?;
        result
    }

    /// Handles the entries, and counts those that are `done`.
    fn invalidate(
        &self,
        call: &Call<'_, H>,
        objects: &mut Objects<H>,
        command: &IommuHwptInvalidate,
        done: &mut u32,
    ) -> Result<(), Refusal> {
        if command.reserved != 0 {
            return Err(rule::INVALIDATE_RESERVED);
        }
        let array = command.data_uptr != 0 && (1..=PAGE).contains(&u64::from(command.entry_len));
        if command.entry_num > 0 && (!array || command.entry_num > MOST_ENTRIES) {
            return Err(rule::INVALIDATE_ARRAY);
        }
        let entries = UserArray {
            memory: call.caller.memory,
            kind: command.data_type,
            address: command.data_uptr,
            length: command.entry_len,
            count: command.entry_num,
        };
        match objects.get_mut(command.hwpt_id).ok_or(rule::INVALIDATE_UNKNOWN)? {
            Object::Nested(nested) => nested.driver.invalidate(&entries, done),
            Object::Viommu(_) => self.invalidate_viommu(call.host, objects, command.hwpt_id, &entries, done),
            _ => Err(rule::INVALIDATE_TYPE),
        }
    }
}
