//! The type1 backend of a container.

use super::{VFIO_BASE, VfioInfoCapHeader};
use crate::io;

structs! {
    /// Argument of [`VFIO_IOMMU_GET_INFO`].
    ///
    /// Capabilities may follow in the same buffer. If they do not fit, `argsz` comes back as the
    /// size that would do, with `cap_offset` zero.
    pub struct VfioIommuType1Info: 24 {
        /// Size of the buffer in bytes; out: the size needed.
        pub argsz: u32,
        /// Out: `VFIO_IOMMU_INFO_*`.
        pub flags: u32,
        /// Out: bitmap of page sizes; bit n stands for 2^n bytes.
        pub iova_pgsizes: u64,
        /// Out: offset in bytes of the first capability, or zero.
        pub cap_offset: u32,
        /// Unused.
        pub pad: u32,
    }

    /// One range of usable device addresses.
    pub struct VfioIovaRange: 16 {
        /// The first address.
        pub start: u64,
        /// The last address.
        pub end: u64,
    }

    /// Capability [`VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE`]: which device addresses are usable.
    ///
    /// `nr_iovas` times [`VfioIovaRange`] follow.
    pub struct VfioIommuType1InfoCapIovaRange: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// Number of ranges that follow.
        pub nr_iovas: u32,
        /// Unused.
        pub reserved: u32,
    }

    /// Capability [`VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION`]: dirty pages can be tracked.
    pub struct VfioIommuType1InfoCapMigration: 32 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// Zero.
        pub flags: u32,
        /// Padding.
        pub pad: u32,
        /// Page sizes that a dirty bitmap may have; bit n stands for 2^n bytes.
        pub pgsize_bitmap: u64,
        /// The most bytes that a dirty bitmap may have.
        pub max_dirty_bitmap_size: u64,
    }

    /// Capability [`VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL`]: how many mappings are left.
    pub struct VfioIommuType1InfoDmaAvail: 12 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// Mappings that can still be made.
        pub avail: u32,
    }

    /// Argument of [`VFIO_IOMMU_MAP_DMA`].
    pub struct VfioIommuType1DmaMap: 32 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// `VFIO_DMA_MAP_FLAG_*`.
        pub flags: u32,
        /// Address in the process.
        pub vaddr: u64,
        /// Address for the device.
        pub iova: u64,
        /// Length in bytes.
        pub size: u64,
    }

    /// A dirty bitmap and where it lies.
    pub struct VfioBitmap: 24 {
        /// Bytes for which each bit stands.
        pub pgsize: u64,
        /// Size of the bitmap in bytes.
        pub size: u64,
        /// Address of the bitmap, which the kernel fills: an array of `u64`.
        pub data: u64,
    }

    /// Argument of [`VFIO_IOMMU_UNMAP_DMA`].
    ///
    /// With [`VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP`] a [`VfioBitmap`] follows in the same buffer.
    pub struct VfioIommuType1DmaUnmap: 24 {
        /// Size of structure and bitmap description in bytes.
        pub argsz: u32,
        /// `VFIO_DMA_UNMAP_FLAG_*`.
        pub flags: u32,
        /// Address for the device.
        pub iova: u64,
        /// Length in bytes; out: bytes unmapped.
        pub size: u64,
    }

    /// Argument of [`VFIO_IOMMU_DIRTY_PAGES`].
    ///
    /// With [`VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP`] a [`VfioIommuType1DirtyBitmapGet`] follows
    /// in the same buffer.
    pub struct VfioIommuType1DirtyBitmap: 8 {
        /// Size of structure and tail in bytes.
        pub argsz: u32,
        /// Exactly one of `VFIO_IOMMU_DIRTY_PAGES_FLAG_*`.
        pub flags: u32,
    }

    /// The range whose dirty pages are asked for.
    pub struct VfioIommuType1DirtyBitmapGet: 40 {
        /// Address for the device.
        pub iova: u64,
        /// Length in bytes.
        pub size: u64,
        /// Where the answer goes.
        pub bitmap: VfioBitmap,
    }
}

constants! {
    /// Container ioctl with [`VfioIommuType1Info`]: describes the backend.
    pub const VFIO_IOMMU_GET_INFO: u32 = io(VFIO_BASE + 12);
    /// Container ioctl with [`VfioIommuType1DmaMap`]: maps memory for devices.
    pub const VFIO_IOMMU_MAP_DMA: u32 = io(VFIO_BASE + 13);
    /// Container ioctl with [`VfioIommuType1DmaUnmap`]: takes mappings back.
    pub const VFIO_IOMMU_UNMAP_DMA: u32 = io(VFIO_BASE + 14);
    /// Container ioctl without argument: switches SPAPR translation on; type1 does not know it.
    pub const VFIO_IOMMU_ENABLE: u32 = io(VFIO_BASE + 15);
    /// Container ioctl without argument: switches SPAPR translation off; type1 does not know it.
    pub const VFIO_IOMMU_DISABLE: u32 = io(VFIO_BASE + 16);
    /// Container ioctl with [`VfioIommuType1DirtyBitmap`]: tracks dirty pages.
    pub const VFIO_IOMMU_DIRTY_PAGES: u32 = io(VFIO_BASE + 17);

    /// The field `iova_pgsizes` is filled.
    pub const VFIO_IOMMU_INFO_PGSIZES: u32 = 1 << 0;
    /// Capabilities exist.
    pub const VFIO_IOMMU_INFO_CAPS: u32 = 1 << 1;

    /// Type1 capability: [`VfioIommuType1InfoCapIovaRange`].
    pub const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: u32 = 1;
    /// Type1 capability: [`VfioIommuType1InfoCapMigration`].
    pub const VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: u32 = 2;
    /// Type1 capability: [`VfioIommuType1InfoDmaAvail`].
    pub const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL: u32 = 3;

    /// Devices may read.
    pub const VFIO_DMA_MAP_FLAG_READ: u32 = 1 << 0;
    /// Devices may write.
    pub const VFIO_DMA_MAP_FLAG_WRITE: u32 = 1 << 1;
    /// Give an existing mapping, whose process address was dropped, a new one.
    pub const VFIO_DMA_MAP_FLAG_VADDR: u32 = 1 << 2;

    /// Report the dirty pages of what is unmapped.
    pub const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP: u32 = 1 << 0;
    /// Unmap everything; address and length are zero.
    pub const VFIO_DMA_UNMAP_FLAG_ALL: u32 = 1 << 1;
    /// Keep the mapping, drop only its process address.
    pub const VFIO_DMA_UNMAP_FLAG_VADDR: u32 = 1 << 2;

    /// Begin to track dirty pages.
    pub const VFIO_IOMMU_DIRTY_PAGES_FLAG_START: u32 = 1 << 0;
    /// Stop to track dirty pages.
    pub const VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP: u32 = 1 << 1;
    /// Read the dirty pages of a range.
    pub const VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP: u32 = 1 << 2;
}

command!(VfioIommuType1Info, VFIO_IOMMU_GET_INFO, argsz, min 16);
self_contained!(VfioIommuType1Info);

// Not self-contained: it gives memory of the process to devices.
command!(VfioIommuType1DmaMap, VFIO_IOMMU_MAP_DMA, argsz, min 32);

// Not self-contained: the tail may hold the address of a bitmap.
command!(VfioIommuType1DmaUnmap, VFIO_IOMMU_UNMAP_DMA, argsz, min 24);

// Not self-contained: the tail may hold the address of a bitmap.
command!(VfioIommuType1DirtyBitmap, VFIO_IOMMU_DIRTY_PAGES, argsz, min 8);
