//! Page faults of devices, delivered to the program.

use super::IOMMUFD_CMD_FAULT_QUEUE_ALLOC;
use crate::io;

structs! {
    /// One page fault, read from the descriptor of a fault queue.
    pub struct IommuHwptPgfault: 40 {
        /// `IOMMU_PGFAULT_FLAGS_*`.
        pub flags: u32,
        /// Identifier of the device.
        pub dev_id: u32,
        /// The PASID, if the flag says so.
        pub pasid: u32,
        /// Number of the page request group.
        pub grpid: u32,
        /// `IOMMU_PGFAULT_PERM_*`: what the device wanted.
        pub perm: u32,
        /// Zero.
        pub reserved: u32,
        /// The address.
        pub addr: u64,
        /// A hint how many bytes the device will want.
        pub length: u32,
        /// Names the fault in the response.
        pub cookie: u32,
    }

    /// The response to a page fault, written to the descriptor of a fault queue.
    pub struct IommuHwptPageResponse: 8 {
        /// The cookie of the fault.
        pub cookie: u32,
        /// `IOMMUFD_PAGE_RESP_*`.
        pub code: u32,
    }

    /// Argument of [`IOMMU_FAULT_QUEUE_ALLOC`].
    pub struct IommuFaultAlloc: 16 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// Out: identifier of the new queue.
        pub out_fault_id: u32,
        /// Out: its descriptor, which the caller has to close.
        pub out_fault_fd: u32,
    }
}

constants! {
    /// Ioctl with [`IommuFaultAlloc`]: makes a fault queue.
    pub const IOMMU_FAULT_QUEUE_ALLOC: u32 = io(IOMMUFD_CMD_FAULT_QUEUE_ALLOC);

    /// The fault has a PASID.
    pub const IOMMU_PGFAULT_FLAGS_PASID_VALID: u32 = 1 << 0;
    /// The fault is the last one of its group.
    pub const IOMMU_PGFAULT_FLAGS_LAST_PAGE: u32 = 1 << 1;
    /// The device wanted to read.
    pub const IOMMU_PGFAULT_PERM_READ: u32 = 1 << 0;
    /// The device wanted to write.
    pub const IOMMU_PGFAULT_PERM_WRITE: u32 = 1 << 1;
    /// The device wanted to execute.
    pub const IOMMU_PGFAULT_PERM_EXEC: u32 = 1 << 2;
    /// The device wanted privileged access.
    pub const IOMMU_PGFAULT_PERM_PRIV: u32 = 1 << 3;

    /// Response: the page is there now, try again.
    pub const IOMMUFD_PAGE_RESP_SUCCESS: u32 = 0;
    /// Response: the access is not allowed.
    pub const IOMMUFD_PAGE_RESP_INVALID: u32 = 1;
}

command!(IommuFaultAlloc, IOMMU_FAULT_QUEUE_ALLOC, size, min 16);
self_contained!(IommuFaultAlloc);
