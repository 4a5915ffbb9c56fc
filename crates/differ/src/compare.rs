//! A sequence on two systems, and the shortest one that they answer differently.

use crate::outcome::Outcome;
use crate::request::Harmful;
use crate::sequence::{Argument, Call, Sequence};

/// Where two systems part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The call, counted from 0; behind the last one stands what was left after closing.
    pub step: usize,
    /// What the first system did.
    pub left: Outcome,
    /// What the second one did.
    pub right: Outcome,
}

/// Finds the first call that came out differently.
#[must_use]
pub fn compare(left: &[Outcome], right: &[Outcome]) -> Option<Difference> {
    let step = left.iter().zip(right).position(|(left, right)| left != right)?;
    Some(Difference { step, left: left.get(step)?.clone(), right: right.get(step)?.clone() })
}

/// Takes away from a sequence whatever the systems part without: calls, then fields of arguments. `both` makes a sequence on
/// both of them.
pub fn shrink(
    sequence: &Sequence,
    both: impl Fn(&Sequence) -> Result<Option<Difference>, Harmful>,
) -> Result<(Sequence, Option<Difference>), Harmful> {
    let mut best = sequence.clone();
    let mut difference = both(&best)?;
    if let Some(found) = &difference {
        best.steps.truncate(found.step + 1);
    }
    loop {
        let before = best.clone();
        for candidate in [without_steps, without_fields] {
            let mut at = 0;
            while let Some(smaller) = candidate(&best, at) {
                match both(&smaller)? {
                    Some(found) => (best, difference) = (smaller, Some(found)),
                    None => at += 1,
                }
            }
        }
        if best == before {
            return Ok((best, difference));
        }
    }
}

/// The sequence without steps, the larger parts first: the n-th such attempt.
fn without_steps(sequence: &Sequence, attempt: usize) -> Option<Sequence> {
    let length = sequence.steps.len();
    let mut size = (length / 2).max(1);
    let mut first = 0;
    for _ in 0..attempt {
        first += size;
        if first >= length {
            if size == 1 {
                return None;
            }
            (first, size) = (0, size / 2);
        }
    }
    if first >= length {
        return None;
    }
    let mut smaller = sequence.clone();
    smaller.steps.drain(first..(first + size).min(length));
    Some(smaller)
}

/// The sequence without one thing that an argument says: the n-th of those that there are.
fn without_fields(sequence: &Sequence, attempt: usize) -> Option<Sequence> {
    let mut smaller = sequence.clone();
    let mut left = attempt;
    for step in &mut smaller.steps {
        let aside = usize::from(step.aside);
        if left < aside {
            step.aside = false;
            return Some(smaller);
        }
        left -= aside;
        let Call::Ioctl { request, .. } = &mut step.call else { continue };
        let Argument::Memory { fields, tail, .. } = &mut request.argument else { continue };
        if left < fields.len() {
            fields.remove(left);
            return Some(smaller);
        }
        left -= fields.len();
        if left < tail.len() {
            tail.remove(left);
            return Some(smaller);
        }
        left -= tail.len();
    }
    None
}
