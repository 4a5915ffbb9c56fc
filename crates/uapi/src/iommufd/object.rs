//! What concerns the whole context: command numbers, destruction of objects, options.

use crate::io;

structs! {
    /// Argument of [`IOMMU_DESTROY`].
    pub struct IommuDestroy: 8 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the object.
        pub id: u32,
    }

    /// Argument of [`IOMMU_OPTION`].
    pub struct IommuOption: 24 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// [`IOMMU_OPTION_RLIMIT_MODE`] or [`IOMMU_OPTION_HUGE_PAGES`].
        pub option_id: u32,
        /// [`IOMMU_OPTION_OP_SET`] or [`IOMMU_OPTION_OP_GET`].
        pub op: u16,
        /// Zero.
        pub reserved: u16,
        /// Identifier of the object that the option belongs to, or zero for the context.
        pub object_id: u32,
        /// The value to set; out: the value read.
        pub val64: u64,
    }

    /// Argument of [`IOMMU_VFIO_IOAS`].
    pub struct IommuVfioIoas: 12 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the IOAS; for `GET` out.
        pub ioas_id: u32,
        /// `IOMMU_VFIO_IOAS_*`.
        pub op: u16,
        /// Zero.
        pub reserved: u16,
    }
}

constants! {
    /// Type byte of all IOMMUFD ioctls; the same as that of VFIO.
    pub const IOMMUFD_TYPE: u32 = b';' as u32;

    /// The first command number.
    pub const IOMMUFD_CMD_BASE: u32 = 0x80;
    /// Command number of [`IOMMU_DESTROY`].
    pub const IOMMUFD_CMD_DESTROY: u32 = 0x80;
    /// Command number of [`IOMMU_IOAS_ALLOC`](super::IOMMU_IOAS_ALLOC).
    pub const IOMMUFD_CMD_IOAS_ALLOC: u32 = 0x81;
    /// Command number of [`IOMMU_IOAS_ALLOW_IOVAS`](super::IOMMU_IOAS_ALLOW_IOVAS).
    pub const IOMMUFD_CMD_IOAS_ALLOW_IOVAS: u32 = 0x82;
    /// Command number of [`IOMMU_IOAS_COPY`](super::IOMMU_IOAS_COPY).
    pub const IOMMUFD_CMD_IOAS_COPY: u32 = 0x83;
    /// Command number of [`IOMMU_IOAS_IOVA_RANGES`](super::IOMMU_IOAS_IOVA_RANGES).
    pub const IOMMUFD_CMD_IOAS_IOVA_RANGES: u32 = 0x84;
    /// Command number of [`IOMMU_IOAS_MAP`](super::IOMMU_IOAS_MAP).
    pub const IOMMUFD_CMD_IOAS_MAP: u32 = 0x85;
    /// Command number of [`IOMMU_IOAS_UNMAP`](super::IOMMU_IOAS_UNMAP).
    pub const IOMMUFD_CMD_IOAS_UNMAP: u32 = 0x86;
    /// Command number of [`IOMMU_OPTION`].
    pub const IOMMUFD_CMD_OPTION: u32 = 0x87;
    /// Command number of [`IOMMU_VFIO_IOAS`].
    pub const IOMMUFD_CMD_VFIO_IOAS: u32 = 0x88;
    /// Command number of [`IOMMU_HWPT_ALLOC`](super::IOMMU_HWPT_ALLOC).
    pub const IOMMUFD_CMD_HWPT_ALLOC: u32 = 0x89;
    /// Command number of [`IOMMU_GET_HW_INFO`](super::IOMMU_GET_HW_INFO).
    pub const IOMMUFD_CMD_GET_HW_INFO: u32 = 0x8a;
    /// Command number of [`IOMMU_HWPT_SET_DIRTY_TRACKING`](super::IOMMU_HWPT_SET_DIRTY_TRACKING).
    pub const IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING: u32 = 0x8b;
    /// Command number of [`IOMMU_HWPT_GET_DIRTY_BITMAP`](super::IOMMU_HWPT_GET_DIRTY_BITMAP).
    pub const IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP: u32 = 0x8c;
    /// Command number of [`IOMMU_HWPT_INVALIDATE`](super::IOMMU_HWPT_INVALIDATE).
    pub const IOMMUFD_CMD_HWPT_INVALIDATE: u32 = 0x8d;
    /// Command number of [`IOMMU_FAULT_QUEUE_ALLOC`](super::IOMMU_FAULT_QUEUE_ALLOC).
    pub const IOMMUFD_CMD_FAULT_QUEUE_ALLOC: u32 = 0x8e;
    /// Command number of [`IOMMU_IOAS_MAP_FILE`](super::IOMMU_IOAS_MAP_FILE).
    pub const IOMMUFD_CMD_IOAS_MAP_FILE: u32 = 0x8f;
    /// Command number of [`IOMMU_VIOMMU_ALLOC`](super::IOMMU_VIOMMU_ALLOC).
    pub const IOMMUFD_CMD_VIOMMU_ALLOC: u32 = 0x90;
    /// Command number of [`IOMMU_VDEVICE_ALLOC`](super::IOMMU_VDEVICE_ALLOC).
    pub const IOMMUFD_CMD_VDEVICE_ALLOC: u32 = 0x91;
    /// Command number of [`IOMMU_IOAS_CHANGE_PROCESS`](super::IOMMU_IOAS_CHANGE_PROCESS).
    pub const IOMMUFD_CMD_IOAS_CHANGE_PROCESS: u32 = 0x92;
    /// Command number of [`IOMMU_VEVENTQ_ALLOC`](super::IOMMU_VEVENTQ_ALLOC).
    pub const IOMMUFD_CMD_VEVENTQ_ALLOC: u32 = 0x93;
    /// Command number of [`IOMMU_HW_QUEUE_ALLOC`](super::IOMMU_HW_QUEUE_ALLOC).
    pub const IOMMUFD_CMD_HW_QUEUE_ALLOC: u32 = 0x94;
    /// Command number of [`IOMMU_IOAS_NOIOMMU_GET_PA`](super::IOMMU_IOAS_NOIOMMU_GET_PA).
    pub const IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA: u32 = 0x95;

    /// Ioctl with [`IommuDestroy`]: destroys an object that nothing uses.
    pub const IOMMU_DESTROY: u32 = io(IOMMUFD_CMD_DESTROY);
    /// Ioctl with [`IommuOption`]: reads or sets an option.
    pub const IOMMU_OPTION: u32 = io(IOMMUFD_CMD_OPTION);
    /// Ioctl with [`IommuVfioIoas`]: the IOAS that VFIO container ioctls on this file work on.
    pub const IOMMU_VFIO_IOAS: u32 = io(IOMMUFD_CMD_VFIO_IOAS);

    /// Option of the context: whether pinned memory counts against the process (1) or user (0).
    pub const IOMMU_OPTION_RLIMIT_MODE: u32 = 0;
    /// Option of an IOAS: whether large pages may be used (1) or not (0).
    pub const IOMMU_OPTION_HUGE_PAGES: u32 = 1;
    /// Set the option.
    pub const IOMMU_OPTION_OP_SET: u32 = 0;
    /// Read the option.
    pub const IOMMU_OPTION_OP_GET: u32 = 1;

    /// Read which IOAS it is.
    pub const IOMMU_VFIO_IOAS_GET: u32 = 0;
    /// Set which IOAS it is.
    pub const IOMMU_VFIO_IOAS_SET: u32 = 1;
    /// Have none.
    pub const IOMMU_VFIO_IOAS_CLEAR: u32 = 2;
}

command!(IommuDestroy, IOMMU_DESTROY, size, min 8);
self_contained!(IommuDestroy);

command!(IommuOption, IOMMU_OPTION, size, min 24);
self_contained!(IommuOption);

command!(IommuVfioIoas, IOMMU_VFIO_IOAS, size, min 12);
self_contained!(IommuVfioIoas);
