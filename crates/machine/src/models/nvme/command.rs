//! Entries of submission and completion queues (NVMe 1.4, sections 4.2 and 4.6).

use super::status::Status;

/// Bytes of a submission queue entry.
pub(super) const SUBMISSION_BYTES: usize = 64;

/// Bytes of a completion queue entry.
pub(super) const COMPLETION_BYTES: u64 = 16;

/// Every namespace, where a command allows that.
pub(super) const ALL_NAMESPACES: u32 = 0xffff_ffff;

/// A submission queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) opcode: u8,
    /// Fused operation in bits 0 and 1, PRP or SGL in bits 6 and 7.
    flags: u8,
    pub(super) id: u16,
    pub(super) namespace: u32,
    pub(super) prp: [u64; 2],
    /// Command dwords 10 to 15.
    dwords: [u32; 6],
}

impl Command {
    pub(super) fn parse(entry: &[u8; SUBMISSION_BYTES]) -> Self {
        let dword = |index: usize| {
            let at = index * 4;
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let qword = |index: usize| u64::from(dword(index)) | u64::from(dword(index + 1)) << 32;
        Command {
            opcode: entry[0],
            flags: entry[1],
            id: u16::from_le_bytes([entry[2], entry[3]]),
            namespace: dword(1),
            prp: [qword(6), qword(8)],
            dwords: [dword(10), dword(11), dword(12), dword(13), dword(14), dword(15)],
        }
    }

    /// Command dword `10 + INDEX`.
    pub(super) const fn dword<const INDEX: usize>(&self) -> u32 {
        const { assert!(INDEX >= 10 && INDEX <= 15) };
        self.dwords[INDEX - 10]
    }

    /// Refuses fused operations and SGLs, neither of which the controller has.
    pub(super) const fn check_flags(&self) -> Result<(), Status> {
        if self.flags & 0b1100_0011 == 0 { Ok(()) } else { Err(Status::INVALID_FIELD) }
    }
}

/// What a completion queue entry says, apart from what its queues add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Dword 0: the command's result.
    pub(super) result: u32,
    pub(super) command: u16,
    pub(super) status: Status,
}
