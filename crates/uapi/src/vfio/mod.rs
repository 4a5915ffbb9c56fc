//! The interface of `linux/vfio.h`.
//!
//! Four kinds of files answer these ioctls: device, group, container and migration data. The
//! numbers of device and container overlap, so a number has a name only together with the kind of
//! file; see [`device_ioctl_name`], [`group_ioctl_name`] and [`container_ioctl_name`].

mod capability;
mod container;
mod device;
mod feature;
mod gfx;
mod group;
mod irq;
mod migration;
mod region;
mod reset;
mod spapr;
mod type1;

pub use capability::*;
pub use container::*;
pub use device::*;
pub use feature::*;
pub use gfx::*;
pub use group::*;
pub use irq::*;
pub use migration::*;
pub use region::*;
pub use reset::*;
pub use spapr::*;
pub use type1::*;

use crate::table::{Constant, Struct, Text};

/// The structures of each file.
pub(crate) const STRUCTS: &[&[Struct]] = &[
    capability::STRUCTS,
    device::STRUCTS,
    feature::STRUCTS,
    gfx::STRUCTS,
    group::STRUCTS,
    irq::STRUCTS,
    migration::STRUCTS,
    region::STRUCTS,
    reset::STRUCTS,
    spapr::STRUCTS,
    type1::STRUCTS,
];

/// The numeric constants of each file.
pub(crate) const CONSTANTS: &[&[Constant]] = &[
    container::CONSTANTS,
    device::CONSTANTS,
    feature::CONSTANTS,
    gfx::CONSTANTS,
    group::CONSTANTS,
    irq::CONSTANTS,
    migration::CONSTANTS,
    region::CONSTANTS,
    reset::CONSTANTS,
    spapr::CONSTANTS,
    type1::CONSTANTS,
];

/// The text constants.
pub(crate) const TEXTS: &[Text] = device::TEXTS;

ioctl_names! {
    /// The C name of an ioctl on a device file, bound by group or by IOMMUFD.
    ///
    /// Knows the one ioctl of migration data files too.
    pub fn device_ioctl_name:
        VFIO_DEVICE_GET_INFO,
        VFIO_DEVICE_GET_REGION_INFO,
        VFIO_DEVICE_GET_IRQ_INFO,
        VFIO_DEVICE_SET_IRQS,
        VFIO_DEVICE_RESET,
        VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
        VFIO_DEVICE_PCI_HOT_RESET,
        VFIO_DEVICE_QUERY_GFX_PLANE,
        VFIO_DEVICE_GET_GFX_DMABUF,
        VFIO_DEVICE_IOEVENTFD,
        VFIO_DEVICE_FEATURE,
        VFIO_DEVICE_BIND_IOMMUFD,
        VFIO_DEVICE_ATTACH_IOMMUFD_PT,
        VFIO_DEVICE_DETACH_IOMMUFD_PT,
        VFIO_MIG_GET_PRECOPY_INFO,
}

ioctl_names! {
    /// The C name of an ioctl on a group file.
    pub fn group_ioctl_name:
        VFIO_GROUP_GET_STATUS,
        VFIO_GROUP_SET_CONTAINER,
        VFIO_GROUP_UNSET_CONTAINER,
        VFIO_GROUP_GET_DEVICE_FD,
}

ioctl_names! {
    /// The C name of an ioctl on a container file.
    ///
    /// Where type1 and SPAPR use one number for different ioctls, this is the name of type1.
    pub fn container_ioctl_name:
        VFIO_GET_API_VERSION,
        VFIO_CHECK_EXTENSION,
        VFIO_SET_IOMMU,
        VFIO_IOMMU_GET_INFO,
        VFIO_IOMMU_MAP_DMA,
        VFIO_IOMMU_UNMAP_DMA,
        VFIO_IOMMU_ENABLE,
        VFIO_IOMMU_DISABLE,
        VFIO_IOMMU_DIRTY_PAGES,
        VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
        VFIO_IOMMU_SPAPR_TCE_CREATE,
        VFIO_IOMMU_SPAPR_TCE_REMOVE,
        VFIO_EEH_PE_OP,
}
