//! A device that copies memory of its user: as a whole with `vfio_dma_rw`, or within pages that it has pinned.
//!
//! Its registers are 32 bits wide, in BAR 0:
//!
//! | offset | | |
//! | --- | --- | --- |
//! | 0x00 | ro | identification, `0x79706f63` |
//! | 0x08, 0x0c | rw | source: an IOVA, lower and upper half |
//! | 0x10, 0x14 | rw | destination |
//! | 0x18 | rw | length in bytes |
//! | 0x1c | wo | command: 1 copy, 2 pin the pages of the source for reading, 3 pin them for writing, 4 unpin what was pinned by one command, 5 copy within what is pinned |
//! | 0x20 | ro | status: 0 if the last command is done, the errno if it was refused, `0xffffffff` while it is under way |
//! | 0x24 | ro | how many pages it has pinned, each as often as it did |
//! | 0x28 | ro | how often it was told that memory is unmapped |
//! | 0x30 to 0x3c | ro | first and last IOVA that it was told so of last, lower halves first |
//!
//! Anything else reads zero and ignores writes. A command that needs memory mapped is under way until the call that wrote it
//! has returned; all registers ignore writes meanwhile.

use uapi::Errno;

use super::pages;
use crate::ram::{FRAME, Gone, Ram};

/// The length of BAR 0.
pub(super) const BAR_SIZE: u64 = 4096;
/// That of configuration space.
pub(super) const CONFIG_SIZE: u64 = 256;

const IDENTIFICATION: u32 = u32::from_le_bytes(*b"copy");
/// Vendor and device: no such device was ever built.
const IDS: u32 = 0x0c09_1234;
/// A system peripheral of no other kind.
const CLASS: u32 = 0x0880_0000;
/// Offset of BAR 0 in configuration space.
const CONFIG_BAR0: u64 = 0x10;

/// What a command that is under way has for a status.
const UNDER_WAY: u32 = u32::MAX;
/// The most bytes that are copied with one command.
const MOST_BYTES: u32 = 64 << 10;

/// A command that needs memory mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Copy { from: u64, to: u64, length: u32 },
    Pin { iova: u64, pages: u64, write: bool },
    Unpin { iova: u64, pages: u64 },
}

/// The device.
#[derive(Default)]
pub(super) struct Copier {
    registers: Registers,
    bar0: u32,
    /// What waits to be performed.
    waiting: Option<Command>,
    /// What is being performed.
    under_way: Option<Command>,
    pinned: Vec<Pinned>,
    unmaps: u32,
    unmapped: (u64, u64),
}

#[derive(Default)]
struct Registers {
    source: u64,
    destination: u64,
    length: u32,
    status: u32,
}

/// Pages that were pinned with one command.
struct Pinned {
    iova: u64,
    frames: Vec<u64>,
    write: bool,
}

impl Pinned {
    fn last(&self) -> u64 {
        self.iova + (self.frames.len() as u64 * FRAME - 1)
    }

    /// The frame behind an IOVA, if it is in there.
    fn frame(&self, iova: u64) -> Option<u64> {
        self.frames.get((iova.checked_sub(self.iova)? / FRAME) as usize).copied()
    }
}

impl Copier {
    /// A word of configuration space.
    pub(super) fn config(&self, offset: u64) -> u32 {
        match offset {
            0x00 => IDS,
            0x08 => CLASS,
            CONFIG_BAR0 => self.bar0,
            _ => 0,
        }
    }

    pub(super) fn set_config(&mut self, offset: u64, value: u32) {
        if offset == CONFIG_BAR0 {
            self.bar0 = value & !(BAR_SIZE as u32 - 1);
        }
    }

    pub(super) fn register(&self, offset: u64) -> u32 {
        let Registers { source, destination, length, status } = self.registers;
        match offset {
            0x00 => IDENTIFICATION,
            0x08 | 0x0c => half(source, offset),
            0x10 | 0x14 => half(destination, offset),
            0x18 => length,
            0x20 => status,
            0x24 => self.pinned.iter().map(|pinned| pinned.frames.len() as u32).sum(),
            0x28 => self.unmaps,
            0x30 | 0x34 => half(self.unmapped.0, offset),
            0x38 | 0x3c => half(self.unmapped.1, offset),
            _ => 0,
        }
    }

    pub(super) fn set_register(&mut self, offset: u64, value: u32, ram: &Ram) {
        let registers = &mut self.registers;
        match offset {
            _ if registers.status == UNDER_WAY => {}
            0x08 | 0x0c => set_half(&mut registers.source, offset, value),
            0x10 | 0x14 => set_half(&mut registers.destination, offset, value),
            0x18 => registers.length = value,
            0x1c => match self.command(value, ram) {
                Ok(waiting) => {
                    self.registers.status = if waiting.is_some() { UNDER_WAY } else { 0 };
                    self.waiting = waiting;
                }
                Err(errno) => self.registers.status = errno.raw() as u32,
            },
            _ => {}
        }
    }

    /// Does a command; what it needs memory mapped for is still to be performed.
    fn command(&mut self, number: u32, ram: &Ram) -> Result<Option<Command>, Errno> {
        let Registers { source, destination, length, .. } = self.registers;
        let count = pages(length);
        match number {
            1 if length > MOST_BYTES => Err(Errno::EINVAL),
            1 => Ok(Some(Command::Copy { from: source, to: destination, length })),
            2 | 3 if !source.is_multiple_of(FRAME) => Err(Errno::EINVAL),
            2 | 3 => Ok(Some(Command::Pin { iova: source, pages: count, write: number == 3 })),
            4 => {
                let same = |it: &Pinned| it.iova == source && it.frames.len() as u64 == count;
                let at = self.pinned.iter().position(same).ok_or(Errno::EINVAL)?;
                self.pinned.remove(at);
                Ok(Some(Command::Unpin { iova: source, pages: count }))
            }
            5 => self.copy_pinned(ram, source, destination, length).map(|()| None),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Copies within what is pinned, piece by piece.
    fn copy_pinned(&self, ram: &Ram, from: u64, to: u64, length: u32) -> Result<(), Errno> {
        let frame = |iova: u64, write: bool| {
            let pinned = self.pinned.iter().filter(|pinned| pinned.write || !write);
            pinned.filter_map(|pinned| pinned.frame(iova)).next().ok_or(Errno::EFAULT)
        };
        let _still = ram.hold_still();
        let mut done = 0;
        while done < u64::from(length) {
            let (from, to) = (from.wrapping_add(done), to.wrapping_add(done));
            let piece = [u64::from(length) - done, FRAME - from % FRAME, FRAME - to % FRAME];
            let piece = piece.into_iter().min().unwrap_or(0);
            let mut bytes = vec![0; piece as usize];
            let (source, destination) = (frame(from, false)?, frame(to, true)?);
            let (source, destination) = (ram.frame(source), ram.frame(destination));
            let read = source.ok_or(Gone).and_then(|frame| frame.read((from % FRAME) as usize, &mut bytes));
            let copied = read.and(destination.ok_or(Gone));
            copied
                .and_then(|frame| frame.write((to % FRAME) as usize, &bytes))
                .map_err(|Gone| Errno::EFAULT)?;
            done += piece;
        }
        Ok(())
    }

    /// Registers are as at first, and a command that has not begun is forgotten.
    pub(super) fn reset(&mut self) {
        let pinned = std::mem::take(&mut self.pinned);
        let under_way = self.under_way;
        *self = Copier { pinned, under_way, ..Copier::default() };
    }

    pub(super) fn take_command(&mut self) -> Option<Command> {
        if self.under_way.is_some() {
            return None;
        }
        self.under_way = self.waiting.take();
        self.under_way
    }

    pub(super) fn complete(&mut self, result: Result<(), Errno>) {
        self.under_way = None;
        self.registers.status = result.map_or_else(|errno| errno.raw() as u32, |()| 0);
    }

    pub(super) fn pages_pinned(&mut self, iova: u64, frames: Vec<u64>) {
        let write = matches!(self.under_way, Some(Command::Pin { write: true, .. }));
        self.pinned.push(Pinned { iova, frames, write });
    }

    pub(super) fn dma_unmap(&mut self, first: u64, last: u64) {
        self.pinned.retain(|pinned| pinned.last() < first || last < pinned.iova);
        self.unmaps += 1;
        self.unmapped = (first, last);
    }
}

/// The half of a wide register that a word's offset stands for: the upper one where bit 2 is set.
fn half(wide: u64, offset: u64) -> u32 {
    if offset & 4 == 0 { wide as u32 } else { (wide >> 32) as u32 }
}

fn set_half(wide: &mut u64, offset: u64, value: u32) {
    let shift = if offset & 4 == 0 { 0 } else { 32 };
    *wide = *wide & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
}
