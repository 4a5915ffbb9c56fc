//! The backend for devices without an IOMMU: it stands for nothing, and maps nothing.

use uapi::vfio::VFIO_NOIOMMU_IOMMU;

use super::Call;
use crate::host::Host;
use crate::rules::{Refusal, group as rules};

/// Whether it has an extension: itself, while the module parameter is on.
pub(super) fn check_extension<H: Host>(call: &Call<'_, H>) -> bool {
    call.modules.unsafe_noiommu_mode && call.argument == u64::from(VFIO_NOIOMMU_IOMMU)
}

/// Checks that it can back a container.
pub(super) fn open<H: Host>(call: &Call<'_, H>) -> Result<(), Refusal> {
    if !check_extension(call) {
        return Err(rules::SET_IOMMU_UNKNOWN);
    }
    if !call.ctx.caps.sys_rawio {
        return Err(rules::SET_IOMMU_CAPABILITY);
    }
    Ok(())
}
