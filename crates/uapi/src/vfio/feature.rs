//! Device features: one ioctl for many small matters.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Argument of [`VFIO_DEVICE_FEATURE`].
    ///
    /// The payload of the feature follows in the same buffer.
    pub struct VfioDeviceFeature: 8 {
        /// Size of structure and payload in bytes.
        pub argsz: u32,
        /// Number of the feature, and what to do with it (`GET`, `SET`, `PROBE`).
        pub flags: u32,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP`].
    pub struct VfioDeviceLowPowerEntryWithWakeup: 8 {
        /// An eventfd that is signalled when the device has to wake up.
        pub wakeup_eventfd: i32,
        /// Unused.
        pub reserved: u32,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_DMA_LOGGING_START`].
    pub struct VfioDeviceFeatureDmaLoggingControl: 24 {
        /// Wanted page size of the log in bytes; zero for any. Out: the one in use.
        pub page_size: u64,
        /// Number of ranges.
        pub num_ranges: u32,
        /// Unused.
        pub reserved: u32,
        /// Address of the array of [`VfioDeviceFeatureDmaLoggingRange`].
        pub ranges: u64,
    }

    /// One range of addresses to log.
    pub struct VfioDeviceFeatureDmaLoggingRange: 16 {
        /// Start, as the device sees it.
        pub iova: u64,
        /// Length in bytes.
        pub length: u64,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT`].
    pub struct VfioDeviceFeatureDmaLoggingReport: 32 {
        /// Start, as the device sees it.
        pub iova: u64,
        /// Length in bytes.
        pub length: u64,
        /// Bytes for which each bit of the bitmap stands.
        pub page_size: u64,
        /// Address of the bitmap, which the kernel fills: an array of `u64`.
        pub bitmap: u64,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_BUS_MASTER`].
    pub struct VfioDeviceFeatureBusMaster: 4 {
        /// [`VFIO_DEVICE_FEATURE_CLEAR_MASTER`] or [`VFIO_DEVICE_FEATURE_SET_MASTER`].
        pub op: u32,
    }

    /// One part of a region that a dma-buf covers.
    pub struct VfioRegionDmaRange: 16 {
        /// Distance from the start of the region in bytes.
        pub offset: u64,
        /// Length in bytes.
        pub length: u64,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_DMA_BUF`].
    ///
    /// `nr_ranges` times [`VfioRegionDmaRange`] follow. The new descriptor is the result of the
    /// ioctl.
    pub struct VfioDeviceFeatureDmaBuf: 16 {
        /// Which BAR.
        pub region_index: u32,
        /// Flags of `open(2)` for the new descriptor.
        pub open_flags: u32,
        /// Zero.
        pub flags: u32,
        /// Number of ranges that follow.
        pub nr_ranges: u32,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_ZPCI_ERROR`].
    pub struct VfioDeviceFeatureZpciErr: 8 {
        /// Address of the buffer that the kernel fills with the error as the platform reports it; how
        /// long that is, [`VFIO_DEVICE_INFO_CAP_ZPCI_BASE`](super::VFIO_DEVICE_INFO_CAP_ZPCI_BASE) tells.
        pub data: u64,
    }
}

constants! {
    /// Device ioctl with [`VfioDeviceFeature`]: reads, sets or probes a feature.
    pub const VFIO_DEVICE_FEATURE: u32 = io(VFIO_BASE + 17);

    /// The bits that hold the number of the feature.
    pub const VFIO_DEVICE_FEATURE_MASK: u32 = 0xffff;
    /// Read the feature.
    pub const VFIO_DEVICE_FEATURE_GET: u32 = 1 << 16;
    /// Set the feature.
    pub const VFIO_DEVICE_FEATURE_SET: u32 = 1 << 17;
    /// Only ask whether reading or setting would be possible.
    pub const VFIO_DEVICE_FEATURE_PROBE: u32 = 1 << 18;

    /// Feature: the token that VFs of this function demand; a UUID of 16 bytes, to be set.
    pub const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: u32 = 0;
    /// Feature: what kinds of migration there are, see
    /// [`VfioDeviceFeatureMigration`](super::VfioDeviceFeatureMigration).
    pub const VFIO_DEVICE_FEATURE_MIGRATION: u32 = 1;
    /// Feature: migration state, see
    /// [`VfioDeviceFeatureMigState`](super::VfioDeviceFeatureMigState).
    pub const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: u32 = 2;
    /// Feature without payload, to be set: allow low power until the next access.
    pub const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: u32 = 3;
    /// Feature: low power with notice of waking up, see [`VfioDeviceLowPowerEntryWithWakeup`].
    pub const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: u32 = 4;
    /// Feature without payload, to be set: end low power.
    pub const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: u32 = 5;
    /// Feature: begin to log DMA writes, see [`VfioDeviceFeatureDmaLoggingControl`].
    pub const VFIO_DEVICE_FEATURE_DMA_LOGGING_START: u32 = 6;
    /// Feature without payload, to be set: stop to log DMA writes.
    pub const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: u32 = 7;
    /// Feature: read and clear the log, see [`VfioDeviceFeatureDmaLoggingReport`].
    pub const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: u32 = 8;
    /// Feature: how much data a migration takes, see
    /// [`VfioDeviceFeatureMigDataSize`](super::VfioDeviceFeatureMigDataSize).
    pub const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: u32 = 9;
    /// Feature: whether the device may begin DMA, see [`VfioDeviceFeatureBusMaster`].
    pub const VFIO_DEVICE_FEATURE_BUS_MASTER: u32 = 10;
    /// Feature: make a dma-buf of parts of a BAR, see [`VfioDeviceFeatureDmaBuf`].
    pub const VFIO_DEVICE_FEATURE_DMA_BUF: u32 = 11;
    /// Feature without payload, to be set: use the second version of
    /// [`VfioPrecopyInfo`](super::VfioPrecopyInfo).
    #[expect(non_upper_case_globals, reason = "the C name")]
    pub const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: u32 = 12;
    /// Feature: error of an s390 PCI function, see [`VfioDeviceFeatureZpciErr`].
    pub const VFIO_DEVICE_FEATURE_ZPCI_ERROR: u32 = 13;

    /// The device may not begin DMA.
    pub const VFIO_DEVICE_FEATURE_CLEAR_MASTER: u32 = 0;
    /// The device may begin DMA.
    pub const VFIO_DEVICE_FEATURE_SET_MASTER: u32 = 1;
}

// Not self-contained: the payloads of DMA logging and of the s390 error hold addresses.
command!(VfioDeviceFeature, VFIO_DEVICE_FEATURE, argsz, min 8);
