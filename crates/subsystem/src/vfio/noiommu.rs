//! The one place that decides what is no-IOMMU.

use crate::host::{Function, Host};
use crate::kconfig::{Kconfig, Symbol};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::device::IommuKind;

/// What stands between memory and a function that is being registered: an IOMMU, or nothing; refused if there is none and
/// none may be missing, or if DMA through it is not coherent.
///
/// Asked once, at registration. Group and device file take the answer from the device ever after, whatever the module
/// parameter (`parameter`) says then.
pub(crate) fn decide<H: Host>(
    host: &H,
    kconfig: Kconfig,
    parameter: bool,
    function: Function,
) -> Result<IommuKind, Refusal> {
    match (host.iommu(function), kconfig.has(Symbol::VfioNoiommu) && parameter) {
        (Some(iommu), _) if iommu.coherent => Ok(IommuKind::Hardware),
        (Some(_), _) => Err(rules::PROBE_COHERENCY),
        (None, true) => Ok(IommuKind::None),
        (None, false) => Err(rules::PROBE_NO_IOMMU),
    }
}

/// Whether a device has a node of its own. Without an IOMMU it takes more than nodes of devices being built: IOMMUFD has to
/// serve such devices.
pub(crate) fn has_node(kconfig: Kconfig, iommu: IommuKind) -> bool {
    kconfig.has(match iommu {
        IommuKind::None => Symbol::IommufdNoiommu,
        IommuKind::Hardware | IommuKind::Emulated => Symbol::VfioDeviceCdev,
    })
}
