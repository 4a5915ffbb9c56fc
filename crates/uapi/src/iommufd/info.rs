//! What the IOMMU of a device is.

use super::IOMMUFD_CMD_GET_HW_INFO;
use crate::io;

structs! {
    /// Description of an Intel VT-d unit.
    pub struct IommuHwInfoVtd: 24 {
        /// [`IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17`] or zero.
        pub flags: u32,
        /// Zero.
        pub reserved: u32,
        /// The capability register.
        pub cap_reg: u64,
        /// The extended capability register.
        pub ecap_reg: u64,
    }

    /// Description of an Arm SMMUv3.
    pub struct IommuHwInfoArmSmmuv3: 40 {
        /// [`IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI`] or zero.
        pub flags: u32,
        /// Zero.
        pub reserved: u32,
        /// The registers IDR0 to IDR5.
        pub idr: [u32; 6],
        /// The register IIDR.
        pub iidr: u32,
        /// The register AIDR.
        pub aidr: u32,
    }

    /// Description of the command queue virtualization of Tegra241.
    pub struct IommuHwInfoTegra241Cmdqv: 8 {
        /// Zero.
        pub flags: u32,
        /// Version of the unit.
        pub version: u8,
        /// Number of virtual command queues, as a power of two.
        pub log2vcmdqs: u8,
        /// Number of virtual stream identifiers, as a power of two.
        pub log2vsids: u8,
        /// Zero.
        pub reserved: u8,
    }

    /// Description of an AMD IOMMU.
    pub struct IommuHwInfoAmd: 16 {
        /// The extended feature register.
        pub efr: u64,
        /// The second extended feature register.
        pub efr2: u64,
    }

    /// Argument of [`IOMMU_GET_HW_INFO`].
    pub struct IommuHwInfo: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// [`IOMMU_HW_INFO_FLAG_INPUT_TYPE`] or zero.
        pub flags: u32,
        /// Identifier of the device.
        pub dev_id: u32,
        /// Room for the description in bytes; out: how many bytes the kernel has to tell.
        pub data_len: u32,
        /// Address of the description, which the kernel fills.
        pub data_uptr: u64,
        /// Out: `IOMMU_HW_INFO_TYPE_*`, what the description is.
        ///
        /// In, with the flag: the wanted one. C names this second meaning `in_data_type`.
        pub out_data_type: u32,
        /// Out: number of PASIDs, as a power of two; zero if there are none.
        pub out_max_pasid_log2: u8,
        /// Zero.
        pub reserved: [u8; 3],
        /// Out: `IOMMU_HW_CAP_*`.
        pub out_capabilities: u64,
    }
}

constants! {
    /// Ioctl with [`IommuHwInfo`]: describes the IOMMU of a device.
    pub const IOMMU_GET_HW_INFO: u32 = io(IOMMUFD_CMD_GET_HW_INFO);

    /// Erratum: no read-only mappings in a parent of nested page tables.
    pub const IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: u32 = 1 << 0;
    /// Erratum: some invalidations have to be given twice.
    pub const IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI: u32 = 1 << 0;

    /// Description: none.
    pub const IOMMU_HW_INFO_TYPE_NONE: u32 = 0;
    /// Wanted description: whichever there is.
    pub const IOMMU_HW_INFO_TYPE_DEFAULT: u32 = 0;
    /// Description: [`IommuHwInfoVtd`].
    pub const IOMMU_HW_INFO_TYPE_INTEL_VTD: u32 = 1;
    /// Description: [`IommuHwInfoArmSmmuv3`].
    pub const IOMMU_HW_INFO_TYPE_ARM_SMMUV3: u32 = 2;
    /// Description: [`IommuHwInfoTegra241Cmdqv`].
    pub const IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: u32 = 3;
    /// Description: [`IommuHwInfoAmd`].
    pub const IOMMU_HW_INFO_TYPE_AMD: u32 = 4;

    /// Page tables can track dirty pages.
    pub const IOMMU_HW_CAP_DIRTY_TRACKING: u64 = 1 << 0;
    /// The device may execute under a PASID.
    pub const IOMMU_HW_CAP_PCI_PASID_EXEC: u64 = 1 << 1;
    /// The device may make privileged requests under a PASID.
    pub const IOMMU_HW_CAP_PCI_PASID_PRIV: u64 = 1 << 2;
    /// The device cannot use address translation services.
    pub const IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: u64 = 1 << 3;

    /// The argument states the wanted description.
    pub const IOMMU_HW_INFO_FLAG_INPUT_TYPE: u32 = 1 << 0;
}

// Not self-contained: the kernel writes the description at `data_uptr`.
command!(IommuHwInfo, IOMMU_GET_HW_INFO, size, min 32);
