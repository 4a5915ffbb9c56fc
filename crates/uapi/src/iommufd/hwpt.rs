//! Page tables (HWPT): making them, dirty tracking, invalidation.

use super::{
    IOMMUFD_CMD_HWPT_ALLOC, IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP, IOMMUFD_CMD_HWPT_INVALIDATE,
    IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING,
};
use crate::io;

structs! {
    /// Data for [`IOMMU_HWPT_DATA_VTD_S1`]: a first-stage table of Intel VT-d.
    pub struct IommuHwptVtdS1: 24 {
        /// `IOMMU_VTD_S1_*`.
        pub flags: u64,
        /// Where the top of the table lies, as an address of the guest.
        pub pgtbl_addr: u64,
        /// Address width of the table in bits.
        pub addr_width: u32,
        /// Zero.
        pub reserved: u32,
    }

    /// Data for [`IOMMU_HWPT_DATA_ARM_SMMUV3`]: a stream table entry of Arm SMMUv3.
    pub struct IommuHwptArmSmmuv3: 16 {
        /// The first two words of the entry, little endian.
        pub ste: [u64; 2],
    }

    /// Data for [`IOMMU_HWPT_DATA_AMD_GUEST`]: a device table entry of AMD.
    pub struct IommuHwptAmdGuest: 32 {
        /// The entry.
        pub dte: [u64; 4],
    }

    /// Argument of [`IOMMU_HWPT_ALLOC`].
    pub struct IommuHwptAlloc: 48 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// `IOMMU_HWPT_ALLOC_*` and [`IOMMU_HWPT_FAULT_ID_VALID`].
        pub flags: u32,
        /// Identifier of the device that the page table has to suit.
        pub dev_id: u32,
        /// Identifier of an IOAS, or of a parent page table or vIOMMU for a nested one.
        pub pt_id: u32,
        /// Out: identifier of the new page table.
        pub out_hwpt_id: u32,
        /// Zero.
        pub reserved: u32,
        /// `IOMMU_HWPT_DATA_*`.
        pub data_type: u32,
        /// Size of the data in bytes.
        pub data_len: u32,
        /// Address of the data.
        pub data_uptr: u64,
        /// Identifier of the fault queue, if the flag says so.
        pub fault_id: u32,
        /// Unused.
        pub reserved2: u32,
    }

    /// Argument of [`IOMMU_HWPT_SET_DIRTY_TRACKING`].
    pub struct IommuHwptSetDirtyTracking: 16 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// [`IOMMU_HWPT_DIRTY_TRACKING_ENABLE`] or zero to disable.
        pub flags: u32,
        /// Identifier of the page table.
        pub hwpt_id: u32,
        /// Unused.
        pub reserved: u32,
    }

    /// Argument of [`IOMMU_HWPT_GET_DIRTY_BITMAP`].
    pub struct IommuHwptGetDirtyBitmap: 48 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the page table.
        pub hwpt_id: u32,
        /// [`IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR`] or zero.
        pub flags: u32,
        /// Zero.
        pub reserved: u32,
        /// The IOVA.
        pub iova: u64,
        /// Length in bytes.
        pub length: u64,
        /// Bytes for which each bit of the bitmap stands.
        pub page_size: u64,
        /// Address of the bitmap, which the kernel fills: an array of `u64`.
        pub data: u64,
    }

    /// One entry for [`IOMMU_HWPT_INVALIDATE_DATA_VTD_S1`].
    pub struct IommuHwptVtdS1Invalidate: 24 {
        /// The first address to invalidate.
        pub addr: u64,
        /// Number of 4 KiB pages; `u64::MAX` with address zero for everything.
        pub npages: u64,
        /// [`IOMMU_VTD_INV_FLAGS_LEAF`] or zero.
        pub flags: u32,
        /// Zero.
        pub reserved: u32,
    }

    /// One entry for [`IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3`].
    pub struct IommuViommuArmSmmuv3Invalidate: 16 {
        /// A command of the SMMU's queue, little endian.
        pub cmd: [u64; 2],
    }

    /// Argument of [`IOMMU_HWPT_INVALIDATE`].
    pub struct IommuHwptInvalidate: 32 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the nested page table or vIOMMU.
        pub hwpt_id: u32,
        /// Address of the array of entries.
        pub data_uptr: u64,
        /// What the entries are.
        pub data_type: u32,
        /// Size of an entry in bytes.
        pub entry_len: u32,
        /// Number of entries; out: how many were handled.
        pub entry_num: u32,
        /// Zero.
        pub reserved: u32,
    }
}

constants! {
    /// Ioctl with [`IommuHwptAlloc`]: makes a page table.
    pub const IOMMU_HWPT_ALLOC: u32 = io(IOMMUFD_CMD_HWPT_ALLOC);
    /// Ioctl with [`IommuHwptSetDirtyTracking`]: begins or ends the tracking of dirty pages.
    pub const IOMMU_HWPT_SET_DIRTY_TRACKING: u32 = io(IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING);
    /// Ioctl with [`IommuHwptGetDirtyBitmap`]: reads the dirty pages of a range.
    pub const IOMMU_HWPT_GET_DIRTY_BITMAP: u32 = io(IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP);
    /// Ioctl with [`IommuHwptInvalidate`]: drops cached translations of a nested page table.
    pub const IOMMU_HWPT_INVALIDATE: u32 = io(IOMMUFD_CMD_HWPT_INVALIDATE);

    /// The page table may be the parent of nested ones.
    pub const IOMMU_HWPT_ALLOC_NEST_PARENT: u32 = 1 << 0;
    /// The page table can track dirty pages.
    pub const IOMMU_HWPT_ALLOC_DIRTY_TRACKING: u32 = 1 << 1;
    /// The argument names a fault queue.
    pub const IOMMU_HWPT_FAULT_ID_VALID: u32 = 1 << 2;
    /// The page table can be attached to a PASID.
    pub const IOMMU_HWPT_ALLOC_PASID: u32 = 1 << 3;

    /// Supervisor requests are allowed.
    pub const IOMMU_VTD_S1_SRE: u64 = 1 << 0;
    /// The extended accessed flag is kept.
    pub const IOMMU_VTD_S1_EAFE: u64 = 1 << 1;
    /// Write protection holds for supervisor requests too.
    pub const IOMMU_VTD_S1_WPE: u64 = 1 << 2;

    /// Page table data: none.
    pub const IOMMU_HWPT_DATA_NONE: u32 = 0;
    /// Page table data: [`IommuHwptVtdS1`].
    pub const IOMMU_HWPT_DATA_VTD_S1: u32 = 1;
    /// Page table data: [`IommuHwptArmSmmuv3`].
    pub const IOMMU_HWPT_DATA_ARM_SMMUV3: u32 = 2;
    /// Page table data: [`IommuHwptAmdGuest`].
    pub const IOMMU_HWPT_DATA_AMD_GUEST: u32 = 3;

    /// Track dirty pages.
    pub const IOMMU_HWPT_DIRTY_TRACKING_ENABLE: u32 = 1;
    /// Leave the dirty marks as they are.
    pub const IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: u32 = 1;

    /// Invalidation entries: [`IommuHwptVtdS1Invalidate`].
    pub const IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: u32 = 0;
    /// Invalidation entries: [`IommuViommuArmSmmuv3Invalidate`].
    pub const IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: u32 = 1;
    /// Only the last level of the table has changed.
    pub const IOMMU_VTD_INV_FLAGS_LEAF: u32 = 1 << 0;
}

// Not self-contained: the kernel reads the data at `data_uptr`.
command!(IommuHwptAlloc, IOMMU_HWPT_ALLOC, size, min 24);

command!(IommuHwptSetDirtyTracking, IOMMU_HWPT_SET_DIRTY_TRACKING, size, min 16);
self_contained!(IommuHwptSetDirtyTracking);

// Not self-contained: the kernel writes the bitmap at `data`.
command!(IommuHwptGetDirtyBitmap, IOMMU_HWPT_GET_DIRTY_BITMAP, size, min 48);

// Not self-contained: the kernel reads the entries at `data_uptr`.
command!(IommuHwptInvalidate, IOMMU_HWPT_INVALIDATE, size, min 32);
