//! The SPAPR TCE backend of a container and enhanced error handling, both of POWER machines.
//!
//! The rest of the project does not use them; they complete the interface.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Dynamic DMA windows that the machine allows.
    pub struct VfioIommuSpaprTceDdwInfo: 16 {
        /// Bitmap of page sizes; bit n stands for 2^n bytes.
        pub pgsizes: u64,
        /// The most windows that can be made.
        pub max_dynamic_windows_supported: u32,
        /// The most table levels.
        pub levels: u32,
    }

    /// Argument of [`VFIO_IOMMU_SPAPR_TCE_GET_INFO`].
    pub struct VfioIommuSpaprTceInfo: 32 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Out: [`VFIO_IOMMU_SPAPR_INFO_DDW`] or zero.
        pub flags: u32,
        /// Out: bus address of the 32-bit window.
        pub dma32_window_start: u32,
        /// Out: size of the 32-bit window in bytes.
        pub dma32_window_size: u32,
        /// Out: dynamic windows, if the flag says so.
        pub ddw: VfioIommuSpaprTceDdwInfo,
    }

    /// An error to inject.
    pub struct VfioEehPeErr: 24 {
        /// Width of the address: 0 for 32 bits, 1 for 64.
        pub type_: u32,
        /// What fails.
        pub func: u32,
        /// Bus address.
        pub addr: u64,
        /// Mask of the bus address.
        pub mask: u64,
    }

    /// Argument of [`VFIO_EEH_PE_OP`].
    pub struct VfioEehPeOp: 40 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Zero.
        pub flags: u32,
        /// `VFIO_EEH_PE_*`.
        pub op: u32,
        /// Padding.
        pub pad: u32,
        /// For [`VFIO_EEH_PE_INJECT_ERR`], which requires all 40 bytes.
        pub err: VfioEehPeErr,
    }

    /// Argument of [`VFIO_IOMMU_SPAPR_REGISTER_MEMORY`] and of
    /// [`VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY`]; as a [`Command`](crate::Command) the first.
    pub struct VfioIommuSpaprRegisterMemory: 24 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Zero.
        pub flags: u32,
        /// Address in the process.
        pub vaddr: u64,
        /// Length in bytes.
        pub size: u64,
    }

    /// Argument of [`VFIO_IOMMU_SPAPR_TCE_CREATE`].
    pub struct VfioIommuSpaprTceCreate: 40 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Zero.
        pub flags: u32,
        /// Page size of the window as a power of two.
        pub page_shift: u32,
        /// Unused.
        pub resv1: u32,
        /// Size of the window in bytes.
        pub window_size: u64,
        /// Table levels.
        pub levels: u32,
        /// Unused.
        pub resv2: u32,
        /// Out: bus address of the window.
        pub start_addr: u64,
    }

    /// Argument of [`VFIO_IOMMU_SPAPR_TCE_REMOVE`].
    pub struct VfioIommuSpaprTceRemove: 16 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Zero.
        pub flags: u32,
        /// Bus address of the window.
        pub start_addr: u64,
    }
}

constants! {
    /// Container ioctl with [`VfioIommuSpaprTceInfo`]: describes the DMA windows.
    pub const VFIO_IOMMU_SPAPR_TCE_GET_INFO: u32 = io(VFIO_BASE + 12);
    /// Container ioctl with [`VfioEehPeOp`]: error handling of a partitionable endpoint.
    pub const VFIO_EEH_PE_OP: u32 = io(VFIO_BASE + 21);
    /// Container ioctl with [`VfioIommuSpaprRegisterMemory`]: readies memory for mapping.
    pub const VFIO_IOMMU_SPAPR_REGISTER_MEMORY: u32 = io(VFIO_BASE + 17);
    /// Container ioctl with [`VfioIommuSpaprRegisterMemory`]: takes that back.
    pub const VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY: u32 = io(VFIO_BASE + 18);
    /// Container ioctl with [`VfioIommuSpaprTceCreate`]: makes a DMA window.
    pub const VFIO_IOMMU_SPAPR_TCE_CREATE: u32 = io(VFIO_BASE + 19);
    /// Container ioctl with [`VfioIommuSpaprTceRemove`]: removes a DMA window.
    pub const VFIO_IOMMU_SPAPR_TCE_REMOVE: u32 = io(VFIO_BASE + 20);

    /// Dynamic windows are possible.
    pub const VFIO_IOMMU_SPAPR_INFO_DDW: u32 = 1 << 0;

    /// Operation: switch error handling off.
    pub const VFIO_EEH_PE_DISABLE: u32 = 0;
    /// Operation: switch error handling on.
    pub const VFIO_EEH_PE_ENABLE: u32 = 1;
    /// Operation: let register access through again.
    pub const VFIO_EEH_PE_UNFREEZE_IO: u32 = 2;
    /// Operation: let DMA through again.
    pub const VFIO_EEH_PE_UNFREEZE_DMA: u32 = 3;
    /// Operation: return the state.
    pub const VFIO_EEH_PE_GET_STATE: u32 = 4;
    /// State: working.
    pub const VFIO_EEH_PE_STATE_NORMAL: u32 = 0;
    /// State: in reset.
    pub const VFIO_EEH_PE_STATE_RESET: u32 = 1;
    /// State: register access and DMA stopped.
    pub const VFIO_EEH_PE_STATE_STOPPED: u32 = 2;
    /// State: DMA stopped.
    pub const VFIO_EEH_PE_STATE_STOPPED_DMA: u32 = 4;
    /// State: not available.
    pub const VFIO_EEH_PE_STATE_UNAVAIL: u32 = 5;
    /// Operation: end a reset.
    pub const VFIO_EEH_PE_RESET_DEACTIVATE: u32 = 5;
    /// Operation: begin a hot reset.
    pub const VFIO_EEH_PE_RESET_HOT: u32 = 6;
    /// Operation: begin a fundamental reset.
    pub const VFIO_EEH_PE_RESET_FUNDAMENTAL: u32 = 7;
    /// Operation: configure anew after a reset.
    pub const VFIO_EEH_PE_CONFIGURE: u32 = 8;
    /// Operation: inject an error.
    pub const VFIO_EEH_PE_INJECT_ERR: u32 = 9;
}

command!(VfioIommuSpaprTceInfo, VFIO_IOMMU_SPAPR_TCE_GET_INFO, argsz, min 16);
self_contained!(VfioIommuSpaprTceInfo);

command!(VfioEehPeOp, VFIO_EEH_PE_OP, argsz, min 12);
self_contained!(VfioEehPeOp);

// Not self-contained: it gives memory of the process to the kernel.
command!(VfioIommuSpaprRegisterMemory, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, argsz, min 24);

command!(VfioIommuSpaprTceCreate, VFIO_IOMMU_SPAPR_TCE_CREATE, argsz, min 40);
self_contained!(VfioIommuSpaprTceCreate);

command!(VfioIommuSpaprTceRemove, VFIO_IOMMU_SPAPR_TCE_REMOVE, argsz, min 16);
self_contained!(VfioIommuSpaprTceRemove);
