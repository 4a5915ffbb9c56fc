//! What instructions compute, and the flags that come of it.
//!
//! Values are extended by zeros from their size in bytes; so are results. Where the manual leaves a flag undefined, it is left
//! as it was or follows from the same formula.
#![forbid(unsafe_code)]

use iced_x86::ConditionCode;

use super::context::mask;

pub(super) const CF: u64 = 1 << 0;
pub(super) const PF: u64 = 1 << 2;
pub(super) const AF: u64 = 1 << 4;
pub(super) const ZF: u64 = 1 << 6;
pub(super) const SF: u64 = 1 << 7;
pub(super) const DF: u64 = 1 << 10;
pub(super) const OF: u64 = 1 << 11;

/// A result, and the flags register with it.
pub(super) type Outcome = (u64, u64);

#[derive(Clone, Copy, Debug)]
pub(super) enum Binary {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
}

pub(super) fn binary(operation: Binary, size: usize, a: u64, b: u64, flags: u64) -> Outcome {
    let (a, b) = (a & mask(size), b & mask(size));
    let carry = flags & CF;
    match operation {
        Binary::Add => add(size, a, b, 0, flags),
        Binary::Adc => add(size, a, b, carry, flags),
        Binary::Sub => subtract(size, a, b, 0, flags),
        Binary::Sbb => subtract(size, a, b, carry, flags),
        Binary::And => logic(size, a & b, flags),
        Binary::Or => logic(size, a | b, flags),
        Binary::Xor => logic(size, a ^ b, flags),
    }
}

fn add(size: usize, a: u64, b: u64, carry: u64, flags: u64) -> Outcome {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = sum as u64 & mask(size);
    let carried = sum > u128::from(mask(size));
    let overflown = (a ^ result) & (b ^ result) & sign(size) != 0;
    (result, arithmetic(size, result, a ^ b, carried, overflown, flags))
}

fn subtract(size: usize, a: u64, b: u64, borrow: u64, flags: u64) -> Outcome {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & mask(size);
    let borrowed = u128::from(a) < u128::from(b) + u128::from(borrow);
    let overflown = (a ^ b) & (a ^ result) & sign(size) != 0;
    (result, arithmetic(size, result, a ^ b, borrowed, overflown, flags))
}

fn arithmetic(size: usize, result: u64, differ: u64, carried: bool, overflown: bool, flags: u64) -> u64 {
    let flags = of_result(size, result, flags);
    with(flags, [(CF, carried), (OF, overflown), (AF, (differ ^ result) & 0x10 != 0)])
}

fn logic(size: usize, result: u64, flags: u64) -> Outcome {
    (result, with(of_result(size, result, flags), [(CF, false), (OF, false), (AF, false)]))
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

pub(super) fn unary(operation: Unary, size: usize, a: u64, flags: u64) -> Outcome {
    let keep_carry = |(result, new): Outcome| (result, new & !CF | flags & CF);
    match operation {
        Unary::Inc => keep_carry(add(size, a, 1, 0, flags)),
        Unary::Dec => keep_carry(subtract(size, a, 1, 0, flags)),
        Unary::Neg => subtract(size, 0, a, 0, flags),
        Unary::Not => (!a & mask(size), flags),
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// Shifts and rotates bit by bit, as often as the lower bits of `count` say.
pub(super) fn shift(operation: Shift, size: usize, a: u64, count: u64, flags: u64) -> Outcome {
    let count = masked(count, size);
    if count == 0 {
        return (a, flags);
    }
    let top = sign(size);
    let mut result = a;
    let mut carry = flags & CF != 0;
    for _ in 0..count {
        let (out_left, out_right) = (result & top != 0, result & 1 != 0);
        let left = result << 1 & mask(size);
        let right = result >> 1;
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        (result, carry) = match operation {
            Shift::Rol => (left | bit(out_left, 1), out_left),
            Shift::Ror => (right | bit(out_right, top), out_right),
            Shift::Rcl => (left | bit(carry, 1), out_left),
            Shift::Rcr => (right | bit(carry, top), out_right),
            Shift::Shl => (left, out_left),
            Shift::Shr => (right, out_right),
            Shift::Sar => (right | result & top, out_right),
        };
    }
    let next_to_top = result & top >> 1 != 0;
    // Defined for one bit only.
    let overflown = match operation {
        Shift::Rol | Shift::Rcl | Shift::Shl => (result & top != 0) != carry,
        Shift::Ror | Shift::Rcr => (result & top != 0) != next_to_top,
        Shift::Shr => a & top != 0,
        Shift::Sar => false,
    };
    let flags = match operation {
        Shift::Shl | Shift::Shr | Shift::Sar => of_result(size, result, flags),
        Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr => flags,
    };
    (result, with(flags, [(CF, carry), (OF, overflown)]))
}

/// Shifts to the left (SHLD) or to the right (SHRD), and bits of `b` in.
pub(super) fn double_shift(to_left: bool, size: usize, a: u64, b: u64, count: u64, flags: u64) -> Outcome {
    let (count, bits) = (masked(count, size), 8 * size as u32);
    if count == 0 {
        return (a, flags);
    }
    // A count beyond the size leaves the result undefined.
    let count = count.min(bits);
    let both = |upper: u64, lower: u64| u128::from(upper) << bits | u128::from(lower);
    let (result, carry) = if to_left {
        ((both(a, b) << count >> bits) as u64 & mask(size), a >> (bits - count))
    } else {
        ((both(b, a) >> count) as u64 & mask(size), a >> (count - 1))
    };
    let overflown = (a ^ result) & sign(size) != 0;
    (result, with(of_result(size, result, flags), [(CF, carry & 1 != 0), (OF, overflown)]))
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

/// Tests one bit and changes it.
pub(super) fn bit(operation: Bit, a: u64, index: u64, flags: u64) -> Outcome {
    let bit = 1 << (index & 63);
    let result = match operation {
        Bit::Test => a,
        Bit::Set => a | bit,
        Bit::Reset => a & !bit,
        Bit::Complement => a ^ bit,
    };
    (result, with(flags, [(CF, a & bit != 0)]))
}

/// The signed product, cut to its size.
pub(super) fn multiply(size: usize, a: u64, b: u64, flags: u64) -> Outcome {
    let product = i128::from(extend(size, a)) * i128::from(extend(size, b));
    let result = product as u64 & mask(size);
    let cut = product != i128::from(extend(size, result));
    (result, with(flags, [(CF, cut), (OF, cut)]))
}

/// A value extended by its sign.
pub(super) fn extend(size: usize, value: u64) -> i64 {
    let unused = 64 - 8 * size as u32;
    ((value << unused) as i64) >> unused
}

/// Whether a condition holds. `None` is no condition.
pub(super) fn holds(condition: ConditionCode, flags: u64) -> Option<bool> {
    let is = |flag: u64| flags & flag != 0;
    let less = is(SF) != is(OF);
    Some(match condition {
        ConditionCode::None => return None,
        ConditionCode::o => is(OF),
        ConditionCode::no => !is(OF),
        ConditionCode::b => is(CF),
        ConditionCode::ae => !is(CF),
        ConditionCode::e => is(ZF),
        ConditionCode::ne => !is(ZF),
        ConditionCode::be => is(CF) || is(ZF),
        ConditionCode::a => !is(CF) && !is(ZF),
        ConditionCode::s => is(SF),
        ConditionCode::ns => !is(SF),
        ConditionCode::p => is(PF),
        ConditionCode::np => !is(PF),
        ConditionCode::l => less,
        ConditionCode::ge => !less,
        ConditionCode::le => less || is(ZF),
        ConditionCode::g => !less && !is(ZF),
    })
}

/// The bits of a count that shifts look at.
fn masked(count: u64, size: usize) -> u32 {
    count as u32 & if size == 8 { 63 } else { 31 }
}

fn sign(size: usize) -> u64 {
    1 << (8 * size - 1)
}

/// The flags that every result has.
fn of_result(size: usize, result: u64, flags: u64) -> u64 {
    let parity = (result as u8).count_ones().is_multiple_of(2);
    with(flags, [(ZF, result == 0), (SF, result & sign(size) != 0), (PF, parity)])
}

fn with<const N: usize>(flags: u64, changes: [(u64, bool); N]) -> u64 {
    changes.into_iter().fold(flags, |flags, (flag, set)| if set { flags | flag } else { flags & !flag })
}
