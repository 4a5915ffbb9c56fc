//! Instructions that count, select and move bits, and checksums: of a source in memory into a general register.
#![forbid(unsafe_code)]

use iced_x86::Mnemonic;

use super::alu::{self, AF, CF, OF, PF, SF, Shift, ZF};
use super::context::mask;
use super::step::{Step, Stop};
use super::{Bus, vector};

/// A result, and what it tells of itself by CF. The flags follow from both.
type Counted = (u64, bool);

pub(super) fn carry_out<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let bits = 8 * step.size(0) as u64;
    let (value, carry) = match step.instruction.mnemonic() {
        Mnemonic::Popcnt => (u64::from(step.read(1)?.count_ones()), false),
        Mnemonic::Lzcnt => {
            let source = step.read(1)?;
            (u64::from(source.leading_zeros()) - (64 - bits), source == 0)
        }
        Mnemonic::Tzcnt => {
            let source = step.read(1)?;
            (u64::from(source.trailing_zeros()).min(bits), source == 0)
        }
        Mnemonic::Bsf => return scan(step, u64::trailing_zeros),
        Mnemonic::Bsr => return scan(step, u64::ilog2),
        Mnemonic::Andn => (!step.read(1)? & step.read(2)?, false),
        Mnemonic::Blsr => lowest(step, |source| source.wrapping_sub(1) & source, false)?,
        Mnemonic::Blsmsk => lowest(step, |source| source.wrapping_sub(1) ^ source, false)?,
        Mnemonic::Blsi => lowest(step, |source| source.wrapping_neg() & source, true)?,
        Mnemonic::Bzhi => {
            let (source, count) = (step.read(1)?, step.read(2)? & 0xff);
            (source & lowest_bits(count), count >= bits)
        }
        Mnemonic::Bextr => {
            let (source, control) = (step.read(1)?, step.read(2)?);
            let shifted = source.checked_shr(control as u32 & 0xff).unwrap_or(0);
            (shifted & lowest_bits(control >> 8 & 0xff), false)
        }
        Mnemonic::Rorx => return shift(step, Shift::Ror),
        Mnemonic::Sarx => return shift(step, Shift::Sar),
        Mnemonic::Shlx => return shift(step, Shift::Shl),
        Mnemonic::Shrx => return shift(step, Shift::Shr),
        Mnemonic::Crc32 => return checksum(step),
        _ => return vector::carry_out(step),
    };
    write(step, (value, carry))
}

fn write<B: Bus>(step: &mut Step<'_, B>, (value, carry): Counted) -> Result<(), Stop> {
    let size = step.size(0);
    let value = value & mask(size);
    step.write(0, value)?;
    let mut flags = step.context.flags() & !(CF | PF | AF | ZF | SF | OF);
    for (flag, set) in [(CF, carry), (ZF, value == 0), (SF, alu::extend(size, value) < 0)] {
        flags |= if set { flag } else { 0 };
    }
    // PF follows from nothing here, and POPCNT clears it.
    step.context.set_flags(flags);
    Ok(())
}

/// BSF and BSR: the target stays where no bit is set, of which ZF tells.
fn scan<B: Bus>(step: &mut Step<'_, B>, find: fn(u64) -> u32) -> Result<(), Stop> {
    let source = step.read(1)?;
    let flags = step.context.flags();
    if source == 0 {
        step.context.set_flags(flags | ZF);
        return Ok(());
    }
    step.write(0, find(source).into())?;
    step.context.set_flags(flags & !ZF);
    Ok(())
}

/// What depends on the lowest bit that is set; CF tells whether there is one, or that there is none.
fn lowest<B: Bus>(step: &Step<'_, B>, change: fn(u64) -> u64, carry_if_any: bool) -> Result<Counted, Stop> {
    let source = step.read(1)?;
    Ok((change(source), (source != 0) == carry_if_any))
}

/// Shifts and rotates that leave the flags alone.
fn shift<B: Bus>(step: &mut Step<'_, B>, operation: Shift) -> Result<(), Stop> {
    let (a, count) = (step.read(1)?, step.read(2)?);
    let (value, _) = alu::shift(operation, step.size(0), a, count, 0);
    step.write(0, value)
}

/// CRC32, with Castagnoli's polynomial.
fn checksum<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let (mut sum, source) = (step.read(0)? as u32, step.read(1)?);
    for byte in &source.to_le_bytes()[..step.size(1)] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    step.write(0, sum.into())
}

fn lowest_bits(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
