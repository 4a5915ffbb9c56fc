//! Structures and numbers of the NVMe Base Specification, revision 1.4.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The page size that the driver runs the controller with (CC.MPS = 0), in bytes.
pub(crate) const PAGE: usize = 4096;

/// Controller registers in BAR 0 (section 3.1).
pub(crate) mod register {
    /// CAP: what the controller can do (64 bits).
    pub(crate) const CAP: usize = 0x00;
    /// VS: version (32 bits).
    pub(crate) const VS: usize = 0x08;
    /// CC: configuration (32 bits).
    pub(crate) const CC: usize = 0x14;
    /// CSTS: status (32 bits).
    pub(crate) const CSTS: usize = 0x1c;
    /// AQA: sizes of the admin queues (32 bits).
    pub(crate) const AQA: usize = 0x24;
    /// ASQ: address of the admin submission queue (64 bits).
    pub(crate) const ASQ: usize = 0x28;
    /// ACQ: address of the admin completion queue (64 bits).
    pub(crate) const ACQ: usize = 0x30;
    /// The first doorbell.
    pub(crate) const DOORBELLS: usize = 0x1000;
}

/// CC: I/O completion queue entries of 16 bytes, submission queue entries of 64 bytes, NVM command set, round
/// robin, 4 KiB pages, enabled.
pub(crate) const CC_ENABLE: u32 = 4 << 20 | 6 << 16 | 1;
/// CC.SHN: normal shutdown.
pub(crate) const CC_SHUTDOWN: u32 = 1 << 14;
/// CSTS.RDY
pub(crate) const CSTS_READY: u32 = 1;
/// CSTS.CFS: the controller has failed.
pub(crate) const CSTS_FATAL: u32 = 2;
/// CSTS.SHST, and its value "shutdown complete".
pub(crate) const CSTS_SHUTDOWN: u32 = 3 << 2;
/// CSTS.SHST: shutdown complete.
pub(crate) const CSTS_SHUTDOWN_DONE: u32 = 2 << 2;

/// Admin commands (section 5).
pub(crate) mod admin {
    /// Delete I/O Submission Queue
    pub(crate) const DELETE_SQ: u8 = 0x00;
    /// Create I/O Submission Queue
    pub(crate) const CREATE_SQ: u8 = 0x01;
    /// Delete I/O Completion Queue
    pub(crate) const DELETE_CQ: u8 = 0x04;
    /// Create I/O Completion Queue
    pub(crate) const CREATE_CQ: u8 = 0x05;
    /// Identify
    pub(crate) const IDENTIFY: u8 = 0x06;
    /// Set Features
    pub(crate) const SET_FEATURES: u8 = 0x09;
}

/// Commands of the NVM command set (section 6).
pub(crate) mod nvm {
    /// Flush
    pub(crate) const FLUSH: u8 = 0x00;
    /// Write
    pub(crate) const WRITE: u8 = 0x01;
    /// Read
    pub(crate) const READ: u8 = 0x02;
    /// Write Zeroes
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
}

/// Feature: Number of Queues (section 5.21.1.7).
pub(crate) const FEATURE_QUEUES: u32 = 0x07;

/// A submission queue entry (section 4.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Command {
    /// Opcode.
    pub(crate) opcode: u8,
    /// Fused operation and PRP or SGL: 0, neither fused nor SGL.
    pub(crate) flags: u8,
    /// Command identifier.
    pub(crate) cid: u16,
    /// Namespace.
    pub(crate) nsid: u32,
    /// Command dwords 2 and 3.
    pub(crate) cdw2: [u32; 2],
    /// Metadata pointer.
    pub(crate) metadata: u64,
    /// PRP entries 1 and 2.
    pub(crate) prp: [u64; 2],
    /// Command dwords 10 to 15.
    pub(crate) cdw10: [u32; 6],
}

/// A completion queue entry (section 4.6).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct CompletionEntry {
    /// Command-specific result.
    pub(crate) result: u32,
    /// Reserved.
    pub(crate) reserved: u32,
    /// How far the controller has read the submission queue.
    pub(crate) sq_head: u16,
    /// The submission queue.
    pub(crate) sq_id: u16,
    /// The command that ended.
    pub(crate) cid: u16,
    /// Phase tag (bit 0) and status (bits 1 to 15).
    pub(crate) status: u16,
}

/// What Identify Controller (CNS 1) answers, as far as the driver reads it (figure 247).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
pub(crate) struct IdentifyController {
    /// PCI vendor ID.
    pub(crate) vid: u16,
    /// PCI subsystem vendor ID.
    pub(crate) ssvid: u16,
    /// Serial number, ASCII, padded with spaces.
    pub(crate) serial: [u8; 20],
    /// Model, ASCII, padded with spaces.
    pub(crate) model: [u8; 40],
    /// Firmware revision, ASCII, padded with spaces.
    pub(crate) firmware: [u8; 8],
    /// Recommended arbitration burst.
    pub(crate) rab: u8,
    /// IEEE OUI.
    pub(crate) ieee: [u8; 3],
    /// Multi-path capabilities.
    pub(crate) cmic: u8,
    /// Largest transfer: a power of two of pages, 0 for no limit.
    pub(crate) mdts: u8,
    /// Controller ID.
    pub(crate) cntlid: u16,
    /// Version.
    pub(crate) ver: u32,
    reserved_84: [u8; 432],
    /// Number of namespaces.
    pub(crate) nn: u32,
    /// Optional NVM commands.
    pub(crate) oncs: u16,
    reserved_522: [u8; 3],
    /// Volatile write cache: bit 0, present.
    pub(crate) vwc: u8,
    reserved_526: [u8; 3570],
}

/// What Identify Namespace (CNS 0) answers, as far as the driver reads it (figure 245).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
pub(crate) struct IdentifyNamespace {
    /// Size in blocks.
    pub(crate) nsze: u64,
    /// Capacity in blocks.
    pub(crate) ncap: u64,
    /// Blocks in use.
    pub(crate) nuse: u64,
    /// Features.
    pub(crate) nsfeat: u8,
    /// Number of LBA formats, less 1.
    pub(crate) nlbaf: u8,
    /// The format in use: bits 0 to 3.
    pub(crate) flbas: u8,
    reserved_27: [u8; 101],
    /// LBA formats: metadata bytes (16 bits), log2 of the block size (8 bits), performance.
    pub(crate) lbaf: [u32; 16],
    reserved_192: [u8; 3904],
}

const _: () = assert!(size_of::<Command>() == 64);
const _: () = assert!(size_of::<CompletionEntry>() == 16);
const _: () = assert!(size_of::<IdentifyController>() == 4096);
const _: () = assert!(size_of::<IdentifyNamespace>() == 4096);
const _: () = assert!(core::mem::offset_of!(IdentifyController, nn) == 516);
const _: () = assert!(core::mem::offset_of!(IdentifyController, vwc) == 525);
const _: () = assert!(core::mem::offset_of!(IdentifyNamespace, lbaf) == 128);
