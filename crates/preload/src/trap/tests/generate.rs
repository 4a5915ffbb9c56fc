//! Instructions of every encoding that is emulated, with any operands.
#![forbid(unsafe_code)]

use iced_x86::{Code, Encoder, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind, OpKind, Register};

/// What is emulated.
#[rustfmt::skip]
pub(super) const MNEMONICS: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Mov, Movnti, Movzx, Movsx, Movsxd, Movbe, Add, Adc, Sub, Sbb, And, Or, Xor, Cmp, Test, Inc, Dec, Neg, Not,
        Rol, Ror, Rcl, Rcr, Shl, Sal, Shr, Sar, Shld, Shrd, Bt, Bts, Btr, Btc, Xchg, Xadd, Cmpxchg, Cmpxchg8b, Imul, Mul, Mulx, Push, Pop,
        Popcnt, Lzcnt, Tzcnt, Bsf, Bsr, Andn, Blsr, Blsmsk, Blsi, Bzhi, Bextr, Rorx, Sarx, Shlx, Shrx, Crc32,
        Seto, Setno, Setb, Setae, Sete, Setne, Setbe, Seta, Sets, Setns, Setp, Setnp, Setl, Setge, Setle, Setg,
        Cmovo, Cmovno, Cmovb, Cmovae, Cmove, Cmovne, Cmovbe, Cmova, Cmovs, Cmovns, Cmovp, Cmovnp, Cmovl, Cmovge, Cmovle, Cmovg,
        Movsb, Movsw, Movsd, Movsq, Cmpsb, Cmpsw, Cmpsd, Cmpsq, Stosb, Stosw, Stosd, Stosq, Lodsb, Lodsw, Lodsd, Lodsq,
        Scasb, Scasw, Scasd, Scasq,
        Movups, Movupd, Movaps, Movapd, Movdqu, Movdqa, Lddqu, Movntps, Movntpd, Movntdq, Movntdqa, Movss, Movd, Movq,
        Movlps, Movlpd, Movhps, Movhpd, Vmovups, Vmovupd, Vmovaps, Vmovapd, Vmovdqu, Vmovdqa, Vlddqu, Vmovntps, Vmovntpd,
        Vmovntdq, Vmovntdqa, Vmovdqu8, Vmovdqu16, Vmovdqu32, Vmovdqu64, Vmovdqa32, Vmovdqa64, Vmovss, Vmovsd, Vmovd, Vmovq,
        Vmovlps, Vmovlpd, Vmovhps, Vmovhpd,
        Pand, Andps, Andpd, Vpand, Vandps, Vandpd, Vpandd, Vpandq, Pandn, Andnps, Andnpd, Vpandn, Vandnps, Vandnpd, Vpandnd,
        Vpandnq, Por, Orps, Orpd, Vpor, Vorps, Vorpd, Vpord, Vporq, Pxor, Xorps, Xorpd, Vpxor, Vxorps, Vxorpd, Vpxord, Vpxorq,
        Vpternlogd, Vpternlogq, Pminub, Vpminub, Pmaxub, Vpmaxub, Pcmpeqb, Pcmpeqw, Pcmpeqd, Pcmpeqq, Vpcmpeqb, Vpcmpeqw,
        Vpcmpeqd, Vpcmpeqq, Pcmpgtb, Pcmpgtw, Pcmpgtd, Pcmpgtq, Vpcmpgtb, Vpcmpgtw, Vpcmpgtd, Vpcmpgtq, Vpcmpb, Vpcmpw, Vpcmpd,
        Vpcmpq, Vpcmpub, Vpcmpuw, Vpcmpud, Vpcmpuq, Vptestmb, Vptestmw, Vptestmd, Vptestmq, Vptestnmb, Vptestnmw, Vptestnmd,
        Vptestnmq, Ptest, Vptest,
    ]
};

const GENERAL: [[Register; 16]; 4] = {
    use Register::*;
    [
        [AL, CL, DL, BL, SPL, BPL, SIL, DIL, R8L, R9L, R10L, R11L, R12L, R13L, R14L, R15L],
        [AX, CX, DX, BX, SP, BP, SI, DI, R8W, R9W, R10W, R11W, R12W, R13W, R14W, R15W],
        [EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D],
        [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15],
    ]
};

/// Numbers that decide what is generated. When they are used up, all further ones are 0.
pub(super) struct Picks<'a>(std::slice::Iter<'a, u32>);

impl<'a> Picks<'a> {
    pub(super) fn new(numbers: &'a [u32]) -> Self {
        Picks(numbers.iter())
    }

    /// One below `end`.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.0.next().copied().unwrap_or(0) % end
    }

    pub(super) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }
}

/// Every encoding of those instructions that accesses memory. MMX and segment registers are not emulated, nor is the comparison
/// of numbers that has the name of a string instruction. XOP is of processors that are no more.
pub(super) fn codes() -> Vec<Code> {
    use OpCodeOperandKind::{mm_or_mem, mm_reg, seg_reg};
    let accesses = |code: &Code| {
        let operands = code.op_code().op_kinds();
        operands.iter().any(|kind| is_memory(*kind))
            && !operands.iter().any(|kind| matches!(kind, mm_reg | mm_or_mem | seg_reg))
            && *code != Code::Cmpsd_xmm_xmmm64_imm8
            && code.op_code().encoding() != EncodingKind::XOP
    };
    Code::values()
        .filter(|code| {
            MNEMONICS.contains(&code.mnemonic()) && code.op_code().is_instruction() && code.op_code().mode64()
        })
        .filter(accesses)
        .collect()
}

fn is_memory(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind::*;
    matches!(
        kind,
        mem | mem_offs
            | r8_or_mem
            | r16_or_mem
            | r32_or_mem
            | r64_or_mem
            | xmm_or_mem
            | ymm_or_mem
            | zmm_or_mem
            | seg_rSI
            | es_rDI
    )
}

/// An instruction of that encoding with a memory operand at `target`, and the registers of its address with the values that lead there.
pub(super) fn instruction(
    code: Code,
    target: u64,
    picks: &mut Picks<'_>,
) -> (Instruction, Vec<(Register, u64)>) {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let mut based = Vec::new();
    let info = code.op_code();
    let vectors = if info.encoding() == EncodingKind::EVEX { 32 } else { 16 };
    let register = |picks: &mut Picks<'_>, first: Register, count: u32| {
        Register::try_from(first as usize + picks.below(count) as usize).expect("a register")
    };
    for (operand, kind) in (0..).zip(info.op_kinds()) {
        use OpCodeOperandKind::*;
        let picked = match kind {
            // AH to BH, too.
            r8_reg => register(picks, Register::AL, 20),
            r16_reg => picks.of(&GENERAL[1]),
            r32_reg | r32_vvvv => picks.of(&GENERAL[2]),
            r64_reg | r64_vvvv => picks.of(&GENERAL[3]),
            xmm_reg | xmm_vvvv => register(picks, Register::XMM0, vectors),
            ymm_reg | ymm_vvvv => register(picks, Register::YMM0, vectors),
            zmm_reg | zmm_vvvv => register(picks, Register::ZMM0, vectors),
            k_reg => register(picks, Register::K0, 8),
            al => Register::AL,
            cl => Register::CL,
            ax => Register::AX,
            eax => Register::EAX,
            rax => Register::RAX,
            _ => Register::None,
        };
        let special = match kind {
            imm8 | imm8_const_1 => OpKind::Immediate8,
            imm8sex16 => OpKind::Immediate8to16,
            imm8sex32 => OpKind::Immediate8to32,
            imm8sex64 => OpKind::Immediate8to64,
            imm16 => OpKind::Immediate16,
            imm32 => OpKind::Immediate32,
            imm32sex64 => OpKind::Immediate32to64,
            seg_rSI => OpKind::MemorySegRSI,
            es_rDI => OpKind::MemoryESRDI,
            _ if picked != Register::None => OpKind::Register,
            _ => OpKind::Memory,
        };
        instruction.set_op_kind(operand, special);
        match special {
            OpKind::Register => instruction.set_op_register(operand, picked),
            OpKind::MemorySegRSI | OpKind::MemoryESRDI => {}
            OpKind::Memory if *kind == mem_offs => {
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(target);
            }
            OpKind::Memory => {
                assert!(is_memory(*kind), "{code:?}: an operand of the kind {kind:?}");
                based = address(&mut instruction, target, picks);
            }
            _ => {
                let value = if *kind == imm8_const_1 { 1 } else { picks.below(u32::MAX) };
                instruction.set_immediate_u64(operand, i64::from(value as i32) as u64);
            }
        }
    }
    (instruction, based)
}

/// One of the ways in which an address below 2 GiB can be given.
fn address(instruction: &mut Instruction, target: u64, picks: &mut Picks<'_>) -> Vec<(Register, u64)> {
    let form = picks.below(6);
    let registers = if form == 4 { GENERAL[2] } else { GENERAL[3] };
    let (base, index) = (picks.of(&registers), picks.of(&registers));
    let displacement = if picks.flag() { picks.below(128) } else { picks.below(1 << 20) };
    instruction.set_memory_displ_size(if form < 2 { 0 } else { 8 });
    match form {
        0 => {
            instruction.set_memory_base(base);
            vec![(base, target)]
        }
        1 => {
            instruction.set_memory_displ_size(4);
            instruction.set_memory_displacement64(target);
            vec![]
        }
        2 => {
            instruction.set_memory_base(Register::RIP);
            instruction.set_memory_displacement64(target);
            vec![]
        }
        3 => {
            instruction.set_memory_base(base);
            instruction.set_memory_displ_size(4);
            instruction.set_memory_displacement64(u64::from(displacement).wrapping_neg());
            vec![(base, target + u64::from(displacement))]
        }
        _ => {
            let scale = picks.of(&[1, 2, 4, 8]);
            let scaled = u64::from(picks.below(1 << 16));
            instruction.set_memory_base(base);
            instruction.set_memory_displ_size(if form == 4 { 4 } else { 8 });
            instruction.set_memory_displacement64(u64::from(displacement));
            let rest = target - u64::from(displacement);
            // RSP is no index, and one register has one value.
            if matches!(index, Register::RSP | Register::ESP) || base == index {
                return vec![(base, rest)];
            }
            instruction.set_memory_index(index);
            instruction.set_memory_index_scale(scale);
            vec![(base, rest.wrapping_sub(scaled * u64::from(scale))), (index, scaled)]
        }
    }
}

/// The bytes of an instruction that is to be at `rip`. `None` where its operands do not go together.
pub(super) fn encode(instruction: &Instruction, rip: u64) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, rip).ok()?;
    Some(encoder.take_buffer())
}
