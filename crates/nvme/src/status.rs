//! Completion status, with the specification's names (NVMe 1.4, section 4.6.1).

use std::fmt;

/// The status of a command that failed: status code type and status code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Status code type: 0 generic, 1 command specific, 2 media and data integrity, 3 path, 7 vendor.
    pub kind: u8,
    /// Status code.
    pub code: u8,
    /// The controller says that trying again will not help.
    pub do_not_retry: bool,
}

impl Status {
    /// From the upper 15 bits of a completion's last word; `None` for success.
    #[must_use]
    pub fn from_field(field: u16) -> Option<Status> {
        let (code, kind) = (field as u8, (field >> 8) as u8 & 7);
        (code != 0 || kind != 0).then_some(Status { kind, code, do_not_retry: field & 1 << 14 != 0 })
    }

    /// The specification's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.kind, self.code) {
            (0, 0x01) => "Invalid Command Opcode",
            (0, 0x02) => "Invalid Field in Command",
            (0, 0x03) => "Command ID Conflict",
            (0, 0x04) => "Data Transfer Error",
            (0, 0x05) => "Commands Aborted due to Power Loss Notification",
            (0, 0x06) => "Internal Error",
            (0, 0x07) => "Command Abort Requested",
            (0, 0x08) => "Command Aborted due to SQ Deletion",
            (0, 0x09) => "Command Aborted due to Failed Fused Command",
            (0, 0x0a) => "Command Aborted due to Missing Fused Command",
            (0, 0x0b) => "Invalid Namespace or Format",
            (0, 0x0c) => "Command Sequence Error",
            (0, 0x12) => "Invalid Use of Controller Memory Buffer",
            (0, 0x13) => "PRP Offset Invalid",
            (0, 0x14) => "Atomic Write Unit Exceeded",
            (0, 0x15) => "Operation Denied",
            (0, 0x1c) => "Sanitize Failed",
            (0, 0x1d) => "Sanitize In Progress",
            (0, 0x20) => "Namespace is Write Protected",
            (0, 0x21) => "Command Interrupted",
            (0, 0x22) => "Transient Transport Error",
            (0, 0x80) => "LBA Out of Range",
            (0, 0x81) => "Capacity Exceeded",
            (0, 0x82) => "Namespace Not Ready",
            (0, 0x83) => "Reservation Conflict",
            (0, 0x84) => "Format In Progress",
            (1, 0x00) => "Completion Queue Invalid",
            (1, 0x01) => "Invalid Queue Identifier",
            (1, 0x02) => "Invalid Queue Size",
            (1, 0x03) => "Abort Command Limit Exceeded",
            (1, 0x05) => "Asynchronous Event Request Limit Exceeded",
            (1, 0x08) => "Invalid Interrupt Vector",
            (1, 0x09) => "Invalid Log Page",
            (1, 0x0c) => "Invalid Queue Deletion",
            (1, 0x0d) => "Feature Identifier Not Saveable",
            (1, 0x0e) => "Feature Not Changeable",
            (1, 0x80) => "Conflicting Attributes",
            (1, 0x81) => "Invalid Protection Information",
            (1, 0x82) => "Attempted Write to Read Only Range",
            (2, 0x80) => "Write Fault",
            (2, 0x81) => "Unrecovered Read Error",
            (2, 0x82) => "End-to-end Guard Check Error",
            (2, 0x83) => "End-to-end Application Tag Check Error",
            (2, 0x84) => "End-to-end Reference Tag Check Error",
            (2, 0x85) => "Compare Failure",
            (2, 0x86) => "Access Denied",
            (2, 0x87) => "Deallocated or Unwritten Logical Block",
            (0, _) => "unnamed generic status",
            (1, _) => "unnamed command specific status",
            (2, _) => "unnamed media error",
            (3, _) => "path error",
            _ => "vendor specific status",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status code type {:#x}, code {:#04x})", self.name(), self.kind, self.code)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_no_status() {
        assert_eq!(Status::from_field(0), None);
    }

    #[test]
    fn fields_come_apart() {
        let status = Status::from_field(1 << 14 | 1 << 8 | 0x02);
        assert_eq!(status, Some(Status { kind: 1, code: 2, do_not_retry: true }));
        assert_eq!(status.map(Status::name), Some("Invalid Queue Size"));
    }
}
