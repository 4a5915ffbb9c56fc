//! Cases for the comparison: an instruction, and the registers and the memory that it meets.
#![forbid(unsafe_code)]

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;

use super::generate::{Picks, encode, instruction};
use super::processor::Processor;
use crate::trap::alu::{AF, CF, DF, OF, PF, SF, ZF};
use crate::trap::context::Context;

const MEMORY: usize = Processor::MEMORY;

/// What registers, flags and memory are before.
#[derive(Clone, Debug)]
pub(super) struct State {
    general: [u64; 16],
    flags: u64,
    pub(super) seed: u64,
    /// Memory is the same byte everywhere, so that strings are equal for a while.
    uniform: bool,
    picks: Vec<u32>,
}

pub(super) fn states() -> impl Strategy<Value = State> {
    let value = || prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), 0_u64..256, any::<u64>()];
    (
        proptest::array::uniform16(value()),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
        proptest::collection::vec(any::<u32>(), 24),
    )
        .prop_map(|(general, flags, seed, uniform, picks)| State {
            general,
            flags,
            seed,
            uniform,
            picks,
        })
}

/// Fills bytes with such that look random.
fn fill(bytes: &mut [u8], mut seed: u64) {
    for word in bytes.chunks_exact_mut(8) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(seed ^ seed >> 29).to_le_bytes());
    }
}

impl State {
    pub(super) fn memory(&self) -> [u8; MEMORY] {
        let mut bytes = [self.seed as u8; MEMORY];
        if !self.uniform {
            fill(&mut bytes, self.seed);
        }
        bytes
    }

    pub(super) fn put(&self, context: &mut Context<'_>) {
        let mut vectors = [0; 32 * 64];
        fill(&mut vectors, !self.seed);
        if self.uniform {
            // Many lanes are as memory is.
            vectors.iter_mut().filter(|byte| **byte > 32).for_each(|byte| *byte = self.seed as u8);
        }
        for (number, value) in self.general.iter().enumerate() {
            let register = Register::try_from(Register::RAX as usize + number).expect("a register");
            context.set(register, *value).expect("a general register");
        }
        for (number, vector) in vectors.as_chunks().0.iter().enumerate() {
            // Processors without those registers do not get their values, and not their instructions.
            let _ = context.vectors.set(number, vector);
        }
        context.set_flags(0x202 | self.flags & (CF | PF | AF | ZF | SF | DF | OF));
    }
}

fn is_locked(instruction: &Instruction, picks: &mut Picks<'_>) -> bool {
    use Mnemonic::{
        Adc, Add, And, Btc, Btr, Bts, Cmpxchg, Cmpxchg8b, Dec, Inc, Neg, Not, Or, Sbb, Sub, Xadd, Xchg, Xor,
    };
    let may = matches!(
        instruction.mnemonic(),
        Adc | Add
            | And
            | Btc
            | Btr
            | Bts
            | Cmpxchg
            | Cmpxchg8b
            | Dec
            | Inc
            | Neg
            | Not
            | Or
            | Sbb
            | Sub
            | Xadd
            | Xchg
            | Xor
    ) && instruction.op0_kind() != OpKind::Register;
    may && picks.flag()
}

/// Whether the processor wants the operand aligned.
fn is_aligned(code: Code) -> bool {
    use Mnemonic::{
        Lddqu, Movdqu, Movntdq, Movntdqa, Movntpd, Movntps, Movupd, Movups, Vmovapd, Vmovaps, Vmovdqa,
        Vmovdqa32, Vmovdqa64, Vmovntdq, Vmovntdqa, Vmovntpd, Vmovntps, Xchg,
    };
    match code.mnemonic() {
        Movups | Movupd | Movdqu | Lddqu => false,
        // Locked, always: not across cache lines.
        Xchg | Movntdq | Movntdqa | Movntpd | Movntps | Vmovapd | Vmovaps | Vmovdqa | Vmovdqa32
        | Vmovdqa64 | Vmovntdq | Vmovntdqa | Vmovntpd | Vmovntps => true,
        _ => code.op_code().encoding() == EncodingKind::Legacy && code.op_code().memory_size().size() == 16,
    }
}

/// The flags that the manual defines after the instruction. `None`: not even the result is defined.
pub(super) fn defined(instruction: &Instruction, count: u64) -> Option<u64> {
    use Mnemonic::{
        And, Andn, Bextr, Blsi, Blsmsk, Blsr, Bsf, Bsr, Bt, Btc, Btr, Bts, Bzhi, Imul, Lzcnt, Mul, Or, Rcl,
        Rcr, Rol, Ror, Sal, Sar, Shl, Shld, Shr, Shrd, Test, Tzcnt, Xor,
    };
    let bits = 8 * instruction.memory_size().size() as u64;
    let count = count & if bits == 64 { 63 } else { 31 };
    let all = CF | PF | AF | ZF | SF | OF | DF;
    let of_one = if count > 1 { OF } else { 0 };
    Some(match instruction.mnemonic() {
        And | Or | Xor | Test => all & !AF,
        Bt | Bts | Btr | Btc => CF | ZF | DF,
        Imul | Mul => CF | OF | DF,
        Lzcnt | Tzcnt => CF | ZF | DF,
        Bsf | Bsr => ZF | DF,
        Andn | Blsi | Blsmsk | Blsr | Bzhi => all & !(AF | PF),
        Bextr => CF | OF | ZF | DF,
        Rol | Ror | Rcl | Rcr => all & !of_one,
        Shl | Sal | Shr | Sar if count >= bits => all & !(AF | OF | CF),
        Shl | Sal | Shr | Sar if count > 0 => all & !(AF | of_one),
        Shld | Shrd if count > bits => return None,
        Shld | Shrd if count > 0 => all & !(AF | of_one),
        _ => all,
    })
}

/// One instruction, made from a state.
pub(super) struct Case {
    pub(super) instruction: Instruction,
    pub(super) bytes: Vec<u8>,
    pub(super) state: State,
    /// By how much it shifts, if it does.
    pub(super) count: u64,
}

/// `None` where the operands do not go together.
pub(super) fn case(code: Code, state: &State, processor: &Processor) -> Option<Case> {
    let mut state = state.clone();
    let picks = state.picks.clone();
    let mut picks = Picks::new(&picks);
    let size = u64::from(code.op_code().memory_size().size() as u32);
    // Anywhere, and often across the border of the two pages.
    let mut target = processor.memory()
        + u64::from(if picks.flag() { 4096 - 64 + picks.below(128) } else { 128 + picks.below(7900) });
    let locked_or_aligned = picks.flag() || is_aligned(code);
    if locked_or_aligned {
        target -= target % size.max(1);
    }
    let (mut instruction, based) = instruction(code, target, &mut picks);
    if locked_or_aligned && is_locked(&instruction, &mut picks) {
        instruction.set_has_lock_prefix(true);
    }
    let number = |register: Register| register.full_register().number();
    let is_base = |register: Register| based.iter().any(|(base, _)| number(*base) == number(register));
    for (register, value) in &based {
        state.general[number(*register)] = *value;
    }
    let memory = state.memory();
    let at = (target - processor.memory()) as usize;
    let word = u64::from_le_bytes(std::array::from_fn(|index| memory[at + index]));

    if instruction.is_string_instruction() {
        let place =
            |picks: &mut Picks<'_>| processor.memory() + 512 + u64::from(picks.below(MEMORY as u32 - 1024));
        state.general[6] = place(&mut picks);
        state.general[7] = place(&mut picks);
        match picks.below(3) {
            0 => {}
            1 => instruction.set_has_rep_prefix(true),
            _ => instruction.set_has_repne_prefix(true),
        }
        if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
            state.general[1] = u64::from(picks.below(40));
        }
        if state.uniform {
            state.general[0] = u64::from_le_bytes([state.seed as u8; 8]);
        }
    }
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop => {
            let stack = processor.memory() + 64..processor.memory() + MEMORY as u64 - 64;
            if !is_base(Register::RSP) {
                state.general[4] = stack.start + u64::from(picks.below(MEMORY as u32 - 128));
            } else if !stack.contains(&state.general[4]) {
                return None;
            }
        }
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
            if instruction.op1_register() != Register::None =>
        {
            if is_base(instruction.op1_register()) {
                return None;
            }
            let index = i64::from(picks.below(1024)) - 512;
            // The upper half of a narrower index does not count.
            state.general[number(instruction.op1_register())] = index as u64;
        }
        Mnemonic::Cmpxchg if picks.flag() && !is_base(Register::RAX) => {
            state.general[0] = word;
        }
        Mnemonic::Cmpxchg8b if picks.flag() && !is_base(Register::RAX) && !is_base(Register::RDX) => {
            state.general[0] = word;
            state.general[2] = word >> 32;
        }
        // The manual does not say what the target is if no bit is set.
        Mnemonic::Bsf | Mnemonic::Bsr if memory[at..][..size as usize].iter().all(|byte| *byte == 0) => {
            return None;
        }
        _ => {}
    }
    if code.op_code().can_use_op_mask_register() && picks.flag() {
        instruction.set_op_mask(
            Register::try_from(Register::K1 as usize + picks.below(7) as usize).expect("a register"),
        );
        // What is stored cannot be made zero.
        let loads = instruction.op0_kind() == OpKind::Register;
        instruction.set_zeroing_masking(loads && code.op_code().can_use_zeroing_masking() && picks.flag());
    }
    instruction.set_is_broadcast(code.op_code().can_broadcast() && picks.flag());
    let bytes = encode(&instruction, processor.code())?;
    // What the shift's last operand is: an immediate, or CL.
    let last = instruction.op_count() - 1;
    let count = instruction.try_immediate(last).unwrap_or(state.general[1]);
    Some(Case { instruction, bytes, state, count })
}
