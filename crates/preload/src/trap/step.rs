//! An instruction that is being carried out, and its operands.
#![forbid(unsafe_code)]

use iced_x86::{Instruction, OpKind, Register};

use super::context::Context;
use super::memory::Memory;
use super::xsave::Lacking;
use super::{Bus, general, strings};

/// Why an instruction was not carried out: a [`Failure`](super::Failure) that does not know the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Revoked { address: u64 },
    Fault { address: u64, write: bool },
    Unsupported,
}

impl From<Lacking> for Stop {
    fn from(Lacking: Lacking) -> Self {
        Stop::Unsupported
    }
}

/// Whether the program goes on behind the instruction, or comes back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Behind,
    Again,
}

pub(super) struct Step<'a, B> {
    pub(super) instruction: Instruction,
    pub(super) context: Context<'a>,
    pub(super) memory: Memory<'a, B>,
}

impl<B: Bus> Step<'_, B> {
    /// Carries the instruction out.
    pub(super) fn carry_out(&mut self) -> Result<(), Stop> {
        let next = if self.instruction.is_string_instruction() {
            strings::carry_out(self)?
        } else {
            general::carry_out(self)?;
            Next::Behind
        };
        if next == Next::Behind {
            self.context.set_rip(self.instruction.next_ip());
        }
        Ok(())
    }

    /// The size of an operand in bytes. That of an immediate is the one of the first operand, to which it is extended.
    pub(super) fn size(&self, operand: u32) -> usize {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.instruction.op_register(operand).size(),
            OpKind::Memory => self.instruction.memory_size().size(),
            _ if operand > 0 => self.size(0),
            _ => 0,
        }
    }

    pub(super) fn is_memory(&self, operand: u32) -> bool {
        self.instruction.op_kind(operand) == OpKind::Memory
    }

    /// The address of a memory operand. The bases of FS and GS are not known here, and no device's registers are there.
    pub(super) fn address(&self, operand: u32) -> Result<u64, Stop> {
        let context = &self.context;
        self.instruction
            .virtual_address(operand, 0, |register, _, _| match register {
                Register::DS | Register::ES | Register::SS | Register::CS => Some(0),
                _ => context.get(register),
            })
            .ok_or(Stop::Unsupported)
    }

    /// The value of an operand: a general register or memory, extended by zeros, or an immediate.
    pub(super) fn read(&self, operand: u32) -> Result<u64, Stop> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.get(self.instruction.op_register(operand)),
            OpKind::Memory => self.memory.load(self.address(operand)?, word(self.size(operand))?),
            _ => self.instruction.try_immediate(operand).map_err(|_| Stop::Unsupported),
        }
    }

    /// Writes an operand: a general register or memory.
    pub(super) fn write(&mut self, operand: u32, value: u64) -> Result<(), Stop> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.set(self.instruction.op_register(operand), value),
            OpKind::Memory => self.memory.store(self.address(operand)?, word(self.size(operand))?, value),
            _ => Err(Stop::Unsupported),
        }
    }

    pub(super) fn get(&self, register: Register) -> Result<u64, Stop> {
        self.context.get(register).ok_or(Stop::Unsupported)
    }

    pub(super) fn set(&mut self, register: Register, value: u64) -> Result<(), Stop> {
        self.context.set(register, value).ok_or(Stop::Unsupported)
    }
}

/// A size that a general register has.
fn word(size: usize) -> Result<usize, Stop> {
    if matches!(size, 1 | 2 | 4 | 8) { Ok(size) } else { Err(Stop::Unsupported) }
}
