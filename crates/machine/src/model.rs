//! What a device model is: the device's side of the PCI bus.
//!
//! A model answers register accesses, works off what they asked for, and reaches memory through its [`DmaPort`] and
//! nothing else. It runs inline (work is done at each register access, ioctl and wait: deterministic) or on a thread of
//! its own; it cannot tell which.
//!
//! A model can do no harm but to itself. One that panics is gone: its registers read all ones, and the machine's log says why.
//! What it may not reach is refused and noted, interrupts that it does not have are raised nowhere, and one that always finds
//! more to do gets its turns between those of others. But each of its methods has to return: who calls one waits for it.

mod check;

use sys::Width;

use crate::bus::{Doorbells, Interrupts};
use crate::dma::DmaPort;

/// What a function is, before anything has happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI vendor ID.
    pub vendor: u16,
    /// PCI device ID.
    pub device: u16,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code: base class, sub-class, programming interface, from the top (`0x010802` for NVMe).
    pub class: u32,
    /// The six BARs. A 64-bit BAR takes the next one too, which is `None` then.
    pub bars: [Option<Bar>; 6],
    /// Whether it has an INTx line (pin A).
    pub line: bool,
    /// MSI, with this many vectors (a power of two up to 32).
    pub msi: Option<u8>,
    /// MSI-X.
    pub msix: Option<MsixSpec>,
    /// A PCI Express capability, with function-level reset if `true`; `None` for a conventional function, which cannot
    /// be reset on its own.
    pub express: Option<Express>,
    /// How many address bits its DMA engine has by default.
    pub dma_bits: u8,
}

/// A memory or I/O BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Length in bytes, a power of two.
    pub size: u64,
    /// What it decodes.
    pub kind: BarKind,
}

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
    /// I/O ports.
    Io,
}

/// An MSI-X capability. Table and pending bits are kept by the bus, not by the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixSpec {
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// The BAR with the table.
    pub table_bar: u8,
    /// Where the table starts in it.
    pub table_offset: u32,
    /// The BAR with the pending bits.
    pub pending_bar: u8,
    /// Where they start in it.
    pub pending_offset: u32,
}

/// A PCI Express endpoint capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Express {
    /// Whether the function can be reset on its own (FLR).
    pub function_reset: bool,
}

/// A part of a BAR that the model declares plain: the last value written is all it needs. While the model's thread is
/// awake a store there is a store to memory and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorbellWindow {
    /// The BAR.
    pub bar: u8,
    /// First byte, a multiple of 4 KiB.
    pub offset: u64,
    /// Length in bytes, a multiple of 4 KiB.
    pub length: u64,
}

/// Where a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// The BAR, or [`Register::VGA`].
    pub bar: u8,
    /// Offset in it, a multiple of the width.
    pub offset: u64,
    /// Width of the access.
    pub width: Width,
}

impl Register {
    /// In place of a BAR: the legacy addresses of VGA, which a function of that class has and no BAR moves. The offset is the
    /// address: of memory from 0xa0000 to 0xbffff, of an I/O port below.
    pub const VGA: u8 = 8;
}

/// What a model reaches while it runs.
pub struct Reach<'a> {
    /// Memory.
    pub dma: &'a mut DmaPort,
    /// Its interrupts.
    pub interrupts: &'a Interrupts,
    /// Its plain registers, as last written.
    pub doorbells: &'a Doorbells,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Something was done, and there may be more.
    More,
    /// Nothing is left until a register is written.
    Idle,
}

/// A device model.
pub trait Model: Send {
    /// What it is.
    fn identity(&self) -> Identity;

    /// The bus behind it, if it is a bridge and no endpoint.
    fn secondary_bus(&self) -> Option<u8> {
        None
    }

    /// What its expansion ROM holds.
    fn rom(&self) -> Option<Vec<u8>> {
        None
    }

    /// The plain part of its registers.
    fn doorbells(&self) -> Option<DoorbellWindow> {
        None
    }

    /// A register is read. Bits above the width are ignored. The MSI-X table never arrives here.
    fn read(&mut self, at: Register, reach: &mut Reach<'_>) -> u64;

    /// A register is written.
    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>);

    /// Does some of the work that is waiting: a bounded piece, so that a register access gets its turn. Inline, a call of the
    /// program that finds no end of it goes on without it, and so do the next ones.
    fn work(&mut self, reach: &mut Reach<'_>) -> Work;

    /// What the device stores, where that is memory of this process: for looking at from outside.
    fn storage(&self) -> Option<&[u8]> {
        None
    }

    /// The function is reset: everything is as after power-on, data that was promised durable excepted.
    fn reset(&mut self, reach: &mut Reach<'_>);
}
