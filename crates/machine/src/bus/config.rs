//! The configuration space of a function: a type 0 header and the capabilities of its identity.
//!
//! Offsets and bits are those of the PCI Express Base Specification, chapter 7, and of the PCI Local Bus Specification 3.0
//! for MSI and MSI-X.

mod build;
#[cfg(test)]
mod tests;

use crate::model::BarKind;

/// Bits of the command register.
pub(crate) mod command {
    pub(crate) const IO: u16 = 1 << 0;
    pub(crate) const MEMORY: u16 = 1 << 1;
    pub(crate) const BUS_MASTER: u16 = 1 << 2;
    pub(crate) const PARITY: u16 = 1 << 6;
    pub(crate) const SYSTEM_ERROR: u16 = 1 << 8;
    pub(crate) const LINE_DISABLE: u16 = 1 << 10;
}

const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const CACHE_LINE: u16 = 0x0c;
const STATUS_LINE: u8 = 1 << 3;

/// Where the extended capabilities start; there is one at most.
const FIRST_EXTENDED: u16 = 0x100;
/// Virtual functions are enabled, and their memory answers.
const SRIOV_ENABLE: u16 = 1 << 0 | 1 << 3;

/// Lengths of capabilities in bytes.
const POWER_LENGTH: u16 = 8;
const EXPRESS_LENGTH: u16 = 60;

/// The configuration space of one function.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    bytes: Box<[u8]>,
    /// Which bits a write changes.
    writable: Box<[u8]>,
    msi: Option<u16>,
    msix: Option<u16>,
    power: Option<u16>,
    express: Option<u16>,
    /// Whether memory is decoded whatever the command register says.
    always_decodes: bool,
    /// Whether a write to device control can begin a function-level reset.
    resettable: bool,
    /// All of it, as it was built.
    power_on: Box<[u8]>,
    /// Value of a multiple message field that allows every vector of the function.
    msi_vectors: u8,
}

impl ConfigSpace {
    /// So many virtual functions are enabled.
    pub(super) fn set_enabled_vfs(&mut self, count: u8) {
        self.set16(FIRST_EXTENDED + 0x08, if count > 0 { SRIOV_ENABLE } else { 0 });
        self.set16(FIRST_EXTENDED + 0x10, count.into());
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u16 {
        self.bytes.len() as u16
    }

    /// Reads 1, 2 or 4 bytes; all ones behind the end. `line` is the level of the INTx line.
    pub(crate) fn read(&self, offset: u16, width: u8, line: bool) -> u32 {
        let mut value = [0u8; 4];
        for (byte, at) in value.iter_mut().zip(offset..).take(usize::from(width)) {
            *byte = self.bytes.get(usize::from(at)).copied().unwrap_or(0xff);
            if at == STATUS && line {
                *byte |= STATUS_LINE;
            }
        }
        u32::from_le_bytes(value)
    }

    /// Writes 1, 2 or 4 bytes. True if the write asks for a function-level reset, which the caller is to make.
    pub(crate) fn write(&mut self, offset: u16, width: u8, value: u32) -> bool {
        for (byte, at) in value.to_le_bytes().into_iter().zip(usize::from(offset)..).take(usize::from(width))
        {
            if let (Some(kept), Some(&mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *kept = *kept & !mask | byte & mask;
            }
        }
        // Bit 15 of device control: the top bit of its second byte. It reads 0.
        let resets = |express: u16| {
            let byte = (express + 9).checked_sub(offset).filter(|&byte| byte < u16::from(width));
            byte.is_some_and(|byte| value >> (8 * byte) & 0x80 != 0)
        };
        self.resettable && self.express.is_some_and(resets)
    }

    /// The command register.
    pub(crate) fn command(&self) -> u16 {
        self.get16(COMMAND)
    }

    /// Sets or clears bits of the command register.
    pub(crate) fn set_command(&mut self, bits: u16, on: bool) {
        let command = if on { self.command() | bits } else { self.command() & !bits };
        self.set16(COMMAND, command);
    }

    /// Whether the function is in D0 and decodes addresses of this kind.
    pub(crate) fn decodes(&self, kind: BarKind) -> bool {
        let bit = if kind == BarKind::Io { command::IO } else { command::MEMORY };
        let state = self.power.map_or(0, |at| self.get16(at + 4) & 0b11);
        (self.always_decodes || self.command() & bit != 0) && state == 0
    }

    /// A reset: as after power-on, but for what the bus core has saved and restores at once: BARs, interrupt line, and
    /// whether messages are enabled.
    pub(crate) fn reset(&mut self) {
        let power = self.power.map(|at| (at, POWER_LENGTH));
        let express = self.express.map(|at| (at, EXPRESS_LENGTH));
        for (at, length) in [(COMMAND, 2), (CACHE_LINE, 1)].into_iter().chain(power).chain(express) {
            let range = usize::from(at)..usize::from(at + length);
            self.bytes[range.clone()].copy_from_slice(&self.power_on[range]);
        }
    }

    /// Enables MSI with at least `count` vectors, or disables it.
    pub(crate) fn enable_msi(&mut self, count: Option<u32>) {
        let Some(at) = self.msi else { return };
        let control = self.get16(at + 2) & !0x0071;
        let enabled = match count {
            Some(count) => {
                control | 1 | (count.min(u32::from(self.msi_vectors)).next_power_of_two().ilog2() as u16) << 4
            }
            None => control,
        };
        self.set16(at + 2, enabled);
    }

    /// Enables or disables MSI-X.
    pub(crate) fn enable_msix(&mut self, on: bool) {
        let Some(at) = self.msix else { return };
        let control = self.get16(at + 2) & !0xc000;
        self.set16(at + 2, control | u16::from(on) << 15);
    }

    /// All of it, as sysfs shows it.
    pub(crate) fn bytes(&self, line: bool) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes[usize::from(STATUS)] |= if line { STATUS_LINE } else { 0 };
        bytes
    }

    fn get16(&self, at: u16) -> u16 {
        let at = usize::from(at);
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn set8(&mut self, at: u16, value: u8) {
        self.bytes[usize::from(at)] = value;
    }

    fn set16(&mut self, at: u16, value: u16) {
        self.bytes[usize::from(at)..][..2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, at: u16, value: u32) {
        self.bytes[usize::from(at)..][..4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow(&mut self, at: u16, mask: &[u8]) {
        self.writable[usize::from(at)..][..mask.len()].copy_from_slice(mask);
    }
}
