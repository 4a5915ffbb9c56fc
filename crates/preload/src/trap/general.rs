//! Instructions on general registers.
#![forbid(unsafe_code)]

use iced_x86::{Mnemonic, Register};

use super::alu::{self, Binary, Bit, CF, OF, Shift, Unary};
use super::step::{Step, Stop};
use super::{Bus, bits};

pub(super) fn carry_out<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    // XCHG is locked without the prefix, too.
    if step.instruction.has_lock_prefix() || step.instruction.mnemonic() == Mnemonic::Xchg {
        let address = target(step)?;
        step.memory.keep(address);
    }
    match step.instruction.mnemonic() {
        Mnemonic::Mov if step.instruction.op0_register().is_segment_register() => Err(Stop::Unsupported),
        Mnemonic::Mov | Mnemonic::Movnti | Mnemonic::Movzx => {
            let value = step.read(1)?;
            step.write(0, value)
        }
        Mnemonic::Movsx | Mnemonic::Movsxd => {
            let value = step.read(1)?;
            step.write(0, alu::extend(step.size(1), value) as u64)
        }
        Mnemonic::Movbe => {
            let value = step.read(1)?;
            let unused = 64 - 8 * step.size(0);
            step.write(0, value.swap_bytes() >> unused)
        }

        Mnemonic::Add => binary(step, Binary::Add),
        Mnemonic::Adc => binary(step, Binary::Adc),
        Mnemonic::Sub => binary(step, Binary::Sub),
        Mnemonic::Sbb => binary(step, Binary::Sbb),
        Mnemonic::And => binary(step, Binary::And),
        Mnemonic::Or => binary(step, Binary::Or),
        Mnemonic::Xor => binary(step, Binary::Xor),
        Mnemonic::Cmp => compare(step, Binary::Sub),
        Mnemonic::Test => compare(step, Binary::And),

        Mnemonic::Inc => unary(step, Unary::Inc),
        Mnemonic::Dec => unary(step, Unary::Dec),
        Mnemonic::Neg => unary(step, Unary::Neg),
        Mnemonic::Not => unary(step, Unary::Not),

        Mnemonic::Rol => shift(step, Shift::Rol),
        Mnemonic::Ror => shift(step, Shift::Ror),
        Mnemonic::Rcl => shift(step, Shift::Rcl),
        Mnemonic::Rcr => shift(step, Shift::Rcr),
        Mnemonic::Shl | Mnemonic::Sal => shift(step, Shift::Shl),
        Mnemonic::Shr => shift(step, Shift::Shr),
        Mnemonic::Sar => shift(step, Shift::Sar),
        Mnemonic::Shld => double_shift(step, true),
        Mnemonic::Shrd => double_shift(step, false),

        Mnemonic::Bt => bit(step, Bit::Test),
        Mnemonic::Bts => bit(step, Bit::Set),
        Mnemonic::Btr => bit(step, Bit::Reset),
        Mnemonic::Btc => bit(step, Bit::Complement),

        Mnemonic::Xchg => {
            let (old, new) = (step.read(0)?, step.read(1)?);
            step.write(0, new)?;
            step.write(1, old)
        }
        Mnemonic::Xadd => {
            let (old, added) = (step.read(0)?, step.read(1)?);
            let (sum, flags) = alu::binary(Binary::Add, step.size(0), old, added, step.context.flags());
            step.write(0, sum)?;
            step.write(1, old)?;
            step.context.set_flags(flags);
            Ok(())
        }
        Mnemonic::Cmpxchg => compare_exchange(step),
        Mnemonic::Cmpxchg8b => compare_exchange_pair(step),

        Mnemonic::Imul if step.instruction.op_count() > 1 => {
            let first = step.instruction.op_count() - 2;
            let (a, b) = (step.read(first)?, step.read(first + 1)?);
            let (product, flags) = alu::multiply(step.size(0), a, b, step.context.flags());
            step.write(0, product)?;
            step.context.set_flags(flags);
            Ok(())
        }
        Mnemonic::Imul => multiply_wide(step, |size, a, b| {
            let product = i128::from(alu::extend(size, a)) * i128::from(alu::extend(size, b));
            (product as u128, i128::from(alu::extend(size, product as u64)) != product)
        }),
        Mnemonic::Mul => multiply_wide(step, |size, a, b| {
            let product = u128::from(a) * u128::from(b);
            (product, product >> (8 * size) != 0)
        }),
        Mnemonic::Mulx => {
            let source = if step.size(0) == 4 { Register::EDX } else { Register::RDX };
            let product = u128::from(step.get(source)?) * u128::from(step.read(2)?);
            step.write(1, product as u64)?;
            step.write(0, (product >> (8 * step.size(0))) as u64)
        }
        Mnemonic::Push => {
            let (size, value) = (step.size(0), step.read(0)?);
            let top = step.get(Register::RSP)?.wrapping_sub(size as u64);
            step.memory.store(top, size, value)?;
            step.set(Register::RSP, top)
        }
        Mnemonic::Pop => {
            let (size, top) = (step.size(0), step.get(Register::RSP)?);
            let value = step.memory.load(top, size)?;
            // The target's address is computed with the new stack pointer.
            step.set(Register::RSP, top.wrapping_add(size as u64))?;
            step.write(0, value).inspect_err(|_| {
                let _ = step.set(Register::RSP, top);
            })
        }
        _ => conditional(step),
    }
}

/// SETcc and CMOVcc. All others are left to the next.
fn conditional<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    match (alu::holds(step.instruction.condition_code(), step.context.flags()), step.instruction.op_count()) {
        (Some(holds), 1) => step.write(0, holds.into()),
        (Some(holds), 2) => {
            // The source is read either way, and 32 bits clear the upper half either way.
            let (old, new) = (step.read(0)?, step.read(1)?);
            step.write(0, if holds { new } else { old })
        }
        _ => bits::carry_out(step),
    }
}

fn binary<B: Bus>(step: &mut Step<'_, B>, operation: Binary) -> Result<(), Stop> {
    let (a, b) = (step.read(0)?, step.read(1)?);
    let (result, flags) = alu::binary(operation, step.size(0), a, b, step.context.flags());
    step.write(0, result)?;
    step.context.set_flags(flags);
    Ok(())
}

fn compare<B: Bus>(step: &mut Step<'_, B>, operation: Binary) -> Result<(), Stop> {
    let (a, b) = (step.read(0)?, step.read(1)?);
    let (_, flags) = alu::binary(operation, step.size(0), a, b, step.context.flags());
    step.context.set_flags(flags);
    Ok(())
}

fn unary<B: Bus>(step: &mut Step<'_, B>, operation: Unary) -> Result<(), Stop> {
    let a = step.read(0)?;
    let (result, flags) = alu::unary(operation, step.size(0), a, step.context.flags());
    step.write(0, result)?;
    step.context.set_flags(flags);
    Ok(())
}

fn shift<B: Bus>(step: &mut Step<'_, B>, operation: Shift) -> Result<(), Stop> {
    let (a, count) = (step.read(0)?, step.read(1)?);
    let (result, flags) = alu::shift(operation, step.size(0), a, count, step.context.flags());
    step.write(0, result)?;
    step.context.set_flags(flags);
    Ok(())
}

fn double_shift<B: Bus>(step: &mut Step<'_, B>, to_left: bool) -> Result<(), Stop> {
    let (a, b, count) = (step.read(0)?, step.read(1)?, step.read(2)?);
    let (result, flags) = alu::double_shift(to_left, step.size(0), a, b, count, step.context.flags());
    step.write(0, result)?;
    step.context.set_flags(flags);
    Ok(())
}

/// A bit of a string of bits: an index in a register may lead to before or behind the operand.
fn bit<B: Bus>(step: &mut Step<'_, B>, operation: Bit) -> Result<(), Stop> {
    let (size, index) = (step.size(0), step.read(1)?);
    let address = target(step)?;
    let a = step.memory.load(address, size)?;
    let (result, flags) = alu::bit(operation, a, index % (8 * size as u64), step.context.flags());
    if !matches!(operation, Bit::Test) {
        step.memory.store(address, size, result)?;
    }
    step.context.set_flags(flags);
    Ok(())
}

/// The address of what an instruction changes: its first operand, or the word in which a bit is.
fn target<B: Bus>(step: &Step<'_, B>) -> Result<u64, Stop> {
    let address = step.address(0)?;
    let is_bit =
        matches!(step.instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    if !is_bit || step.instruction.op1_register() == Register::None {
        return Ok(address);
    }
    let size = step.size(0);
    let words = alu::extend(size, step.read(1)?) >> (8 * size).ilog2();
    Ok(address.wrapping_add_signed(words * size as i64))
}
/// CMPXCHG writes in any case: what was there, if it was not what the accumulator has.
fn compare_exchange<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let size = step.size(0);
    let accumulator = match size {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    };
    let (old, expected, new) = (step.read(0)?, step.get(accumulator)?, step.read(1)?);
    let (_, flags) = alu::binary(Binary::Sub, size, expected, old, step.context.flags());
    if flags & alu::ZF != 0 {
        step.write(0, new)?;
    } else {
        step.write(0, old)?;
        step.set(accumulator, old)?;
    }
    step.context.set_flags(flags);
    Ok(())
}

/// The accumulator times an operand, in twice the width: the upper half goes to the data register, or to AH. CF and OF tell
/// whether it is needed.
fn multiply_wide<B: Bus>(
    step: &mut Step<'_, B>,
    multiply: fn(usize, u64, u64) -> (u128, bool),
) -> Result<(), Stop> {
    let size = step.size(0);
    let (low, high) = match size {
        1 => (Register::AL, Register::AH),
        2 => (Register::AX, Register::DX),
        4 => (Register::EAX, Register::EDX),
        _ => (Register::RAX, Register::RDX),
    };
    let (product, wide) = multiply(size, step.get(low)?, step.read(0)?);
    step.set(low, product as u64)?;
    step.set(high, (product >> (8 * size)) as u64)?;
    let carry = if wide { CF | OF } else { 0 };
    step.context.set_flags(step.context.flags() & !(CF | OF) | carry);
    Ok(())
}

/// CMPXCHG8B, of which ZF alone tells.
fn compare_exchange_pair<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let pair = |step: &Step<'_, B>, high, low| Ok::<_, Stop>(step.get(high)? << 32 | step.get(low)?);
    let old = step.read(0)?;
    let flags = step.context.flags();
    if old == pair(step, Register::EDX, Register::EAX)? {
        let new = pair(step, Register::ECX, Register::EBX)?;
        step.write(0, new)?;
        step.context.set_flags(flags | alu::ZF);
    } else {
        step.write(0, old)?;
        step.set(Register::EDX, old >> 32)?;
        step.set(Register::EAX, old)?;
        step.context.set_flags(flags & !alu::ZF);
    }
    Ok(())
}
