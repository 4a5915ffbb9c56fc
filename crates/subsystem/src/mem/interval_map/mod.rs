//! Disjoint intervals of `u64`, in order: a B+tree whose branches know how wide a hole below each child can be.

#[cfg(test)]
mod check;
mod grow;
mod node;
mod shrink;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use super::OutOfMemory;
use crate::Alloc;
use tree::Tree;

/// The interval to be inserted overlaps one that is there, or ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap;

/// One interval, both ends included, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<V> {
    /// The lowest number in it.
    pub first: u64,
    /// The highest number in it.
    pub last: u64,
    /// What belongs to it.
    pub value: V,
}

/// Disjoint closed intervals of `u64` with their values.
pub struct IntervalMap<V: Copy> {
    tree: Tree<V>,
}

impl<V: Copy> IntervalMap<V> {
    /// An empty map. Takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { tree: Tree::new() }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes are held, those of the entries included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tree.memory()
    }

    /// Makes room for one more entry.
    pub fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        self.tree.reserve(alloc)
    }

    /// Adds the interval from `first` to `last`. Needs [`IntervalMap::reserve`]; without it, may be refused as well.
    pub fn insert(&mut self, first: u64, last: u64, value: V) -> Result<(), Overlap> {
        let place = self.tree.place(first);
        if first > last || place.is_some_and(|place| self.tree.touches(place, first, last)) {
            return Err(Overlap);
        }
        let inserted = self.tree.insert(place, Entry { first, last, value });
        debug_assert!(inserted.is_some(), "an interval was inserted without a reservation");
        inserted.ok_or(Overlap)
    }

    /// The entry that contains `at`.
    #[must_use]
    pub fn get(&self, at: u64) -> Option<Entry<V>> {
        self.tree.floor(at).filter(|entry| entry.last >= at)
    }

    /// The value of the entry that contains `at`.
    pub fn get_mut(&mut self, at: u64) -> Option<&mut V> {
        let place = self.tree.place(at)?;
        let leaf = self.tree.leaves.get_mut(place.leaf)?;
        let position = place.position.checked_sub(1)?;
        leaf.item_mut(position).filter(|held| held.last >= at).map(|held| &mut held.value)
    }

    /// The entry that contains `at`, or else the first one behind it.
    #[must_use]
    pub fn at_or_after(&self, at: u64) -> Option<Entry<V>> {
        self.tree.walk(at).next()
    }

    /// The last entry that ends before `at`.
    #[must_use]
    pub fn before(&self, at: u64) -> Option<Entry<V>> {
        let entry = self.tree.floor(at)?;
        if entry.last < at { Some(entry) } else { self.tree.floor(entry.first.checked_sub(1)?) }
    }

    /// Has the entry that begins at `first` end at `last`; false if there is none, or that would not shorten it.
    /// Takes no memory.
    pub fn set_last(&mut self, first: u64, last: u64) -> bool {
        self.tree.set_last(first, last).is_some()
    }

    /// Takes away the entry that begins at `first`.
    pub fn remove(&mut self, first: u64) -> Option<Entry<V>> {
        self.tree.remove(first)
    }

    /// Whether an entry has a number of `first` to `last`.
    #[must_use]
    pub fn overlaps(&self, first: u64, last: u64) -> bool {
        first <= last && self.tree.floor(last).is_some_and(|entry| entry.last >= first)
    }

    /// All entries, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Entry<V>> {
        self.iter_from(0)
    }

    /// The entry that contains `at`, and all behind it, ascending.
    pub fn iter_from(&self, at: u64) -> impl Iterator<Item = Entry<V>> {
        self.tree.walk(at)
    }

    /// The lowest hole of at least `length` numbers between `from` and `to`, as its first and last number.
    ///
    /// The hole is as large as the entries around it and the window leave it. On average over all calls, the time taken
    /// does not depend on how many smaller holes there are. What a search learns of them is kept, hence `&mut`.
    pub fn hole(&mut self, from: u64, to: u64, length: u64) -> Option<(u64, u64)> {
        let length = length.max(1);
        let (first, last) = self.tree.hole(from, length)?;
        let last = last.min(to);
        let fits = first <= last && last.wrapping_sub(first) >= length.wrapping_sub(1);
        fits.then_some((first, last))
    }
}

impl<V: Copy> Default for IntervalMap<V> {
    fn default() -> Self {
        Self::new()
    }
}
