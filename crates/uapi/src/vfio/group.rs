//! Group files.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Argument of [`VFIO_GROUP_GET_STATUS`].
    pub struct VfioGroupStatus: 8 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Out: `VFIO_GROUP_FLAGS_*`.
        pub flags: u32,
    }
}

constants! {
    /// Group ioctl with [`VfioGroupStatus`]: reads the state of the group.
    pub const VFIO_GROUP_GET_STATUS: u32 = io(VFIO_BASE + 3);
    /// Group ioctl with a pointer to an `i32`: joins the container (or IOMMUFD) of that descriptor.
    pub const VFIO_GROUP_SET_CONTAINER: u32 = io(VFIO_BASE + 4);
    /// Group ioctl without argument: leaves the container.
    pub const VFIO_GROUP_UNSET_CONTAINER: u32 = io(VFIO_BASE + 5);
    /// Group ioctl with a NUL-terminated device name: returns a descriptor of the device.
    pub const VFIO_GROUP_GET_DEVICE_FD: u32 = io(VFIO_BASE + 6);

    /// No driver of the host stands in the way of using the group.
    pub const VFIO_GROUP_FLAGS_VIABLE: u32 = 1 << 0;
    /// The group has joined a container.
    pub const VFIO_GROUP_FLAGS_CONTAINER_SET: u32 = 1 << 1;
}

command!(VfioGroupStatus, VFIO_GROUP_GET_STATUS, argsz, min 8);
self_contained!(VfioGroupStatus);
