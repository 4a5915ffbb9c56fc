//! `IOMMU_IOAS_NOIOMMU_GET_PA`: where mapped memory is.

use uapi::iommufd::IommuIoasNoiommuGetPa;

use super::call::Call;
use super::context::Context;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock, Symbol};

impl<H: Host> Context<H> {
    /// `IOMMU_IOAS_NOIOMMU_GET_PA`
    pub(super) fn noiommu_get_pa(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasNoiommuGetPa>()?;
        if !self.kconfig.has(Symbol::IommufdNoiommu) {
            return Err(rule::GET_PA_KCONFIG);
        }
        let command = &mut argument.value;
        if !call.caller.caps.sys_rawio {
            return Err(rule::GET_PA_RAWIO);
        }
        if command.flags != 0 || command.reserved != 0 {
            return Err(rule::GET_PA_FLAGS);
        }
        if command.length == 0 {
            return Err(rule::GET_PA_LENGTH);
        }
        if command.iova == u64::MAX {
            return Err(rule::GET_PA_LIMIT);
        }
        (command.out_phys, command.length) = self.objects.read(|objects| {
            let ioas = objects.ioas(command.ioas_id)?;
            self.with_areas(call.host, ioas, |areas, linker| {
                areas.physical(call.host, linker.records, command.iova, command.length)
            })
        })?;
        call.reply(&argument)
    }
}
