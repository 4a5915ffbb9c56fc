//! Migration of a device's state.

use super::VFIO_BASE;
use crate::io;

structs! {
    /// Payload of [`VFIO_DEVICE_FEATURE_MIGRATION`](super::VFIO_DEVICE_FEATURE_MIGRATION).
    pub struct VfioDeviceFeatureMigration: 8 {
        /// Out: `VFIO_MIGRATION_*`.
        pub flags: u64,
    }

    /// Payload of
    /// [`VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`](super::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE).
    pub struct VfioDeviceFeatureMigState: 8 {
        /// `VFIO_DEVICE_STATE_*`: the wanted state, or on reading the present one.
        pub device_state: u32,
        /// Out: descriptor of the migration data, or -1.
        pub data_fd: i32,
    }

    /// Argument of [`VFIO_MIG_GET_PRECOPY_INFO`].
    pub struct VfioPrecopyInfo: 24 {
        /// Size of the argument in bytes.
        pub argsz: u32,
        /// Out: [`VFIO_PRECOPY_INFO_REINIT`] or zero.
        pub flags: u32,
        /// Out: bytes of the first portion that are left to read.
        pub initial_bytes: u64,
        /// Out: bytes that have changed and are left to read.
        pub dirty_bytes: u64,
    }

    /// Payload of [`VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`](super::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE).
    pub struct VfioDeviceFeatureMigDataSize: 8 {
        /// Out: estimated bytes of the stop-and-copy phase.
        pub stop_copy_length: u64,
    }

    /// Start of the region of the first migration version, which no driver offers any more.
    pub struct VfioDeviceMigrationInfo: 32 {
        /// `VFIO_DEVICE_STATE_V1_*`.
        pub device_state: u32,
        /// Unused.
        pub reserved: u32,
        /// Bytes left to read.
        pub pending_bytes: u64,
        /// Where the data lies, from the start of the region in bytes.
        pub data_offset: u64,
        /// Size of the data in bytes.
        pub data_size: u64,
    }
}

constants! {
    /// Migration data ioctl with [`VfioPrecopyInfo`]: how much is left to copy.
    pub const VFIO_MIG_GET_PRECOPY_INFO: u32 = io(VFIO_BASE + 21);

    /// The device can be stopped and copied.
    pub const VFIO_MIGRATION_STOP_COPY: u64 = 1 << 0;
    /// The device knows the states without peer-to-peer traffic.
    pub const VFIO_MIGRATION_P2P: u64 = 1 << 1;
    /// The device can be copied while it runs.
    pub const VFIO_MIGRATION_PRE_COPY: u64 = 1 << 2;

    /// State: failed; only a reset helps.
    pub const VFIO_DEVICE_STATE_ERROR: u32 = 0;
    /// State: stopped.
    pub const VFIO_DEVICE_STATE_STOP: u32 = 1;
    /// State: running, as after opening.
    pub const VFIO_DEVICE_STATE_RUNNING: u32 = 2;
    /// State: stopped, with its state to be read.
    pub const VFIO_DEVICE_STATE_STOP_COPY: u32 = 3;
    /// State: stopped, with a state to be written.
    pub const VFIO_DEVICE_STATE_RESUMING: u32 = 4;
    /// State: running without beginning peer-to-peer traffic.
    pub const VFIO_DEVICE_STATE_RUNNING_P2P: u32 = 5;
    /// State: running, with its state to be read meanwhile.
    pub const VFIO_DEVICE_STATE_PRE_COPY: u32 = 6;
    /// State: like pre-copy, without beginning peer-to-peer traffic.
    pub const VFIO_DEVICE_STATE_PRE_COPY_P2P: u32 = 7;
    /// Number of states.
    pub const VFIO_DEVICE_STATE_NR: u32 = 8;

    /// The first portion has begun anew.
    pub const VFIO_PRECOPY_INFO_REINIT: u32 = 1 << 0;

    /// State of the first version: stopped.
    pub const VFIO_DEVICE_STATE_V1_STOP: u32 = 0;
    /// State bit of the first version: running.
    pub const VFIO_DEVICE_STATE_V1_RUNNING: u32 = 1 << 0;
    /// State bit of the first version: being saved.
    pub const VFIO_DEVICE_STATE_V1_SAVING: u32 = 1 << 1;
    /// State bit of the first version: being restored.
    pub const VFIO_DEVICE_STATE_V1_RESUMING: u32 = 1 << 2;
    /// All state bits of the first version.
    pub const VFIO_DEVICE_STATE_MASK: u32 =
        VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING;
}

command!(VfioPrecopyInfo, VFIO_MIG_GET_PRECOPY_INFO, argsz, min 24);
self_contained!(VfioPrecopyInfo);
