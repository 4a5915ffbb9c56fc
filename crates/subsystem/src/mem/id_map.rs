//! Values under small numbers, the lowest free one first.

use super::{OutOfMemory, slots::Slots};
use crate::Alloc;

/// Why no number was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// The host has no memory, or did not permit the allocation.
    OutOfMemory,
    /// Every number is in use.
    Exhausted,
}

impl From<OutOfMemory> for IdError {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Values under numbers that the map chooses: always the lowest that is free.
pub struct IdMap<V> {
    slots: Slots<V, 64>,
    base: u32,
    last: u32,
}

impl<V> IdMap<V> {
    /// An empty map that gives out `base` to `last`, both included. Takes no memory.
    #[must_use]
    pub const fn new(base: u32, last: u32) -> Self {
        Self { slots: Slots::new(), base, last }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are held, those of the values included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.slots.memory()
    }

    /// The number that the next value gets; `None` if all are in use.
    #[must_use]
    pub fn lowest_free(&self) -> Option<u32> {
        let id = self.slots.lowest_free()?.checked_add(self.base)?;
        (id <= self.last).then_some(id)
    }

    /// Makes room for one more value.
    pub fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), IdError> {
        self.lowest_free().ok_or(IdError::Exhausted)?;
        Ok(self.slots.reserve(alloc)?)
    }

    /// Stores a value under [`IdMap::lowest_free`], which is returned.
    pub fn insert(&mut self, alloc: &impl Alloc, value: V) -> Result<u32, IdError> {
        self.reserve(alloc)?;
        self.slots.insert(value).and_then(|index| index.checked_add(self.base)).ok_or(IdError::OutOfMemory)
    }

    /// The value under a number.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&V> {
        self.slots.get(id.checked_sub(self.base)?)
    }

    /// The value under a number.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut V> {
        self.slots.get_mut(id.checked_sub(self.base)?)
    }

    /// Takes the value under a number away; the number is free again.
    pub fn remove(&mut self, id: u32) -> Option<V> {
        self.slots.remove(id.checked_sub(self.base)?)
    }

    /// All values with their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let base = self.base;
        self.slots.iter().filter_map(move |(index, value)| Some((index.checked_add(base)?, value)))
    }

    /// All values.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().map(|(_, value)| value)
    }
}
