//! `IOMMU_IOAS_CHANGE_PROCESS`: charges pinned memory to the caller from now on.

use uapi::iommufd::IommuIoasChangeProcess;

use super::call::Call;
use super::context::Context;
use crate::rules::iommufd as rule;
use crate::{Host, Mutex, Refusal, RwLock};

impl<H: Host> Context<H> {
    /// `IOMMU_IOAS_CHANGE_PROCESS`
    pub(super) fn change_process(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        if call.take::<IommuIoasChangeProcess>()?.value.reserved != 0 {
            return Err(rule::CHANGE_PROCESS_RESERVED);
        }
        self.objects.read(|_| self.records.with(|records| records.change_task(call.host, call.caller.task)))
    }
}
