//! A growing set of small numbers that knows its lowest member.

use alloc::vec::Vec;

use super::{OutOfMemory, bytes_of, reserve};
use crate::Alloc;

/// Six bits of a number at each level: enough for 2^30 numbers.
const LEVELS: usize = 5;

/// A set of numbers below [`Bits::len`], as a bitmap with summaries.
///
/// A bit of a level stands for a word of the level below, and is set if any bit of that word is. A level exists only
/// if the one below has more than one word.
pub(super) struct Bits {
    levels: [Vec<u64>; LEVELS],
    len: usize,
}

impl Bits {
    pub(super) const fn new() -> Self {
        Self { levels: [const { Vec::new() }; LEVELS], len: 0 }
    }

    /// How many bytes are held.
    pub(super) fn memory(&self) -> usize {
        self.levels.iter().map(bytes_of).sum()
    }

    /// Makes room for one more number.
    pub(super) fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        let mut bits = self.len.saturating_add(1);
        for level in &mut self.levels {
            let words = bits.div_ceil(64);
            reserve(level, alloc, words.saturating_sub(level.len()))?;
            if words == 1 {
                return Ok(());
            }
            bits = words;
        }
        Err(OutOfMemory)
    }

    /// Adds the number [`Bits::len`], as a member. Needs [`Bits::reserve`].
    pub(super) fn push(&mut self) {
        let number = self.len;
        self.len = number.saturating_add(1);
        let mut words = self.len.div_ceil(64);
        let mut below = 0;
        for level in &mut self.levels {
            // A new level begins with what the first word of the level below has been so far.
            if level.is_empty() {
                level.push(u64::from(below != 0));
            }
            if level.len() < words {
                level.push(0);
            }
            if words == 1 {
                break;
            }
            below = level.first().copied().unwrap_or(0);
            words = words.div_ceil(64);
        }
        self.set(number);
    }

    /// Makes a number a member.
    pub(super) fn set(&mut self, number: usize) {
        let mut number = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(number / 64) else { return };
            let before = *word;
            *word |= 1 << (number % 64);
            if before != 0 {
                return;
            }
            number /= 64;
        }
    }

    /// Makes a number no member.
    pub(super) fn clear(&mut self, number: usize) {
        let mut number = number;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(number / 64) else { return };
            *word &= !(1 << (number % 64));
            if *word != 0 {
                return;
            }
            number /= 64;
        }
    }

    /// The lowest member.
    pub(super) fn lowest(&self) -> Option<usize> {
        let mut at = 0_usize;
        for level in self.levels.iter().rev().filter(|level| !level.is_empty()) {
            let word = *level.get(at)?;
            if word == 0 {
                return None;
            }
            at = at.wrapping_mul(64) | word.trailing_zeros() as usize;
        }
        (self.len > 0).then_some(at)
    }
}
