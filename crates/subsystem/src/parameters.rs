//! How a subsystem starts, and the module parameters, which are changed while it runs.

use crate::kconfig::Kconfig;

/// How a subsystem starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Which parts are built in.
    pub kconfig: Kconfig,
    /// The module parameters, changed later with [`Subsystem::set_modules`](crate::Subsystem::set_modules).
    pub modules: ModuleParameters,
    /// Whether the platform adds MSI-X vectors while others are enabled, as x86 does.
    pub dynamic_msix: bool,
}

/// Module parameters, each as it is when it is looked at: what was done under another value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleParameters {
    /// `enable_unsafe_noiommu_mode` of vfio: devices without an IOMMU can be registered.
    pub unsafe_noiommu_mode: bool,
    /// `allow_unsafe_interrupts` of iommufd: devices whose interrupts are not isolated can be bound.
    pub unsafe_interrupts: bool,
    /// `allow_unsafe_interrupts` of vfio_iommu_type1: groups whose interrupts are not isolated can come under type1.
    pub type1_unsafe_interrupts: bool,
    /// `dma_entry_limit` of vfio_iommu_type1: how many mappings a container has at most that SET_IOMMU puts under type1.
    pub dma_entry_limit: u32,
}

impl ModuleParameters {
    /// The values that a kernel starts with.
    pub const DEFAULT: Self = ModuleParameters {
        unsafe_noiommu_mode: false,
        unsafe_interrupts: false,
        type1_unsafe_interrupts: false,
        dma_entry_limit: 0xffff,
    };
}

impl Default for ModuleParameters {
    fn default() -> Self {
        Self::DEFAULT
    }
}
