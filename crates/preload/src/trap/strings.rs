//! String instructions, once or repeated. Either side may be a device's, or both.
#![forbid(unsafe_code)]

use iced_x86::{Mnemonic, OpKind, Register};

use super::Bus;
use super::alu::{self, Binary};
use super::step::{Next, Step, Stop};

/// How many elements are done in one trap. A long copy comes back for the rest, as one that is interrupted does, so that
/// signals reach the program meanwhile.
const BURST: u64 = 4096;

pub(super) fn carry_out<B: Bus>(step: &mut Step<'_, B>) -> Result<Next, Stop> {
    let instruction = step.instruction;
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::Register | OpKind::MemoryESRDI => {}
            OpKind::MemorySegRSI if !is_based(instruction.memory_segment()) => {}
            // Addresses of 32 bits, thread-local memory.
            _ => return Err(Stop::Unsupported),
        }
    }
    if !(instruction.has_rep_prefix() || instruction.has_repne_prefix()) {
        element(step)?;
        return Ok(Next::Behind);
    }
    let compares = matches!(
        instruction.mnemonic(),
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    );
    let while_equal = !instruction.has_repne_prefix();
    for _ in 0..BURST {
        let left = step.get(Register::RCX)?;
        if left == 0 {
            return Ok(Next::Behind);
        }
        element(step)?;
        step.set(Register::RCX, left - 1)?;
        let equal = step.context.flags() & alu::ZF != 0;
        if left == 1 || compares && equal != while_equal {
            return Ok(Next::Behind);
        }
    }
    Ok(Next::Again)
}

fn is_based(segment: Register) -> bool {
    matches!(segment, Register::FS | Register::GS)
}

/// One element. Registers change only if it is done.
fn element<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let (size, accumulator) = match step.instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Cmpsb | Mnemonic::Stosb | Mnemonic::Lodsb | Mnemonic::Scasb => {
            (1, Register::AL)
        }
        Mnemonic::Movsw | Mnemonic::Cmpsw | Mnemonic::Stosw | Mnemonic::Lodsw | Mnemonic::Scasw => {
            (2, Register::AX)
        }
        Mnemonic::Movsd | Mnemonic::Cmpsd | Mnemonic::Stosd | Mnemonic::Lodsd | Mnemonic::Scasd => {
            (4, Register::EAX)
        }
        Mnemonic::Movsq | Mnemonic::Cmpsq | Mnemonic::Stosq | Mnemonic::Lodsq | Mnemonic::Scasq => {
            (8, Register::RAX)
        }
        // Those of ports.
        _ => return Err(Stop::Unsupported),
    };
    let (from, to) = (step.get(Register::RSI)?, step.get(Register::RDI)?);
    let (moves_from, moves_to) = match step.instruction.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => {
            let value = step.memory.load(from, size)?;
            step.memory.store(to, size, value)?;
            (true, true)
        }
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq => {
            let (a, b) = (step.memory.load(from, size)?, step.memory.load(to, size)?);
            compare(step, size, a, b);
            (true, true)
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
            step.memory.store(to, size, step.get(accumulator)?)?;
            (false, true)
        }
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => {
            let value = step.memory.load(from, size)?;
            step.set(accumulator, value)?;
            (true, false)
        }
        _ => {
            let (a, b) = (step.get(accumulator)?, step.memory.load(to, size)?);
            compare(step, size, a, b);
            (false, true)
        }
    };
    let backwards = step.context.flags() & alu::DF != 0;
    let advanced = |address: u64| {
        if backwards { address.wrapping_sub(size as u64) } else { address.wrapping_add(size as u64) }
    };
    if moves_from {
        step.set(Register::RSI, advanced(from))?;
    }
    if moves_to {
        step.set(Register::RDI, advanced(to))?;
    }
    Ok(())
}

fn compare<B: Bus>(step: &mut Step<'_, B>, size: usize, a: u64, b: u64) {
    let (_, flags) = alu::binary(Binary::Sub, size, a, b, step.context.flags());
    step.context.set_flags(flags);
}
