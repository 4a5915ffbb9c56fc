//! A display adapter without a display: a frame buffer, and the addresses of VGA that no BAR moves.
//!
//! BAR 0 is 1 MiB of memory. Its first 128 KiB are the legacy memory from 0xa0000 to 0xbffff too, linear and without planes, as
//! the graphics controller maps it after a reset. Of the I/O ports there are:
//!
//! | Port | Access | Register |
//! |---|---|---|
//! | 0x3c2 | w | miscellaneous output. Bit 0: the CRT controller is at 0x3d4, not at 0x3b4 |
//! | 0x3cc | r | the same |
//! | 0x3c4, 0x3c5 | rw | sequencer: index, and the register of that index |
//! | 0x3ce, 0x3cf | rw | graphics controller |
//! | 0x3d4, 0x3d5 or 0x3b4, 0x3b5 | rw | CRT controller |
//!
//! Registers hold what is written to them, and do nothing. Other ports read all ones and ignore writes.

use std::ops::Range;

use crate::model::{Bar, BarKind, Identity, Model, Reach, Register, Work};

const FRAME_BUFFER: usize = 1 << 20;
const LEGACY_MEMORY: Range<u64> = 0xa_0000..0xc_0000;

const MISCELLANEOUS_WRITE: u64 = 0x3c2;
const MISCELLANEOUS_READ: u64 = 0x3cc;
const COLOR: u8 = 1;

/// The model.
pub(crate) struct Vga {
    memory: Vec<u8>,
    miscellaneous: u8,
    sequencer: Indexed,
    graphics: Indexed,
    crt: Indexed,
}

/// Registers behind a port for their index and a port for their value.
struct Indexed {
    index: u8,
    values: Vec<u8>,
}

impl Indexed {
    fn new(count: usize) -> Self {
        Indexed { index: 0, values: vec![0; count] }
    }

    /// The index has as many bits as it takes to tell the registers apart.
    fn set_index(&mut self, index: u8) {
        self.index = index & (self.values.len().next_power_of_two() - 1) as u8;
    }

    fn value(&mut self) -> Option<&mut u8> {
        self.values.get_mut(usize::from(self.index))
    }
}

impl Vga {
    pub(crate) fn new() -> Self {
        Vga {
            memory: vec![0; FRAME_BUFFER],
            miscellaneous: 0,
            sequencer: Indexed::new(5),
            graphics: Indexed::new(9),
            crt: Indexed::new(25),
        }
    }

    /// The bytes of memory at a register, if it is memory.
    fn memory(&mut self, at: Register) -> Option<&mut [u8]> {
        let offset = match at.bar {
            Register::VGA => at.offset.checked_sub(LEGACY_MEMORY.start)?,
            _ => at.offset,
        };
        self.memory.get_mut(offset as usize..)?.get_mut(..at.width.bytes())
    }

    /// The registers at a port, and whether it is that of their index.
    fn indexed(&mut self, port: u64) -> Option<(&mut Indexed, bool)> {
        let crt = if self.miscellaneous & COLOR == 0 { 0x3b4 } else { 0x3d4 };
        let registers = match port & !1 {
            0x3c4 => &mut self.sequencer,
            0x3ce => &mut self.graphics,
            base if base == crt => &mut self.crt,
            _ => return None,
        };
        Some((registers, port & 1 == 0))
    }

    fn port_read(&mut self, port: u64) -> u8 {
        if port == MISCELLANEOUS_READ {
            return self.miscellaneous;
        }
        match self.indexed(port) {
            Some((registers, true)) => registers.index,
            Some((registers, false)) => registers.value().map_or(0xff, |value| *value),
            None => 0xff,
        }
    }

    fn port_write(&mut self, port: u64, byte: u8) {
        if port == MISCELLANEOUS_WRITE {
            self.miscellaneous = byte;
            return;
        }
        match self.indexed(port) {
            Some((registers, true)) => registers.set_index(byte),
            Some((registers, false)) => {
                if let Some(value) = registers.value() {
                    *value = byte;
                }
            }
            None => {}
        }
    }
}

impl Model for Vga {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: FRAME_BUFFER as u64, kind: BarKind::Memory32 });
        Identity {
            vendor: 0x1234,
            device: 0x0c0a,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: 0x03_0000,
            bars,
            line: false,
            msi: None,
            msix: None,
            express: None,
            dma_bits: 32,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        let mut value = [0; 8];
        let bytes = &mut value[..at.width.bytes()];
        match self.memory(at) {
            Some(memory) => bytes.copy_from_slice(memory),
            None => (at.offset..).zip(bytes).for_each(|(port, byte)| *byte = self.port_read(port)),
        }
        u64::from_le_bytes(value)
    }

    /// Of several bytes at once, each goes to its own port, from the lowest on.
    fn write(&mut self, at: Register, value: u64, _: &mut Reach<'_>) {
        let value = value.to_le_bytes();
        let bytes = &value[..at.width.bytes()];
        match self.memory(at) {
            Some(memory) => memory.copy_from_slice(bytes),
            None => (at.offset..).zip(bytes).for_each(|(port, byte)| self.port_write(port, *byte)),
        }
    }

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        *self = Vga::new();
    }
}
