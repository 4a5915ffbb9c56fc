//! Device files: information, reset, and the tie to an IOMMUFD.

use super::{VFIO_BASE, VfioInfoCapHeader};
use crate::io;
use crate::table::Text;

structs! {
    /// Argument of [`VFIO_DEVICE_GET_INFO`].
    ///
    /// Capabilities may follow in the same buffer. If they do not fit, `argsz` comes back as the
    /// size that would do, with `cap_offset` zero.
    pub struct VfioDeviceInfo: 24 {
        /// Size of the buffer in bytes; out: the size needed.
        pub argsz: u32,
        /// Out: `VFIO_DEVICE_FLAGS_*`.
        pub flags: u32,
        /// Out: number of region indices.
        pub num_regions: u32,
        /// Out: number of interrupt indices.
        pub num_irqs: u32,
        /// Out: offset in bytes of the first capability, or zero.
        pub cap_offset: u32,
        /// Unused.
        pub pad: u32,
    }

    /// Capability [`VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP`]: atomic operations of the root port.
    pub struct VfioDeviceInfoCapPciAtomicComp: 16 {
        /// Head of the capability.
        pub header: VfioInfoCapHeader,
        /// `VFIO_PCI_ATOMIC_COMP*`.
        pub flags: u32,
        /// Unused.
        pub reserved: u32,
    }

    /// Argument of [`VFIO_DEVICE_IOEVENTFD`].
    pub struct VfioDeviceIoeventfd: 32 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Exactly one of `VFIO_DEVICE_IOEVENTFD_*`, the width of the write.
        pub flags: u32,
        /// Where to write, as an offset into the device file.
        pub offset: u64,
        /// What to write, in the low bits.
        pub data: u64,
        /// The eventfd that triggers the write, or -1 to take the arrangement back.
        pub fd: i32,
        /// Unused.
        pub reserved: u32,
    }

    /// Argument of [`VFIO_DEVICE_BIND_IOMMUFD`].
    pub struct VfioDeviceBindIommufd: 24 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// [`VFIO_DEVICE_BIND_FLAG_TOKEN`] or zero.
        pub flags: u32,
        /// Descriptor of the IOMMUFD context.
        pub iommufd: i32,
        /// Out: identifier of the device within that context.
        pub out_devid: u32,
        /// Address of a 16-byte UUID, the VF token; looked at only with the token flag.
        pub token_uuid_ptr: u64,
    }

    /// Argument of [`VFIO_DEVICE_ATTACH_IOMMUFD_PT`].
    pub struct VfioDeviceAttachIommufdPt: 16 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// [`VFIO_DEVICE_ATTACH_PASID`] or zero.
        pub flags: u32,
        /// Identifier of an IOAS or a page table; out: identifier of the page table now in use.
        pub pt_id: u32,
        /// The PASID to attach; looked at only with the PASID flag, which requires all 16 bytes.
        pub pasid: u32,
    }

    /// Argument of [`VFIO_DEVICE_DETACH_IOMMUFD_PT`].
    pub struct VfioDeviceDetachIommufdPt: 12 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// [`VFIO_DEVICE_DETACH_PASID`] or zero.
        pub flags: u32,
        /// The PASID to detach; looked at only with the PASID flag, which requires all 12 bytes.
        pub pasid: u32,
    }
}

constants! {
    /// Device ioctl with [`VfioDeviceInfo`]: describes the device.
    pub const VFIO_DEVICE_GET_INFO: u32 = io(VFIO_BASE + 7);
    /// Device ioctl without argument: resets the function.
    pub const VFIO_DEVICE_RESET: u32 = io(VFIO_BASE + 11);
    /// Device ioctl with [`VfioDeviceIoeventfd`]: lets the kernel write a register on an event.
    pub const VFIO_DEVICE_IOEVENTFD: u32 = io(VFIO_BASE + 16);
    /// Device ioctl with [`VfioDeviceBindIommufd`]: ties the device file to an IOMMUFD context.
    pub const VFIO_DEVICE_BIND_IOMMUFD: u32 = io(VFIO_BASE + 18);
    /// Device ioctl with [`VfioDeviceAttachIommufdPt`]: puts the device under a page table.
    pub const VFIO_DEVICE_ATTACH_IOMMUFD_PT: u32 = io(VFIO_BASE + 19);
    /// Device ioctl with [`VfioDeviceDetachIommufdPt`]: takes the device from its page table.
    pub const VFIO_DEVICE_DETACH_IOMMUFD_PT: u32 = io(VFIO_BASE + 20);

    /// The function can be reset.
    pub const VFIO_DEVICE_FLAGS_RESET: u32 = 1 << 0;
    /// A PCI device.
    pub const VFIO_DEVICE_FLAGS_PCI: u32 = 1 << 1;
    /// A platform device.
    pub const VFIO_DEVICE_FLAGS_PLATFORM: u32 = 1 << 2;
    /// An AMBA device.
    pub const VFIO_DEVICE_FLAGS_AMBA: u32 = 1 << 3;
    /// An s390 channel device.
    pub const VFIO_DEVICE_FLAGS_CCW: u32 = 1 << 4;
    /// An s390 adjunct processor.
    pub const VFIO_DEVICE_FLAGS_AP: u32 = 1 << 5;
    /// A device of the Freescale management complex.
    pub const VFIO_DEVICE_FLAGS_FSL_MC: u32 = 1 << 6;
    /// Capabilities exist.
    pub const VFIO_DEVICE_FLAGS_CAPS: u32 = 1 << 7;
    /// A device of the AMD CDX bus.
    pub const VFIO_DEVICE_FLAGS_CDX: u32 = 1 << 8;

    /// Device capability: s390 PCI, base values.
    pub const VFIO_DEVICE_INFO_CAP_ZPCI_BASE: u32 = 1;
    /// Device capability: s390 PCI, values of the function group.
    pub const VFIO_DEVICE_INFO_CAP_ZPCI_GROUP: u32 = 2;
    /// Device capability: s390 PCI, utility string.
    pub const VFIO_DEVICE_INFO_CAP_ZPCI_UTIL: u32 = 3;
    /// Device capability: s390 PCI, path of the physical function.
    pub const VFIO_DEVICE_INFO_CAP_ZPCI_PFIP: u32 = 4;
    /// Device capability: [`VfioDeviceInfoCapPciAtomicComp`].
    pub const VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP: u32 = 5;

    /// Atomic operations of 32 bits are completed.
    pub const VFIO_PCI_ATOMIC_COMP32: u32 = 1 << 0;
    /// Atomic operations of 64 bits are completed.
    pub const VFIO_PCI_ATOMIC_COMP64: u32 = 1 << 1;
    /// Compare-and-swap of 128 bits is completed.
    pub const VFIO_PCI_ATOMIC_COMP128: u32 = 1 << 2;

    /// The write is 1 byte wide.
    pub const VFIO_DEVICE_IOEVENTFD_8: u32 = 1 << 0;
    /// The write is 2 bytes wide.
    pub const VFIO_DEVICE_IOEVENTFD_16: u32 = 1 << 1;
    /// The write is 4 bytes wide.
    pub const VFIO_DEVICE_IOEVENTFD_32: u32 = 1 << 2;
    /// The write is 8 bytes wide.
    pub const VFIO_DEVICE_IOEVENTFD_64: u32 = 1 << 3;
    /// All bits that state a width.
    pub const VFIO_DEVICE_IOEVENTFD_SIZE_MASK: u32 = 0xf;

    /// The bind argument names a VF token.
    pub const VFIO_DEVICE_BIND_FLAG_TOKEN: u32 = 1 << 0;
    /// The attach concerns the PASID in the argument.
    pub const VFIO_DEVICE_ATTACH_PASID: u32 = 1 << 0;
    /// The detach concerns the PASID in the argument.
    pub const VFIO_DEVICE_DETACH_PASID: u32 = 1 << 0;

    /// Interrupt index of an adjunct processor: request to give the device back.
    pub const VFIO_AP_REQ_IRQ_INDEX: u32 = 0;
    /// Interrupt index of an adjunct processor: its configuration has changed.
    pub const VFIO_AP_CFG_CHG_IRQ_INDEX: u32 = 1;
    /// Number of interrupt indices of an adjunct processor.
    pub const VFIO_AP_NUM_IRQS: u32 = 2;
}

/// What a mediated device of PCI kind calls its interface in sysfs.
pub const VFIO_DEVICE_API_PCI_STRING: &str = "vfio-pci";
/// What a mediated device of platform kind calls its interface in sysfs.
pub const VFIO_DEVICE_API_PLATFORM_STRING: &str = "vfio-platform";
/// What a mediated device of AMBA kind calls its interface in sysfs.
pub const VFIO_DEVICE_API_AMBA_STRING: &str = "vfio-amba";
/// What a mediated s390 channel device calls its interface in sysfs.
pub const VFIO_DEVICE_API_CCW_STRING: &str = "vfio-ccw";
/// What a mediated s390 adjunct processor calls its interface in sysfs.
pub const VFIO_DEVICE_API_AP_STRING: &str = "vfio-ap";

/// The text constants of this file.
pub(crate) const TEXTS: &[Text] = &[
    Text { name: "VFIO_DEVICE_API_PCI_STRING", value: VFIO_DEVICE_API_PCI_STRING },
    Text { name: "VFIO_DEVICE_API_PLATFORM_STRING", value: VFIO_DEVICE_API_PLATFORM_STRING },
    Text { name: "VFIO_DEVICE_API_AMBA_STRING", value: VFIO_DEVICE_API_AMBA_STRING },
    Text { name: "VFIO_DEVICE_API_CCW_STRING", value: VFIO_DEVICE_API_CCW_STRING },
    Text { name: "VFIO_DEVICE_API_AP_STRING", value: VFIO_DEVICE_API_AP_STRING },
];

command!(VfioDeviceInfo, VFIO_DEVICE_GET_INFO, argsz, min 16);
self_contained!(VfioDeviceInfo);

command!(VfioDeviceIoeventfd, VFIO_DEVICE_IOEVENTFD, argsz, min 28);
self_contained!(VfioDeviceIoeventfd);

// Not self-contained: the kernel reads the token at `token_uuid_ptr`.
command!(VfioDeviceBindIommufd, VFIO_DEVICE_BIND_IOMMUFD, argsz, min 16);

command!(VfioDeviceAttachIommufdPt, VFIO_DEVICE_ATTACH_IOMMUFD_PT, argsz, min 12);
self_contained!(VfioDeviceAttachIommufdPt);

command!(VfioDeviceDetachIommufdPt, VFIO_DEVICE_DETACH_IOMMUFD_PT, argsz, min 8);
self_contained!(VfioDeviceDetachIommufdPt);
