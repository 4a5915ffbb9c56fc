//! Values in a row.

use alloc::vec::Vec;

use super::{OutOfMemory, bytes_of, reserve};
use crate::Alloc;

/// Values in a row, which grows at its end.
pub struct List<T> {
    values: Vec<T>,
}

impl<T> List<T> {
    /// An empty list. Takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: Vec::new() }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many bytes are held, those of the values included.
    #[must_use]
    pub fn memory(&self) -> usize {
        bytes_of(&self.values)
    }

    /// Makes room for one more value.
    pub fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        self.reserve_many(alloc, 1)
    }

    /// Makes room for `count` more values.
    pub fn reserve_many(&mut self, alloc: &impl Alloc, count: usize) -> Result<(), OutOfMemory> {
        reserve(&mut self.values, alloc, count)
    }

    /// Adds a value at the end.
    pub fn push(&mut self, alloc: &impl Alloc, value: T) -> Result<(), OutOfMemory> {
        self.reserve(alloc)?;
        self.push_reserved(value);
        Ok(())
    }

    /// Adds a value at the end, in the place that [`List::reserve`] made room for.
    ///
    /// Without a reservation the value is dropped.
    pub fn push_reserved(&mut self, value: T) {
        let room = self.values.len() < self.values.capacity();
        debug_assert!(room, "a value was added without a reservation");
        if room {
            self.values.push(value);
        }
    }

    /// Takes the last value away.
    pub fn pop(&mut self) -> Option<T> {
        self.values.pop()
    }

    /// The value at a position.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.values.get(index)
    }

    /// The value at a position.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.values.get_mut(index)
    }

    /// Takes the value at a position away; those behind it move up.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        (index < self.values.len()).then(|| self.values.remove(index))
    }

    /// All values in order.
    pub fn iter(&self) -> core::slice::Iter<'_, T> {
        self.values.iter()
    }

    /// All values in order.
    pub fn iter_mut(&mut self) -> core::slice::IterMut<'_, T> {
        self.values.iter_mut()
    }

    /// Takes all values away and gives the memory back.
    pub fn clear(&mut self) {
        self.values = Vec::new();
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}
