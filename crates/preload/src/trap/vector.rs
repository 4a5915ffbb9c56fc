//! Loads and stores of vector registers: SSE, AVX and AVX-512.
#![forbid(unsafe_code)]

use iced_x86::{EncodingKind, Mnemonic, Register};

use super::step::{Step, Stop};
use super::xsave::Vector;
use super::{Bus, lanes};

pub(super) fn carry_out<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    use Mnemonic::{
        Lddqu, Movapd, Movaps, Movd, Movdqa, Movdqu, Movhpd, Movhps, Movlpd, Movlps, Movntdq, Movntdqa,
        Movntpd, Movntps, Movq, Movsd, Movss, Movupd, Movups, Vlddqu, Vmovapd, Vmovaps, Vmovd, Vmovdqa,
        Vmovdqa32, Vmovdqa64, Vmovdqu, Vmovdqu8, Vmovdqu16, Vmovdqu32, Vmovdqu64, Vmovhpd, Vmovhps, Vmovlpd,
        Vmovlps, Vmovntdq, Vmovntdqa, Vmovntpd, Vmovntps, Vmovq, Vmovsd, Vmovss, Vmovupd, Vmovups,
    };
    match step.instruction.mnemonic() {
        Movups | Movupd | Movaps | Movapd | Movdqu | Movdqa | Lddqu | Movntps | Movntpd | Movntdq
        | Movntdqa | Vmovups | Vmovupd | Vmovaps | Vmovapd | Vmovdqu | Vmovdqa | Vlddqu | Vmovntps
        | Vmovntpd | Vmovntdq | Vmovntdqa | Vmovdqu8 | Vmovdqu16 | Vmovdqu32 | Vmovdqu64 | Vmovdqa32
        | Vmovdqa64 | Movss | Movsd | Movd | Movq | Vmovss | Vmovsd | Vmovd | Vmovq => {
            if step.is_memory(0) {
                store(step)
            } else {
                load(step)
            }
        }
        Movlps | Movlpd | Vmovlps | Vmovlpd => half(step, 0),
        Movhps | Movhpd | Vmovhps | Vmovhpd => half(step, 8),
        _ => lanes::carry_out(step),
    }
}

fn load<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let size = step.size(1);
    let number = vector(step, 0)?;
    let enabled = enabled(step, size, step.instruction.memory_size().element_size())?;
    let address = step.address(1)?;
    let mut value: Vector = [0; 64];
    if !step.instruction.zeroing_masking() {
        value[..size].copy_from_slice(&step.context.vectors.get(number)[..size]);
    }
    for (start, end) in runs(enabled, size) {
        step.memory.read(address.wrapping_add(start as u64), &mut value[start..end])?;
    }
    set(step, number, &value)
}

fn store<B: Bus>(step: &mut Step<'_, B>) -> Result<(), Stop> {
    let size = step.size(0);
    let enabled = enabled(step, size, step.instruction.memory_size().element_size())?;
    let address = step.address(0)?;
    let value = step.context.vectors.get(vector(step, 1)?);
    for (start, end) in runs(enabled, size) {
        step.memory.write(address.wrapping_add(start as u64), &value[start..end])?;
    }
    Ok(())
}

/// One half of 128 bits. What is loaded leaves the other half as it is, or takes it from another register.
fn half<B: Bus>(step: &mut Step<'_, B>, start: usize) -> Result<(), Stop> {
    if step.is_memory(0) {
        let value = step.context.vectors.get(vector(step, 1)?);
        return step.memory.write(step.address(0)?, &value[start..start + 8]);
    }
    let memory = step.instruction.op_count() - 1;
    let mut value: Vector = [0; 64];
    value[..16].copy_from_slice(&step.context.vectors.get(vector(step, memory - 1)?)[..16]);
    step.memory.read(step.address(memory)?, &mut value[start..start + 8])?;
    set(step, vector(step, 0)?, &value)
}

/// Writes a register: what is above 128 bits stays with the oldest encoding, and is written with all others.
pub(super) fn set<B: Bus>(step: &mut Step<'_, B>, number: usize, value: &Vector) -> Result<(), Stop> {
    if step.instruction.encoding() == EncodingKind::Legacy {
        let low = value.first_chunk().ok_or(Stop::Unsupported)?;
        step.context.vectors.set_low(number, low)?;
    } else {
        step.context.vectors.set(number, value)?;
    }
    Ok(())
}

/// The number of the vector register that is this operand.
pub(super) fn vector<B: Bus>(step: &Step<'_, B>, operand: u32) -> Result<usize, Stop> {
    let register = step.instruction.op_register(operand);
    if register.is_vector_register() { Ok(register.number()) } else { Err(Stop::Unsupported) }
}

/// Which bytes of a memory operand of that size are accessed, a bit each. A mask has one for each lane.
pub(super) fn enabled<B: Bus>(step: &Step<'_, B>, size: usize, lane: usize) -> Result<u64, Stop> {
    if step.instruction.op_mask() == Register::None {
        return Ok(u64::MAX);
    }
    let mask = step.context.vectors.mask(step.instruction.op_mask().number())?;
    Ok((0..size).filter(|byte| mask >> (byte / lane) & 1 == 1).fold(0, |enabled, byte| enabled | 1 << byte))
}

/// Runs of bytes that are enabled, from start to end.
pub(super) fn runs(enabled: u64, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let is = move |byte: &usize| enabled >> byte & 1 == 1;
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = (at..size).find(is)?;
        at = (start..size).find(|byte| !is(byte)).unwrap_or(size);
        Some((start, at))
    })
}
