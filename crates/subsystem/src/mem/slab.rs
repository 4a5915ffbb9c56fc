//! Objects under keys that are never reused by mistake.

use core::{fmt, marker::PhantomData, num::NonZeroU32};

use super::{OutOfMemory, slots::Slots};
use crate::Alloc;

/// Names one value of one [`Slab`], and finds nothing once the value was removed.
pub struct Key<T> {
    index: u32,
    generation: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    fn new(index: u32, generation: NonZeroU32) -> Self {
        Self { index, generation, of: PhantomData }
    }

    /// The place of the value, which later values may take again. See [`Slab::key_at`].
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }
}

// Not derived: a derive would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

struct Slot<T> {
    generation: NonZeroU32,
    value: T,
}

/// Values under keys that the slab chooses. Values stay where they are while it grows.
///
/// The generation of a key is the number of the insertion, so a key that outlived its value finds nothing (as long as
/// it is not kept for 2^32 insertions).
pub struct Slab<T> {
    slots: Slots<Slot<T>, 64>,
    /// The next generation.
    next: NonZeroU32,
}

impl<T> Slab<T> {
    /// An empty slab. Takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Slots::new(), next: NonZeroU32::MIN }
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

    /// Makes room for one more value.
    pub fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        self.slots.reserve(alloc)
    }

    /// Stores a value.
    pub fn insert(&mut self, alloc: &impl Alloc, value: T) -> Result<Key<T>, OutOfMemory> {
        self.reserve(alloc)?;
        Ok(self.insert_reserved(value))
    }

    /// Stores a value in the place that [`Slab::reserve`] made room for.
    ///
    /// Without a reservation the value is dropped, and the key finds nothing.
    pub fn insert_reserved(&mut self, value: T) -> Key<T> {
        let generation = self.next;
        self.next = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let index = self.slots.insert(Slot { generation, value });
        debug_assert!(index.is_some(), "a value was inserted without a reservation");
        Key::new(index.unwrap_or(u32::MAX), generation)
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.slots.get(key.index)?;
        (slot.generation == key.generation).then_some(&slot.value)
    }

    /// The value under a key.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index)?;
        (slot.generation == key.generation).then_some(&mut slot.value)
    }

    /// Takes the value under a key away.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        self.slots.remove(key.index).map(|slot| slot.value)
    }

    /// The key of the value that is at a place now.
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key<T>> {
        let slot = self.slots.get(index)?;
        Some(Key::new(index, slot.generation))
    }

    /// All values with their keys, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots.iter().map(|(index, slot)| (Key::new(index, slot.generation), &slot.value))
    }

    /// All values with their keys, by place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T>, &mut T)> {
        self.slots.iter_mut().map(|(index, slot)| (Key::new(index, slot.generation), &mut slot.value))
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}
