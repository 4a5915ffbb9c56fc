//! Plain registers: memory that a driver stores to and a model reads.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The doorbell window of a function ([`DoorbellWindow`](crate::model::DoorbellWindow)). Offsets count from the start
/// of the window and are multiples of 4; one behind its end reads 0 and stores nothing.
#[derive(Debug)]
pub struct Doorbells {
    words: Box<[AtomicU32]>,
}

impl Doorbells {
    /// A window of `length` bytes, all zero.
    pub(crate) fn new(length: u64) -> Self {
        Doorbells { words: (0..length / 4).map(|_| AtomicU32::new(0)).collect() }
    }

    fn word(&self, offset: u64) -> Option<&AtomicU32> {
        self.words.get(usize::try_from(offset / 4).ok()?)
    }

    /// The value that was stored last. What its writer did before is seen by whoever acts on it.
    #[inline]
    pub fn load(&self, offset: u64) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores a value.
    #[inline]
    pub fn store(&self, offset: u64, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Zeroes the whole window, as a reset does.
    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Release);
        }
    }
}
