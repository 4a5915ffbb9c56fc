//! Virtual IOMMUs: slices of the hardware for a guest, with their devices, events and queues.

use super::{
    IOMMUFD_CMD_HW_QUEUE_ALLOC, IOMMUFD_CMD_VDEVICE_ALLOC, IOMMUFD_CMD_VEVENTQ_ALLOC,
    IOMMUFD_CMD_VIOMMU_ALLOC,
};
use crate::io;

structs! {
    /// Data for [`IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV`].
    pub struct IommuViommuTegra241Cmdqv: 16 {
        /// Out: where the registers of the virtual interface can be mapped, in the IOMMUFD file.
        pub out_vintf_mmap_offset: u64,
        /// Out: their length in bytes.
        pub out_vintf_mmap_length: u64,
    }

    /// Argument of [`IOMMU_VIOMMU_ALLOC`].
    pub struct IommuViommuAlloc: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// `IOMMU_VIOMMU_TYPE_*`.
        pub type_: u32,
        /// Identifier of a device behind the IOMMU.
        pub dev_id: u32,
        /// Identifier of the parent page table.
        pub hwpt_id: u32,
        /// Out: identifier of the new vIOMMU.
        pub out_viommu_id: u32,
        /// Size of the data in bytes.
        pub data_len: u32,
        /// Unused.
        pub reserved: u32,
        /// Address of the data, which the kernel reads and fills.
        pub data_uptr: u64,
    }

    /// Argument of [`IOMMU_VDEVICE_ALLOC`].
    pub struct IommuVdeviceAlloc: 24 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Identifier of the vIOMMU.
        pub viommu_id: u32,
        /// Identifier of the device.
        pub dev_id: u32,
        /// Out: identifier of the new virtual device.
        pub out_vdevice_id: u32,
        /// What the guest's IOMMU calls the device.
        pub virt_id: u64,
    }

    /// Head of one event, read from the descriptor of an event queue.
    pub struct IommufdVeventHeader: 8 {
        /// [`IOMMU_VEVENTQ_FLAG_LOST_EVENTS`] or zero.
        pub flags: u32,
        /// Number of the event; a gap means that events were lost.
        pub sequence: u32,
    }

    /// Event of [`IOMMU_VEVENTQ_TYPE_ARM_SMMUV3`].
    pub struct IommuVeventArmSmmuv3: 32 {
        /// An entry of the SMMU's event queue, little endian.
        pub evt: [u64; 4],
    }

    /// Event of [`IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV`].
    pub struct IommuVeventTegra241Cmdqv: 16 {
        /// One bit for each queue that has failed, little endian.
        pub lvcmdq_err_map: [u64; 2],
    }

    /// Argument of [`IOMMU_VEVENTQ_ALLOC`].
    pub struct IommuVeventqAlloc: 32 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// Identifier of the vIOMMU.
        pub viommu_id: u32,
        /// `IOMMU_VEVENTQ_TYPE_*`.
        pub type_: u32,
        /// The most events that wait in the queue.
        pub veventq_depth: u32,
        /// Out: identifier of the new queue.
        pub out_veventq_id: u32,
        /// Out: its descriptor, which the caller has to close.
        pub out_veventq_fd: u32,
        /// Zero.
        pub reserved: u32,
    }

    /// Argument of [`IOMMU_HW_QUEUE_ALLOC`].
    pub struct IommuHwQueueAlloc: 40 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// Zero.
        pub flags: u32,
        /// Identifier of the vIOMMU.
        pub viommu_id: u32,
        /// `IOMMU_HW_QUEUE_TYPE_*`.
        pub type_: u32,
        /// Which queue of the vIOMMU.
        pub index: u32,
        /// Out: identifier of the new queue.
        pub out_hw_queue_id: u32,
        /// Where the queue's memory lies, as an address of the parent page table.
        pub nesting_parent_iova: u64,
        /// Length of the queue's memory in bytes.
        pub length: u64,
    }
}

constants! {
    /// Ioctl with [`IommuViommuAlloc`]: makes a vIOMMU.
    pub const IOMMU_VIOMMU_ALLOC: u32 = io(IOMMUFD_CMD_VIOMMU_ALLOC);
    /// Ioctl with [`IommuVdeviceAlloc`]: tells a vIOMMU what the guest calls a device.
    pub const IOMMU_VDEVICE_ALLOC: u32 = io(IOMMUFD_CMD_VDEVICE_ALLOC);
    /// Ioctl with [`IommuVeventqAlloc`]: makes a queue for events of a vIOMMU.
    pub const IOMMU_VEVENTQ_ALLOC: u32 = io(IOMMUFD_CMD_VEVENTQ_ALLOC);
    /// Ioctl with [`IommuHwQueueAlloc`]: lets the hardware work on a queue of the guest.
    pub const IOMMU_HW_QUEUE_ALLOC: u32 = io(IOMMUFD_CMD_HW_QUEUE_ALLOC);

    /// Kind of vIOMMU: none, which is refused.
    pub const IOMMU_VIOMMU_TYPE_DEFAULT: u32 = 0;
    /// Kind of vIOMMU: Arm SMMUv3.
    pub const IOMMU_VIOMMU_TYPE_ARM_SMMUV3: u32 = 1;
    /// Kind of vIOMMU: Arm SMMUv3 with the command queues of Tegra241.
    pub const IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: u32 = 2;

    /// Events were lost here because the queue was full.
    pub const IOMMU_VEVENTQ_FLAG_LOST_EVENTS: u32 = 1 << 0;
    /// Kind of events: none, which is refused.
    pub const IOMMU_VEVENTQ_TYPE_DEFAULT: u32 = 0;
    /// Kind of events: [`IommuVeventArmSmmuv3`].
    pub const IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: u32 = 1;
    /// Kind of events: [`IommuVeventTegra241Cmdqv`].
    pub const IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: u32 = 2;

    /// Kind of queue: none, which is refused.
    pub const IOMMU_HW_QUEUE_TYPE_DEFAULT: u32 = 0;
    /// Kind of queue: a command queue of Tegra241.
    pub const IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV: u32 = 1;
}

// Not self-contained: the kernel reads and writes the data at `data_uptr`.
command!(IommuViommuAlloc, IOMMU_VIOMMU_ALLOC, size, min 24);

command!(IommuVdeviceAlloc, IOMMU_VDEVICE_ALLOC, size, min 24);
self_contained!(IommuVdeviceAlloc);

command!(IommuVeventqAlloc, IOMMU_VEVENTQ_ALLOC, size, min 28);
self_contained!(IommuVeventqAlloc);

// Not self-contained: it lets hardware work on memory.
command!(IommuHwQueueAlloc, IOMMU_HW_QUEUE_ALLOC, size, min 40);
