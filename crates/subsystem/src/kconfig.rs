//! Build options of the kernel that is stood for, as data.

/// Which parts are built in, by the names of the kernel's Kconfig files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kconfig {
    /// `VFIO_GROUP`: groups and their nodes.
    pub vfio_group: bool,
    /// `VFIO_CONTAINER`: the native container and its node.
    pub vfio_container: bool,
    /// `VFIO_NOIOMMU`, with `IOMMUFD_NOIOMMU`, which it selects: devices without an IOMMU, if the module parameter allows
    /// them.
    pub vfio_noiommu: bool,
}

impl Kconfig {
    /// Everything that serves devices without an IOMMU: groups, the native container, device files under iommufd.
    pub const FULL: Kconfig = Kconfig { vfio_group: true, vfio_container: true, vfio_noiommu: true };
}
