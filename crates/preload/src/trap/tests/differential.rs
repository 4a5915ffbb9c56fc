//! Each instruction is executed by this processor and emulated, on the same registers and the same memory. All registers, flags and
//! bytes of memory come out alike.

use std::cell::RefCell;

use iced_x86::{Code, EncodingKind, Mnemonic, Register};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};
use sys::Width;

use super::case::{Case, State, case, defined, states};
use super::generate::codes;
use super::processor::{Executed, Processor};
use crate::trap::context::{Context, mask};
use crate::trap::{Bus, Emulator, Revoked};

const MEMORY: usize = Processor::MEMORY;

/// Trapped pages in a copy of the memory; the others are ordinary.
struct Pages {
    start: u64,
    trapped: std::ops::Range<u64>,
    bytes: RefCell<[u8; MEMORY]>,
}

impl Bus for Pages {
    fn covers(&self, address: u64) -> bool {
        self.trapped.contains(&address)
    }

    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked> {
        assert!(address.is_multiple_of(width.bytes() as u64), "an access is aligned");
        let at = (address - self.start) as usize;
        let mut value = [0; 8];
        value[..width.bytes()].copy_from_slice(&self.bytes.borrow()[at..at + width.bytes()]);
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, address: u64, width: Width, value: u64) -> Result<(), Revoked> {
        assert!(address.is_multiple_of(width.bytes() as u64), "an access is aligned");
        assert_eq!(value & !mask(width.bytes()), 0, "a value is as wide as the access");
        let at = (address - self.start) as usize;
        self.bytes.borrow_mut()[at..at + width.bytes()]
            .copy_from_slice(&value.to_le_bytes()[..width.bytes()]);
        Ok(())
    }
}

fn check(code: Code, state: &State, processor: &Processor, emulator: &Emulator) -> TestCaseResult {
    let Some(Case { instruction, bytes, state, count }) = case(code, state, processor) else {
        return Err(TestCaseError::reject("operands that do not go together"));
    };
    let Some(flags) = defined(&instruction, count) else {
        return Err(TestCaseError::reject("a result that is not defined"));
    };
    let memory = state.memory();
    processor.set_memory(&memory);
    let Executed { mut before, mut after, signal } = processor.execute(&bytes, &mut |context| {
        // SAFETY: what the handler has got.
        let mut context = unsafe { Context::of_signal(context, &emulator.layout) };
        state.put(&mut context);
    });
    let what = format!("{instruction:?} {bytes:02x?}");
    if signal == libc::SIGILL && is_optional(code) {
        return Ok(());
    }
    prop_assert_eq!(signal, libc::SIGTRAP, "{}: the processor does not execute it", what);
    let expected = processor.get_memory();

    processor.set_memory(&memory);
    let start = processor.memory();
    let trapped = match state.seed % 4 {
        0 => start..start + 4096,
        1 => start + 4096..start + MEMORY as u64,
        _ => start..start + MEMORY as u64,
    };
    let bus = Pages { start, trapped: trapped.clone(), bytes: RefCell::new(memory) };
    // SAFETY: the frame is a copy of what a handler got, and the memory is there.
    let outcome = before.with(|context| unsafe { emulator.carry_out(context, &bus) });
    prop_assert_eq!(outcome, Ok(()), "{}", what);
    let mut result = processor.get_memory();
    let pages = (trapped.start - start) as usize..(trapped.end - start) as usize;
    result[pages.clone()].copy_from_slice(&bus.bytes.borrow()[pages]);
    prop_assert!(result == expected, "{what}: memory differs");

    // The breakpoint has been executed, too.
    let layout = &emulator.layout;
    after.registers(layout, |native| {
        before.registers(layout, |emulated| {
            prop_assert_eq!(emulated.rip(), native.rip() - 1, "{}: RIP", what);
            compare(native, emulated, flags, &what)
        })
    })
}

fn compare(native: &Context<'_>, emulated: &Context<'_>, flags: u64, what: &str) -> TestCaseResult {
    for number in 0..16 {
        let register = Register::try_from(Register::RAX as usize + number).expect("a register");
        prop_assert_eq!(emulated.get(register), native.get(register), "{}: {:?}", what, register);
    }
    prop_assert_eq!(emulated.flags() & flags, native.flags() & flags, "{}: flags", what);
    for number in 0..32 {
        prop_assert_eq!(
            emulated.vectors.get(number),
            native.vectors.get(number),
            "{}: vector {}",
            what,
            number
        );
    }
    for number in 0..8 {
        prop_assert_eq!(
            emulated.vectors.mask(number).ok(),
            native.vectors.mask(number).ok(),
            "{}: k{}",
            what,
            number
        );
    }
    Ok(())
}

/// Not every processor has it.
fn is_optional(code: Code) -> bool {
    code.op_code().encoding() == EncodingKind::EVEX && !is_x86_feature_detected!("avx512vl")
        || code.op_code().encoding() == EncodingKind::EVEX && !is_x86_feature_detected!("avx512bw")
        || code.op_code().encoding() == EncodingKind::VEX && !is_x86_feature_detected!("avx2")
        || code.mnemonic() == Mnemonic::Movbe && !is_x86_feature_detected!("movbe")
}

#[test]
fn instructions_do_what_the_processor_does() {
    let processor = Processor::new();
    let emulator = Emulator::new();
    let codes = codes();
    assert!(codes.len() > 500, "{} encodings", codes.len());
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    for code in codes {
        let mut runner =
            TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(RngAlgorithm::XorShift));
        let result = runner.run(&states(), |state| check(code, &state, &processor, &emulator));
        assert!(result.is_ok(), "{code:?}: {}", result.expect_err("an error"));
    }
}
