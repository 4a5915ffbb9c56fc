//! Container files and what a container may be backed by.

use crate::io;

constants! {
    /// The version that [`VFIO_GET_API_VERSION`] returns.
    pub const VFIO_API_VERSION: u32 = 0;

    /// Type byte of all VFIO ioctls.
    pub const VFIO_TYPE: u32 = b';' as u32;
    /// Number of the first VFIO ioctl within the type.
    pub const VFIO_BASE: u32 = 100;

    /// Backend: type1 in its first version, where an unmap may concern part of a mapping.
    pub const VFIO_TYPE1_IOMMU: u32 = 1;
    /// Backend: SPAPR TCE (POWER), first version.
    pub const VFIO_SPAPR_TCE_IOMMU: u32 = 2;
    /// Backend: type1 in its second version, where an unmap takes whole mappings only.
    #[expect(non_upper_case_globals, reason = "the C name")]
    pub const VFIO_TYPE1v2_IOMMU: u32 = 3;
    /// Extension: DMA is coherent with the caches, whatever the device asks for.
    pub const VFIO_DMA_CC_IOMMU: u32 = 4;
    /// Extension: enhanced error handling of POWER.
    pub const VFIO_EEH: u32 = 5;
    /// Backend: SPAPR TCE (POWER), second version.
    #[expect(non_upper_case_globals, reason = "the C name")]
    pub const VFIO_SPAPR_TCE_v2_IOMMU: u32 = 7;
    /// Backend: none at all, for devices without an IOMMU.
    pub const VFIO_NOIOMMU_IOMMU: u32 = 8;
    /// Extension: [`VFIO_DMA_UNMAP_FLAG_ALL`](super::VFIO_DMA_UNMAP_FLAG_ALL) is known.
    pub const VFIO_UNMAP_ALL: u32 = 9;
    /// Extension: the process address behind a mapping can be changed.
    pub const VFIO_UPDATE_VADDR: u32 = 10;

    /// Container ioctl without argument: returns the version of the interface.
    pub const VFIO_GET_API_VERSION: u32 = io(VFIO_BASE);
    /// Container ioctl; the argument is an extension number by value: tells whether it is there.
    pub const VFIO_CHECK_EXTENSION: u32 = io(VFIO_BASE + 1);
    /// Container ioctl; the argument is a backend number by value: chooses the backend.
    pub const VFIO_SET_IOMMU: u32 = io(VFIO_BASE + 2);
}
