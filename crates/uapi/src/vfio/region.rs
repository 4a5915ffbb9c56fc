//! Regions of a device: BARs, ROM, configuration space and special ones.

use super::{VFIO_BASE, VfioInfoCapHeader};
use crate::io;

structs! {
    /// Argument of [`VFIO_DEVICE_GET_REGION_INFO`].
    ///
    /// Capabilities may follow in the same buffer. If they do not fit, `argsz` comes back as the
    /// size that would do, with `cap_offset` zero. Without the flag
    /// [`VFIO_REGION_INFO_FLAG_CAPS`] the field `cap_offset` means nothing.
    pub struct VfioRegionInfo: 32 {
        /// Size of the buffer in bytes; out: the size needed.
        pub argsz: u32,
        /// Out: `VFIO_REGION_INFO_FLAG_*`.
        pub flags: u32,
        /// Which region.
        pub index: u32,
        /// Out: offset in bytes of the first capability, or zero.
        pub cap_offset: u32,
        /// Out: size of the region in bytes; zero if it is absent.
        pub size: u64,
        /// Out: where the region begins in the device file.
        pub offset: u64,
    }

    /// One part of a region that can be mapped.
    pub struct VfioRegionSparseMmapArea: 16 {
        /// Distance from the start of the region in bytes.
        pub offset: u64,
        /// Size in bytes.
        pub size: u64,
    }

    /// Capability [`VFIO_REGION_INFO_CAP_SPARSE_MMAP`]: only parts of the region can be mapped.
    ///
    /// `nr_areas` times [`VfioRegionSparseMmapArea`] follow.
    pub struct VfioRegionInfoCapSparseMmap: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// Number of areas that follow.
        pub nr_areas: u32,
        /// Unused.
        pub reserved: u32,
    }

    /// Capability [`VFIO_REGION_INFO_CAP_TYPE`]: what a device-specific region holds.
    pub struct VfioRegionInfoCapType: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// `VFIO_REGION_TYPE_*`, or a PCI vendor id with [`VFIO_REGION_TYPE_PCI_VENDOR_TYPE`].
        pub type_: u32,
        /// `VFIO_REGION_SUBTYPE_*`; a number space of its own for each type.
        pub subtype: u32,
    }

    /// Capability [`VFIO_REGION_INFO_CAP_NVLINK2_SSATGT`]: address of the memory on the NVLink.
    pub struct VfioRegionInfoCapNvlink2Ssatgt: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// The target address.
        pub tgt: u64,
    }

    /// Capability [`VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD`]: speed of the NVLink.
    pub struct VfioRegionInfoCapNvlink2Lnkspd: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// The speed, as the device tree states it.
        pub link_speed: u32,
        /// Unused.
        pub pad: u32,
    }
}

constants! {
    /// Device ioctl with [`VfioRegionInfo`]: describes one region.
    pub const VFIO_DEVICE_GET_REGION_INFO: u32 = io(VFIO_BASE + 8);

    /// The region can be read.
    pub const VFIO_REGION_INFO_FLAG_READ: u32 = 1 << 0;
    /// The region can be written.
    pub const VFIO_REGION_INFO_FLAG_WRITE: u32 = 1 << 1;
    /// The region can be mapped.
    pub const VFIO_REGION_INFO_FLAG_MMAP: u32 = 1 << 2;
    /// Capabilities exist.
    pub const VFIO_REGION_INFO_FLAG_CAPS: u32 = 1 << 3;

    /// Region capability: [`VfioRegionInfoCapSparseMmap`].
    pub const VFIO_REGION_INFO_CAP_SPARSE_MMAP: u32 = 1;
    /// Region capability: [`VfioRegionInfoCapType`].
    pub const VFIO_REGION_INFO_CAP_TYPE: u32 = 2;
    /// Region capability, a head only: the page with the MSI-X table can be mapped too.
    pub const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: u32 = 3;
    /// Region capability: [`VfioRegionInfoCapNvlink2Ssatgt`].
    pub const VFIO_REGION_INFO_CAP_NVLINK2_SSATGT: u32 = 4;
    /// Region capability: [`VfioRegionInfoCapNvlink2Lnkspd`].
    pub const VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD: u32 = 5;

    /// Bit of a region type: the low half is a PCI vendor id.
    pub const VFIO_REGION_TYPE_PCI_VENDOR_TYPE: u32 = 1 << 31;
    /// The bits of a region type that hold the PCI vendor id.
    pub const VFIO_REGION_TYPE_PCI_VENDOR_MASK: u32 = 0xffff;
    /// Region type: graphics.
    pub const VFIO_REGION_TYPE_GFX: u32 = 1;
    /// Region type: s390 channel device.
    pub const VFIO_REGION_TYPE_CCW: u32 = 2;
    /// Region type: migration in its first version, which no driver offers any more.
    pub const VFIO_REGION_TYPE_MIGRATION_DEPRECATED: u32 = 3;

    /// Region subtype of vendor 8086: operation region of the integrated graphics.
    pub const VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION: u32 = 1;
    /// Region subtype of vendor 8086: configuration space of the host bridge.
    pub const VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG: u32 = 2;
    /// Region subtype of vendor 8086: configuration space of the LPC bridge.
    pub const VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG: u32 = 3;
    /// Region subtype of vendor 10de: memory of the GPU on the NVLink.
    pub const VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM: u32 = 1;
    /// Region subtype of vendor 1014: address translation shoot-down registers of the NVLink.
    pub const VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD: u32 = 1;
    /// Region subtype of graphics: [`VfioRegionGfxEdid`](super::VfioRegionGfxEdid).
    pub const VFIO_REGION_SUBTYPE_GFX_EDID: u32 = 1;
    /// Region subtype of a channel device: asynchronous commands.
    pub const VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD: u32 = 1;
    /// Region subtype of a channel device: subchannel information block.
    pub const VFIO_REGION_SUBTYPE_CCW_SCHIB: u32 = 2;
    /// Region subtype of a channel device: channel report word.
    pub const VFIO_REGION_SUBTYPE_CCW_CRW: u32 = 3;
    /// Region subtype of the first migration version.
    pub const VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED: u32 = 1;

    /// Region index of a PCI device: BAR 0.
    pub const VFIO_PCI_BAR0_REGION_INDEX: u32 = 0;
    /// Region index of a PCI device: BAR 1.
    pub const VFIO_PCI_BAR1_REGION_INDEX: u32 = 1;
    /// Region index of a PCI device: BAR 2.
    pub const VFIO_PCI_BAR2_REGION_INDEX: u32 = 2;
    /// Region index of a PCI device: BAR 3.
    pub const VFIO_PCI_BAR3_REGION_INDEX: u32 = 3;
    /// Region index of a PCI device: BAR 4.
    pub const VFIO_PCI_BAR4_REGION_INDEX: u32 = 4;
    /// Region index of a PCI device: BAR 5.
    pub const VFIO_PCI_BAR5_REGION_INDEX: u32 = 5;
    /// Region index of a PCI device: expansion ROM.
    pub const VFIO_PCI_ROM_REGION_INDEX: u32 = 6;
    /// Region index of a PCI device: configuration space.
    pub const VFIO_PCI_CONFIG_REGION_INDEX: u32 = 7;
    /// Region index of a PCI device: legacy VGA ranges.
    pub const VFIO_PCI_VGA_REGION_INDEX: u32 = 8;
    /// Number of fixed regions of a PCI device; device-specific ones come after.
    pub const VFIO_PCI_NUM_REGIONS: u32 = 9;

    /// Region index of an s390 channel device: the only fixed region.
    pub const VFIO_CCW_CONFIG_REGION_INDEX: u32 = 0;
    /// Number of fixed regions of an s390 channel device.
    pub const VFIO_CCW_NUM_REGIONS: u32 = 1;
}

command!(VfioRegionInfo, VFIO_DEVICE_GET_REGION_INFO, argsz, min 32);
self_contained!(VfioRegionInfo);
