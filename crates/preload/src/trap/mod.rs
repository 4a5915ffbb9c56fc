//! Registers of devices that a program reaches by plain loads and stores.
//!
//! A BAR is mapped without access rights, so that each instruction that touches it faults. The handler of SIGSEGV has the
//! instruction carried out here: [`Emulator::carry_out`] decodes it, makes its accesses on a [`Bus`], changes the registers that
//! the signal has saved, and the program goes on behind it. What is not handled is reported, never guessed.
//!
//! | module | |
//! | --- | --- |
//! | `context`, `xsave` | the registers that a signal has saved |
//! | `memory`, `locks`, [`sys::guarded`] | the program's memory: trapped addresses, and all others |
//! | `step` | an instruction and its operands |
//! | `general`, `alu`, `bits`, `strings`, `vector`, `lanes` | what instructions do |
//! | [`stack`] | what the handler's work runs on |
//!
//! All of it may run in a signal handler that blocks other signals: it allocates nothing, has no thread-local state, and waits for
//! nobody but other threads that are in a trap.

mod alu;
mod bits;
mod context;
mod general;
mod lanes;
mod locks;
mod memory;
pub mod stack;
mod step;
mod strings;
#[cfg(test)]
mod tests;
mod vector;
mod xsave;

use std::fmt;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic};
use sys::Width;

use context::Context;
use locks::Locks;
use memory::Memory;
use step::{Step, Stop};
use xsave::Layout;

/// What answers accesses to trapped addresses.
///
/// Each access is aligned to its width: what the program does elsewhere or wider is made in aligned pieces, of eight bytes at
/// most, in ascending order. An instruction that reads, changes and writes back makes two accesses; if it is a locked one, no
/// other thread's write to that page comes between.
pub trait Bus {
    /// Whether the page with this address is trapped. All others are ordinary memory.
    fn covers(&self, address: u64) -> bool;

    /// Reads a register, little-endian value.
    ///
    /// # Errors
    ///
    /// Where the mapping is revoked.
    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked>;

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// Where the mapping is revoked.
    fn write(&self, address: u64, width: Width, value: u64) -> Result<(), Revoked>;
}

/// Nothing answers at the address any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked;

/// Why an instruction was not carried out. RIP stays where it is; a repeated string instruction keeps what it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The bus has refused the access: the program is to get SIGBUS.
    Revoked {
        /// The trapped address that was accessed.
        address: u64,
    },
    /// The instruction also touches ordinary memory, which faults: the program is to get SIGSEGV.
    Fault {
        /// The address that faults.
        address: u64,
        /// Whether it was to be written.
        write: bool,
    },
    /// Nothing here knows the instruction.
    Unsupported(Unsupported),
}

/// An instruction that is not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported {
    rip: u64,
    mnemonic: Mnemonic,
    bytes: [u8; INSTRUCTION],
    length: usize,
}

impl Unsupported {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction at {:#x} (", self.rip)?;
        for byte in self.bytes() {
            write!(f, "{byte:02x} ")?;
        }
        write!(f, "{:?}) on registers of a device is not emulated", self.mnemonic)
    }
}

/// The most bytes that an instruction has.
const INSTRUCTION: usize = 15;

const PAGE: u64 = 4096;

/// Carries instructions out.
#[derive(Debug)]
pub struct Emulator {
    layout: Layout,
    locks: Locks,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// An emulator for this processor. Not for a signal handler: what needs memory or locks is done here, ahead.
    #[must_use]
    pub fn new() -> Self {
        // The decoder makes its tables when it is first asked.
        let _ = decode(&[0x90], 0);
        Emulator { layout: Layout::of_processor(), locks: Locks::new() }
    }

    /// Forgets what other threads are carrying out: for the child after a fork, in which they are not.
    pub fn forget_others(&self) {
        self.locks.forget();
    }

    /// Carries out the instruction that has faulted.
    ///
    /// # Errors
    ///
    /// Why it could not be carried out.
    ///
    /// # Safety
    ///
    /// `context` is what the handler of a signal has got, and what the instruction says is what the program may do. The
    /// handlers of SIGSEGV and SIGBUS give [`sys::guarded::recover`] each of their signals first.
    pub unsafe fn carry_out(&self, context: &mut libc::ucontext_t, bus: &impl Bus) -> Result<(), Failure> {
        // SAFETY: as the caller has promised.
        let context = unsafe { Context::of_signal(context, &self.layout) };
        // SAFETY: as the caller has promised.
        let memory = unsafe { Memory::of_program(bus, &self.locks) };
        let rip = context.rip();
        let mut bytes = [0; INSTRUCTION];
        let instruction = fetch(&memory, rip, &mut bytes).map_err(|stop| failure(stop, rip, &bytes, None))?;
        let mut step = Step { instruction, context, memory };
        step.carry_out().map_err(|stop| failure(stop, rip, &bytes, Some(&instruction)))
    }
}

fn failure(stop: Stop, rip: u64, bytes: &[u8; INSTRUCTION], instruction: Option<&Instruction>) -> Failure {
    match stop {
        Stop::Revoked { address } => Failure::Revoked { address },
        Stop::Fault { address, write } => Failure::Fault { address, write },
        Stop::Unsupported => Failure::Unsupported(Unsupported {
            rip,
            mnemonic: instruction.map_or(Mnemonic::INVALID, Instruction::mnemonic),
            bytes: *bytes,
            length: instruction.map_or(INSTRUCTION, Instruction::len),
        }),
    }
}

/// Reads the instruction at RIP. The next page is touched only if the instruction goes on there.
fn fetch<B: Bus>(
    memory: &Memory<'_, B>,
    rip: u64,
    bytes: &mut [u8; INSTRUCTION],
) -> Result<Instruction, Stop> {
    let here = bytes.len().min((PAGE - rip % PAGE) as usize);
    memory.read(rip, &mut bytes[..here])?;
    match decode(&bytes[..here], rip) {
        Err(DecoderError::NoMoreBytes) if here < bytes.len() => {
            memory.read(rip + here as u64, &mut bytes[here..])?;
            decode(bytes, rip)
        }
        decoded => decoded,
    }
    .map_err(|_| Stop::Unsupported)
}

fn decode(bytes: &[u8], rip: u64) -> Result<Instruction, DecoderError> {
    let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() { Err(decoder.last_error()) } else { Ok(instruction) }
}
