//! Instructions that compare or combine a vector register with memory, lane by lane: what `memcmp` and its like are made of.
#![forbid(unsafe_code)]

use iced_x86::Mnemonic;

use super::Bus;
use super::alu::{self, AF, CF, OF, PF, SF, ZF};
use super::step::{Step, Stop};
use super::vector::{enabled, runs, set, vector};
use super::xsave::Vector;

#[derive(Clone, Copy)]
enum Operation {
    And,
    AndNot,
    Or,
    Xor,
    /// Any function of three bits.
    Ternary,
    Minimum,
    Maximum,
    /// All bits of a lane where it holds, or one bit of a mask register.
    If(Condition),
}

#[derive(Clone, Copy)]
enum Condition {
    Equal,
    Greater,
    /// What the last operand says.
    Signed,
    Unsigned,
    /// A bit is set in both.
    Common,
    NoneCommon,
}

pub(super) fn carry_out<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    use Mnemonic::{
        Andnpd, Andnps, Andpd, Andps, Orpd, Orps, Pand, Pandn, Pcmpeqb, Pcmpeqd, Pcmpeqq, Pcmpeqw, Pcmpgtb,
        Pcmpgtd, Pcmpgtq, Pcmpgtw, Pmaxub, Pminub, Por, Ptest, Pxor, Vandnpd, Vandnps, Vandpd, Vandps, Vorpd,
        Vorps, Vpand, Vpandd, Vpandn, Vpandnd, Vpandnq, Vpandq, Vpcmpb, Vpcmpd, Vpcmpeqb, Vpcmpeqd, Vpcmpeqq,
        Vpcmpeqw, Vpcmpgtb, Vpcmpgtd, Vpcmpgtq, Vpcmpgtw, Vpcmpq, Vpcmpub, Vpcmpud, Vpcmpuq, Vpcmpuw, Vpcmpw,
        Vpmaxub, Vpminub, Vpor, Vpord, Vporq, Vpternlogd, Vpternlogq, Vptest, Vptestmb, Vptestmd, Vptestmq,
        Vptestmw, Vptestnmb, Vptestnmd, Vptestnmq, Vptestnmw, Vpxor, Vpxord, Vpxorq, Vxorpd, Vxorps, Xorpd,
        Xorps,
    };
    let operation = match step.instruction.mnemonic() {
        Pand | Andps | Andpd | Vpand | Vandps | Vandpd | Vpandd | Vpandq => Operation::And,
        Pandn | Andnps | Andnpd | Vpandn | Vandnps | Vandnpd | Vpandnd | Vpandnq => Operation::AndNot,
        Por | Orps | Orpd | Vpor | Vorps | Vorpd | Vpord | Vporq => Operation::Or,
        Pxor | Xorps | Xorpd | Vpxor | Vxorps | Vxorpd | Vpxord | Vpxorq => Operation::Xor,
        Vpternlogd | Vpternlogq => Operation::Ternary,
        Pminub | Vpminub => Operation::Minimum,
        Pmaxub | Vpmaxub => Operation::Maximum,
        Pcmpeqb | Pcmpeqw | Pcmpeqd | Pcmpeqq | Vpcmpeqb | Vpcmpeqw | Vpcmpeqd | Vpcmpeqq => {
            Operation::If(Condition::Equal)
        }
        Pcmpgtb | Pcmpgtw | Pcmpgtd | Pcmpgtq | Vpcmpgtb | Vpcmpgtw | Vpcmpgtd | Vpcmpgtq => {
            Operation::If(Condition::Greater)
        }
        Vpcmpb | Vpcmpw | Vpcmpd | Vpcmpq => Operation::If(Condition::Signed),
        Vpcmpub | Vpcmpuw | Vpcmpud | Vpcmpuq => Operation::If(Condition::Unsigned),
        Vptestmb | Vptestmw | Vptestmd | Vptestmq => Operation::If(Condition::Common),
        Vptestnmb | Vptestnmw | Vptestnmd | Vptestnmq => Operation::If(Condition::NoneCommon),
        Ptest | Vptest => return test(step),
        _ => return Err(Stop::Unsupported),
    };
    combine(step, operation)
}

fn combine<B: Bus>(step: &mut Step<'_, B>, operation: Operation) -> Result<(), Stop> {
    let instruction = step.instruction;
    let memory =
        (1..instruction.op_count()).find(|operand| step.is_memory(*operand)).ok_or(Stop::Unsupported)?;
    let first = vector(step, memory - 1)?;
    let size = instruction.op_register(memory - 1).size();
    // Logic without a mask has no lanes.
    let lane = instruction.memory_size().element_size().min(8);
    let enabled = enabled(step, size, lane)?;
    let (a, b) = (step.context.vectors.get(first), second(step, memory, size, lane, enabled)?);
    // There is one only behind a mask or a comparison that wants it.
    let immediate = instruction.try_immediate(memory + 1).unwrap_or(0);
    let lanes = (0..size / lane).filter(|index| enabled >> (index * lane) & 1 == 1);

    let target = instruction.op0_register();
    if target.is_k() {
        let Operation::If(condition) = operation else { return Err(Stop::Unsupported) };
        let holds =
            |index: &usize| holds(condition, immediate, lane, get(&a, *index, lane), get(&b, *index, lane));
        let bits = lanes.filter(holds).fold(0, |bits, index| bits | 1 << index);
        return Ok(step.context.vectors.set_mask(target.number(), bits)?);
    }
    let number = vector(step, 0)?;
    let old = step.context.vectors.get(number);
    let mut value: Vector = [0; 64];
    if !instruction.zeroing_masking() {
        value[..size].copy_from_slice(&old[..size]);
    }
    for index in lanes {
        let (c, a, b) = (get(&old, index, lane), get(&a, index, lane), get(&b, index, lane));
        let result = match operation {
            Operation::And => a & b,
            Operation::AndNot => !a & b,
            Operation::Or => a | b,
            Operation::Xor => a ^ b,
            Operation::Ternary => ternary(immediate, c, a, b),
            Operation::Minimum => a.min(b),
            Operation::Maximum => a.max(b),
            Operation::If(condition) if holds(condition, immediate, lane, a, b) => u64::MAX,
            Operation::If(_) => 0,
        };
        value[index * lane..][..lane].copy_from_slice(&result.to_le_bytes()[..lane]);
    }
    set(step, number, &value)
}

/// The operand in memory: a vector, of which the lanes that are masked out are not read, or one element for all lanes.
fn second<B: Bus>(
    step: &Step<'_, B>,
    operand: u32,
    size: usize,
    lane: usize,
    enabled: u64,
) -> Result<Vector, Stop> {
    let address = step.address(operand)?;
    let mut value: Vector = [0; 64];
    if step.instruction.is_broadcast() {
        if enabled != 0 {
            step.memory.read(address, &mut value[..lane])?;
        }
        for index in 1..size / lane {
            value.copy_within(..lane, index * lane);
        }
    } else {
        for (start, end) in runs(enabled, size) {
            step.memory.read(address.wrapping_add(start as u64), &mut value[start..end])?;
        }
    }
    Ok(value)
}

/// PTEST: ZF tells that no bit is set in both, CF that none is set in the second operand alone.
fn test<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let size = step.size(1);
    let a = step.context.vectors.get(vector(step, 0)?);
    let mut b: Vector = [0; 64];
    step.memory.read(step.address(1)?, &mut b[..size])?;
    let none = |bits: &dyn Fn(u64, u64) -> u64| {
        (0..size / 8).all(|index| bits(get(&a, index, 8), get(&b, index, 8)) == 0)
    };
    let mut flags = step.context.flags() & !(CF | PF | AF | ZF | SF | OF);
    if none(&|a, b| a & b) {
        flags |= ZF;
    }
    if none(&|a, b| !a & b) {
        flags |= CF;
    }
    step.context.set_flags(flags);
    Ok(())
}

fn get(vector: &Vector, index: usize, lane: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..lane].copy_from_slice(&vector[index * lane..][..lane]);
    u64::from_le_bytes(bytes)
}

fn holds(condition: Condition, immediate: u64, lane: usize, a: u64, b: u64) -> bool {
    let signed = alu::extend(lane, a).cmp(&alu::extend(lane, b));
    let compared = match condition {
        Condition::Equal => return a == b,
        Condition::Greater => return signed.is_gt(),
        Condition::Common => return a & b != 0,
        Condition::NoneCommon => return a & b == 0,
        Condition::Signed => signed,
        Condition::Unsigned => a.cmp(&b),
    };
    match immediate & 7 {
        0 => compared.is_eq(),
        1 => compared.is_lt(),
        2 => compared.is_le(),
        3 => false,
        4 => compared.is_ne(),
        5 => compared.is_ge(),
        6 => compared.is_gt(),
        _ => true,
    }
}

/// Bits by a table: each bit of `table` says what comes of one of the eight combinations.
fn ternary(table: u64, c: u64, a: u64, b: u64) -> u64 {
    let or_not = |bits: u64, set: bool| if set { bits } else { !bits };
    (0..8)
        .filter(|index| table >> index & 1 == 1)
        .map(|index| or_not(c, index & 4 != 0) & or_not(a, index & 2 != 0) & or_not(b, index & 1 != 0))
        .fold(0, |result, bits| result | bits)
}
