//! Status codes of completed commands (NVMe 1.4, section 4.6.1.2).

/// The status field of a completion without its phase tag: status code in bits 0 to 7, type in bits 8 to 10, "more" in
/// bit 13, "do not retry" in bit 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(u16);

const MORE: u16 = 1 << 13;
const DO_NOT_RETRY: u16 = 1 << 14;

impl Status {
    pub(super) const SUCCESS: Status = Status(0);

    pub(super) const INVALID_OPCODE: Status = Status::generic(0x01);
    pub(super) const INVALID_FIELD: Status = Status::generic(0x02);
    pub(super) const COMMAND_ID_CONFLICT: Status = Status::generic(0x03);
    pub(super) const DATA_TRANSFER_ERROR: Status = Status::generic(0x04);
    pub(super) const ABORT_REQUESTED: Status = Status::generic(0x07);
    pub(super) const INVALID_NAMESPACE: Status = Status::generic(0x0b);
    pub(super) const COMMAND_SEQUENCE_ERROR: Status = Status::generic(0x0c);
    pub(super) const PRP_OFFSET_INVALID: Status = Status::generic(0x13);
    pub(super) const WRITE_PROTECTED: Status = Status::generic(0x20);
    pub(super) const LBA_OUT_OF_RANGE: Status = Status::generic(0x80);

    pub(super) const COMPLETION_QUEUE_INVALID: Status = Status::specific(0x00);
    pub(super) const INVALID_QUEUE_IDENTIFIER: Status = Status::specific(0x01);
    pub(super) const INVALID_QUEUE_SIZE: Status = Status::specific(0x02);
    pub(super) const ASYNC_EVENT_LIMIT: Status = Status::specific(0x05);
    pub(super) const INVALID_INTERRUPT_VECTOR: Status = Status::specific(0x08);
    pub(super) const INVALID_LOG_PAGE: Status = Status::specific(0x09);
    pub(super) const INVALID_QUEUE_DELETION: Status = Status::specific(0x0c);
    pub(super) const FEATURE_NOT_SAVEABLE: Status = Status::specific(0x0d);
    pub(super) const FEATURE_NOT_NAMESPACE_SPECIFIC: Status = Status::specific(0x0f);

    pub(super) const WRITE_FAULT: Status = Status::media(0x80);
    pub(super) const UNRECOVERED_READ_ERROR: Status = Status::media(0x81);

    /// Generic command status: repeating the command as it is cannot help.
    const fn generic(code: u16) -> Self {
        Status(code | DO_NOT_RETRY)
    }

    /// Command specific status.
    const fn specific(code: u16) -> Self {
        Status(1 << 8 | code | DO_NOT_RETRY)
    }

    /// Media and data integrity errors: the medium may recover.
    const fn media(code: u16) -> Self {
        Status(2 << 8 | code)
    }

    /// The same status, with a pointer to the error log.
    pub(super) const fn logged(self) -> Self {
        Status(self.0 | MORE)
    }

    /// The status field with a phase tag in bit 0.
    pub(super) const fn with_phase(self, phase: bool) -> u16 {
        self.0 << 1 | phase as u16
    }
}
