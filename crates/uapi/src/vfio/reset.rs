//! Hot reset: resetting all functions behind one slot or bus together.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// One function that a hot reset affects.
    pub struct VfioPciDependentDevice: 8 {
        /// Who holds the function.
        ///
        /// With [`VFIO_PCI_HOT_RESET_FLAG_DEV_ID`]: its identifier in the caller's IOMMUFD
        /// context, [`VFIO_PCI_DEVID_OWNED`] or [`VFIO_PCI_DEVID_NOT_OWNED`]. Without: the number
        /// of its IOMMU group, which C names `group_id`.
        pub devid: u32,
        /// PCI segment (domain).
        pub segment: u16,
        /// PCI bus number.
        pub bus: u8,
        /// PCI device number times 8, plus function number.
        pub devfn: u8,
    }

    /// Argument of [`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`].
    ///
    /// `count` times [`VfioPciDependentDevice`] follow in the same buffer. If they do not fit, the
    /// call fails with `ENOSPC` and `count` set.
    pub struct VfioPciHotResetInfo: 12 {
        /// Size of structure and entries in bytes.
        pub argsz: u32,
        /// Out: `VFIO_PCI_HOT_RESET_FLAG_*`.
        pub flags: u32,
        /// Out: number of affected functions.
        pub count: u32,
    }

    /// Argument of [`VFIO_DEVICE_PCI_HOT_RESET`].
    ///
    /// `count` group descriptors (`i32`) follow in the same buffer. The kernel takes `count` at its
    /// word, whatever `argsz` says. A device file bound to an IOMMUFD wants no descriptors.
    pub struct VfioPciHotReset: 12 {
        /// Size of structure and descriptors in bytes.
        pub argsz: u32,
        /// Zero.
        pub flags: u32,
        /// Number of descriptors that follow.
        pub count: u32,
    }
}

constants! {
    /// Device ioctl with [`VfioPciHotResetInfo`]: lists the functions that a hot reset affects.
    pub const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: u32 = io(VFIO_BASE + 12);
    /// Device ioctl with [`VfioPciHotReset`]: resets the slot or bus.
    pub const VFIO_DEVICE_PCI_HOT_RESET: u32 = io(VFIO_BASE + 13);

    /// The function is not bound, but its IOMMU group belongs to the caller's context.
    pub const VFIO_PCI_DEVID_OWNED: u32 = 0;
    /// The function belongs to somebody else, or to nobody; written -1 in C.
    pub const VFIO_PCI_DEVID_NOT_OWNED: u32 = u32::MAX;
    /// The entries hold device identifiers instead of group numbers.
    pub const VFIO_PCI_HOT_RESET_FLAG_DEV_ID: u32 = 1 << 0;
    /// All affected functions belong to the caller.
    pub const VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED: u32 = 1 << 1;
}

command!(VfioPciHotResetInfo, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, argsz, min 12);
self_contained!(VfioPciHotResetInfo);

// Not self-contained: the kernel reads `count` descriptors without looking at `argsz`.
command!(VfioPciHotReset, VFIO_DEVICE_PCI_HOT_RESET, argsz, min 12);
