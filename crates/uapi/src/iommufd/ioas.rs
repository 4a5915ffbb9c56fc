//! Address spaces (IOAS): making them, mapping memory, asking for physical addresses.

use super::{
    IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_ALLOW_IOVAS, IOMMUFD_CMD_IOAS_CHANGE_PROCESS,
    IOMMUFD_CMD_IOAS_COPY, IOMMUFD_CMD_IOAS_IOVA_RANGES, IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_MAP_FILE,
    IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA, IOMMUFD_CMD_IOAS_UNMAP,
};
use crate::io;

structs! {
    /// Argument of [`IOMMU_IOAS_ALLOC`].
    pub struct IommuIoasAlloc: 12 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// Out: identifier of the new IOAS.
        pub out_ioas_id: u32,
    }

    /// One range of IOVAs.
    pub struct IommuIovaRange: 16 {
        /// The first address.
        pub start: u64,
        /// The last address.
        pub last: u64,
    }

    /// Argument of [`IOMMU_IOAS_IOVA_RANGES`].
    pub struct IommuIoasIovaRanges: 32 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// Room in the array, in ranges; out: how many ranges there are.
        pub num_iovas: u32,
        /// Zero.
        pub reserved: u32,
        /// Address of the array of [`IommuIovaRange`], which the kernel fills.
        pub allowed_iovas: u64,
        /// Out: what mappings must be aligned to, in bytes.
        pub out_iova_alignment: u64,
    }

    /// Argument of [`IOMMU_IOAS_ALLOW_IOVAS`].
    pub struct IommuIoasAllowIovas: 24 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// Number of ranges in the array; zero allows everything.
        pub num_iovas: u32,
        /// Zero.
        pub reserved: u32,
        /// Address of the array of [`IommuIovaRange`].
        pub allowed_iovas: u64,
    }

    /// Argument of [`IOMMU_IOAS_MAP`].
    pub struct IommuIoasMap: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// `IOMMU_IOAS_MAP_*`.
        pub flags: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// Zero.
        pub reserved: u32,
        /// Address in the process.
        pub user_va: u64,
        /// Length in bytes.
        pub length: u64,
        /// The IOVA, if the flag says that it is fixed; out: the IOVA in use.
        pub iova: u64,
    }

    /// Argument of [`IOMMU_IOAS_NOIOMMU_GET_PA`].
    pub struct IommuIoasNoiommuGetPa: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// Zero.
        pub reserved: u32,
        /// The IOVA to look up.
        pub iova: u64,
        /// How far to look, in bytes; out: bytes that are contiguous in physical memory.
        pub length: u64,
        /// Out: the physical address.
        pub out_phys: u64,
    }

    /// Argument of [`IOMMU_IOAS_MAP_FILE`].
    pub struct IommuIoasMapFile: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// `IOMMU_IOAS_MAP_*`.
        pub flags: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// Descriptor of a memory file or a dma-buf.
        pub fd: i32,
        /// Where in the file to begin, in bytes.
        pub start: u64,
        /// Length in bytes.
        pub length: u64,
        /// The IOVA, if the flag says that it is fixed; out: the IOVA in use.
        pub iova: u64,
    }

    /// Argument of [`IOMMU_IOAS_COPY`].
    pub struct IommuIoasCopy: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// `IOMMU_IOAS_MAP_*`, for the new mapping.
        pub flags: u32,
        /// Identifier of the IOAS that gets the new mapping.
        pub dst_ioas_id: u32,
        /// Identifier of the IOAS that has the old one.
        pub src_ioas_id: u32,
        /// Length in bytes.
        pub length: u64,
        /// The new IOVA, if the flag says that it is fixed; out: the IOVA in use.
        pub dst_iova: u64,
        /// The old IOVA.
        pub src_iova: u64,
    }

    /// Argument of [`IOMMU_IOAS_UNMAP`].
    ///
    /// IOVA zero with the length `u64::MAX` stands for everything.
    pub struct IommuIoasUnmap: 24 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the IOAS.
        pub ioas_id: u32,
        /// The IOVA.
        pub iova: u64,
        /// Length in bytes; out: bytes unmapped.
        pub length: u64,
    }

    /// Argument of [`IOMMU_IOAS_CHANGE_PROCESS`].
    pub struct IommuIoasChangeProcess: 8 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub reserved: u32,
    }
}

constants! {
    /// Ioctl with [`IommuIoasAlloc`]: makes an IOAS.
    pub const IOMMU_IOAS_ALLOC: u32 = io(IOMMUFD_CMD_IOAS_ALLOC);
    /// Ioctl with [`IommuIoasAllowIovas`]: keeps IOVAs outside some ranges from being chosen.
    pub const IOMMU_IOAS_ALLOW_IOVAS: u32 = io(IOMMUFD_CMD_IOAS_ALLOW_IOVAS);
    /// Ioctl with [`IommuIoasCopy`]: maps what is mapped once more.
    pub const IOMMU_IOAS_COPY: u32 = io(IOMMUFD_CMD_IOAS_COPY);
    /// Ioctl with [`IommuIoasIovaRanges`]: tells which IOVAs are usable.
    pub const IOMMU_IOAS_IOVA_RANGES: u32 = io(IOMMUFD_CMD_IOAS_IOVA_RANGES);
    /// Ioctl with [`IommuIoasMap`]: maps memory of the process.
    pub const IOMMU_IOAS_MAP: u32 = io(IOMMUFD_CMD_IOAS_MAP);
    /// Ioctl with [`IommuIoasUnmap`]: takes mappings back.
    pub const IOMMU_IOAS_UNMAP: u32 = io(IOMMUFD_CMD_IOAS_UNMAP);
    /// Ioctl with [`IommuIoasMapFile`]: maps memory of a file.
    pub const IOMMU_IOAS_MAP_FILE: u32 = io(IOMMUFD_CMD_IOAS_MAP_FILE);
    /// Ioctl with [`IommuIoasChangeProcess`]: charges the pinned memory to the calling process.
    pub const IOMMU_IOAS_CHANGE_PROCESS: u32 = io(IOMMUFD_CMD_IOAS_CHANGE_PROCESS);
    /// Ioctl with [`IommuIoasNoiommuGetPa`]: tells the physical address behind an IOVA.
    pub const IOMMU_IOAS_NOIOMMU_GET_PA: u32 = io(IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA);

    /// The caller states the IOVA; otherwise the kernel chooses it.
    pub const IOMMU_IOAS_MAP_FIXED_IOVA: u32 = 1 << 0;
    /// Devices may write.
    pub const IOMMU_IOAS_MAP_WRITEABLE: u32 = 1 << 1;
    /// Devices may read.
    pub const IOMMU_IOAS_MAP_READABLE: u32 = 1 << 2;
}

command!(IommuIoasAlloc, IOMMU_IOAS_ALLOC, size, min 12);
self_contained!(IommuIoasAlloc);

// Not self-contained: the kernel writes the array at `allowed_iovas`.
command!(IommuIoasIovaRanges, IOMMU_IOAS_IOVA_RANGES, size, min 32);

// Not self-contained: the kernel reads the array at `allowed_iovas`.
command!(IommuIoasAllowIovas, IOMMU_IOAS_ALLOW_IOVAS, size, min 24);

// Not self-contained: it gives memory of the process to devices.
command!(IommuIoasMap, IOMMU_IOAS_MAP, size, min 40);

command!(IommuIoasNoiommuGetPa, IOMMU_IOAS_NOIOMMU_GET_PA, size, min 40);
self_contained!(IommuIoasNoiommuGetPa);

// Not self-contained: the process may have mapped the file too.
command!(IommuIoasMapFile, IOMMU_IOAS_MAP_FILE, size, min 40);

// Not self-contained: it widens who reaches the memory.
command!(IommuIoasCopy, IOMMU_IOAS_COPY, size, min 40);

command!(IommuIoasUnmap, IOMMU_IOAS_UNMAP, size, min 24);
self_contained!(IommuIoasUnmap);

command!(IommuIoasChangeProcess, IOMMU_IOAS_CHANGE_PROCESS, size, min 8);
self_contained!(IommuIoasChangeProcess);
