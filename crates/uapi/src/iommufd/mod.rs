//! The interface of `linux/iommufd.h`: ioctls on `/dev/iommu`.
//!
//! All objects of a context (devices, address spaces, page tables, queues) have a 32-bit
//! identifier; zero is never one. An IOVA is an address as a device sees it. An IOAS is an address
//! space of such addresses; an HWPT is a page table made from it.

mod fault;
mod hwpt;
mod info;
mod ioas;
mod object;
mod viommu;

pub use fault::*;
pub use hwpt::*;
pub use info::*;
pub use ioas::*;
pub use object::*;
pub use viommu::*;

use crate::iommufd_test::IOMMU_TEST_CMD;
use crate::table::{Constant, Struct};

/// The structures of each file.
pub(crate) const STRUCTS: &[&[Struct]] =
    &[fault::STRUCTS, hwpt::STRUCTS, info::STRUCTS, ioas::STRUCTS, object::STRUCTS, viommu::STRUCTS];

/// The numeric constants of each file.
pub(crate) const CONSTANTS: &[&[Constant]] = &[
    fault::CONSTANTS,
    hwpt::CONSTANTS,
    info::CONSTANTS,
    ioas::CONSTANTS,
    object::CONSTANTS,
    viommu::CONSTANTS,
];

ioctl_names! {
    /// The C name of an ioctl that IOMMUFD itself knows.
    ///
    /// The container ioctls that it answers besides are left to
    /// [`container_ioctl_name`](crate::vfio::container_ioctl_name).
    pub fn ioctl_name:
        IOMMU_DESTROY,
        IOMMU_IOAS_ALLOC,
        IOMMU_IOAS_ALLOW_IOVAS,
        IOMMU_IOAS_COPY,
        IOMMU_IOAS_IOVA_RANGES,
        IOMMU_IOAS_MAP,
        IOMMU_IOAS_UNMAP,
        IOMMU_OPTION,
        IOMMU_VFIO_IOAS,
        IOMMU_HWPT_ALLOC,
        IOMMU_GET_HW_INFO,
        IOMMU_HWPT_SET_DIRTY_TRACKING,
        IOMMU_HWPT_GET_DIRTY_BITMAP,
        IOMMU_HWPT_INVALIDATE,
        IOMMU_FAULT_QUEUE_ALLOC,
        IOMMU_IOAS_MAP_FILE,
        IOMMU_VIOMMU_ALLOC,
        IOMMU_VDEVICE_ALLOC,
        IOMMU_IOAS_CHANGE_PROCESS,
        IOMMU_VEVENTQ_ALLOC,
        IOMMU_HW_QUEUE_ALLOC,
        IOMMU_IOAS_NOIOMMU_GET_PA,
        IOMMU_TEST_CMD,
}
