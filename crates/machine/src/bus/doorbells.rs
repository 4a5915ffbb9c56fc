//! Plain registers: memory that a driver stores to and a model reads.

use std::sync::atomic::{AtomicU32, Ordering};

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

#[cfg(test)]
mod tests {
    use super::Doorbells;

    #[test]
    fn a_store_is_read_back_until_the_window_is_cleared() {
        let doorbells = Doorbells::new(4096);
        doorbells.store(8, 7);
        doorbells.store(4092, 9);
        assert_eq!((doorbells.load(8), doorbells.load(4092), doorbells.load(12)), (7, 9, 0));
        doorbells.clear();
        assert_eq!((doorbells.load(8), doorbells.load(4092)), (0, 0));
    }

    #[test]
    fn behind_the_end_there_is_nothing() {
        let doorbells = Doorbells::new(4096);
        doorbells.store(4096, 1);
        assert_eq!(doorbells.load(4096), 0);
    }
}
