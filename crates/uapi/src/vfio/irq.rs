//! Interrupts of a device.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Argument of [`VFIO_DEVICE_GET_IRQ_INFO`].
    pub struct VfioIrqInfo: 16 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Out: `VFIO_IRQ_INFO_*`.
        pub flags: u32,
        /// Which interrupt index.
        pub index: u32,
        /// Out: number of vectors; zero if the device has no such interrupt.
        pub count: u32,
    }

    /// Argument of [`VFIO_DEVICE_SET_IRQS`].
    ///
    /// The data follows in the same buffer: nothing, `count` bytes or `count` times an `i32`,
    /// whichever the flags say. `argsz` covers it.
    pub struct VfioIrqSet: 20 {
        /// Size of structure and data in bytes.
        pub argsz: u32,
        /// One `VFIO_IRQ_SET_DATA_*` and one `VFIO_IRQ_SET_ACTION_*`.
        pub flags: u32,
        /// Which interrupt index.
        pub index: u32,
        /// The first vector.
        pub start: u32,
        /// Number of vectors.
        pub count: u32,
    }
}

constants! {
    /// Device ioctl with [`VfioIrqInfo`]: describes one interrupt index.
    pub const VFIO_DEVICE_GET_IRQ_INFO: u32 = io(VFIO_BASE + 9);
    /// Device ioctl with [`VfioIrqSet`]: enables, disables, masks or injects interrupts.
    pub const VFIO_DEVICE_SET_IRQS: u32 = io(VFIO_BASE + 10);

    /// An eventfd can receive the interrupt.
    pub const VFIO_IRQ_INFO_EVENTFD: u32 = 1 << 0;
    /// The interrupt can be masked and unmasked.
    pub const VFIO_IRQ_INFO_MASKABLE: u32 = 1 << 1;
    /// The interrupt masks itself each time it fires.
    pub const VFIO_IRQ_INFO_AUTOMASKED: u32 = 1 << 2;
    /// The number of vectors cannot change while the index is enabled.
    pub const VFIO_IRQ_INFO_NORESIZE: u32 = 1 << 3;

    /// No data follows: the action goes to all vectors in the range.
    pub const VFIO_IRQ_SET_DATA_NONE: u32 = 1 << 0;
    /// A byte for each vector follows: the action goes to those that are not zero.
    pub const VFIO_IRQ_SET_DATA_BOOL: u32 = 1 << 1;
    /// An eventfd for each vector follows, or -1 for none.
    pub const VFIO_IRQ_SET_DATA_EVENTFD: u32 = 1 << 2;
    /// Action: mask.
    pub const VFIO_IRQ_SET_ACTION_MASK: u32 = 1 << 3;
    /// Action: unmask.
    pub const VFIO_IRQ_SET_ACTION_UNMASK: u32 = 1 << 4;
    /// Action: trigger, or with eventfds: say where to deliver.
    pub const VFIO_IRQ_SET_ACTION_TRIGGER: u32 = 1 << 5;
    /// All bits that state the kind of data.
    pub const VFIO_IRQ_SET_DATA_TYPE_MASK: u32 =
        VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD;
    /// All bits that state the action.
    pub const VFIO_IRQ_SET_ACTION_TYPE_MASK: u32 =
        VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;

    /// Interrupt index of a PCI device: the legacy interrupt pin.
    pub const VFIO_PCI_INTX_IRQ_INDEX: u32 = 0;
    /// Interrupt index of a PCI device: MSI.
    pub const VFIO_PCI_MSI_IRQ_INDEX: u32 = 1;
    /// Interrupt index of a PCI device: MSI-X.
    pub const VFIO_PCI_MSIX_IRQ_INDEX: u32 = 2;
    /// Interrupt index of a PCI device: an error was reported.
    pub const VFIO_PCI_ERR_IRQ_INDEX: u32 = 3;
    /// Interrupt index of a PCI device: the kernel asks to give the device back.
    pub const VFIO_PCI_REQ_IRQ_INDEX: u32 = 4;
    /// Number of interrupt indices of a PCI device.
    pub const VFIO_PCI_NUM_IRQS: u32 = 5;

    /// Interrupt index of an s390 channel device: input and output.
    pub const VFIO_CCW_IO_IRQ_INDEX: u32 = 0;
    /// Interrupt index of an s390 channel device: channel report.
    pub const VFIO_CCW_CRW_IRQ_INDEX: u32 = 1;
    /// Interrupt index of an s390 channel device: request to give the device back.
    pub const VFIO_CCW_REQ_IRQ_INDEX: u32 = 2;
    /// Number of interrupt indices of an s390 channel device.
    pub const VFIO_CCW_NUM_IRQS: u32 = 3;
}

command!(VfioIrqInfo, VFIO_DEVICE_GET_IRQ_INFO, argsz, min 16);
self_contained!(VfioIrqInfo);

command!(VfioIrqSet, VFIO_DEVICE_SET_IRQS, argsz, min 20);
self_contained!(VfioIrqSet);
