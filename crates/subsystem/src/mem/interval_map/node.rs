//! One node of the tree: where its members begin, in order, and what belongs to each.

use super::Entry;

/// How many entries a leaf has at most. An insertion moves half of them on average, in memory that is often in no cache.
pub(super) const LEAF: usize = 48;

/// How many children a branch has at most. Branches are searched often and changed rarely.
pub(super) const BRANCH: usize = 64;

/// How many keys fill a cache line.
const LINE: usize = 8;

/// Members in order; where they begin is by itself, so that a search reads little else.
///
/// The order of the fields is kept: the length is in the same cache line as the first keys.
#[repr(C)]
pub(super) struct Node<T, const N: usize> {
    len: usize,
    /// Behind the members `u64::MAX`, so that a search need not know how many there are.
    firsts: [u64; N],
    items: [T; N],
}

/// Entries.
pub(super) type Leaf<V> = Node<Held<V>, LEAF>;

/// Nodes of the level below.
pub(super) type Branch = Node<Child, BRANCH>;

/// An entry, but for where it begins.
#[derive(Clone, Copy)]
pub(super) struct Held<V> {
    /// The highest number in it.
    pub(super) last: u64,
    pub(super) value: V,
}

impl<V> From<Entry<V>> for Held<V> {
    fn from(entry: Entry<V>) -> Self {
        Self { last: entry.last, value: entry.value }
    }
}

/// What a branch knows of a node below it.
#[derive(Clone, Copy)]
pub(super) struct Child {
    /// Its number.
    pub(super) node: u32,
    /// No hole behind an entry of it is wider. May be too much, for insertion does not see to it.
    pub(super) widest: u64,
}

impl<T: Copy, const N: usize> Node<T, N> {
    /// With fewer members, a node is merged or balanced with a sibling.
    pub(super) const FEW: usize = N / 3;

    /// A full node gives members to a sibling with at least this much room; if there is none, it is split.
    pub(super) const ROOM: usize = N / 4;

    /// A node without members; `filler` is what is in place of them.
    pub(super) fn new(filler: T) -> Self {
        const { assert!(N.is_multiple_of(LINE), "a node is searched by the line") };
        Self { len: 0, firsts: [u64::MAX; N], items: [filler; N] }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many more members it can hold.
    pub(super) fn room(&self) -> usize {
        N.saturating_sub(self.len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= N
    }

    /// Where the member at a position begins.
    #[inline]
    pub(super) fn first(&self, position: usize) -> Option<u64> {
        self.firsts.get(position).copied().filter(|_| position < self.len)
    }

    /// Has the member at a position begin at `first`.
    pub(super) fn set_first(&mut self, position: usize, first: u64) {
        self.firsts.get_mut(position).into_iter().for_each(|known| *known = first);
    }

    /// What belongs to the member at a position.
    #[inline]
    pub(super) fn item(&self, position: usize) -> Option<T> {
        self.items.get(position).copied().filter(|_| position < self.len)
    }

    /// What belongs to the member at a position.
    #[inline]
    pub(super) fn item_mut(&mut self, position: usize) -> Option<&mut T> {
        self.items.get_mut(position).filter(|_| position < self.len)
    }

    /// The highest number before the next member; `end` is that before the next node.
    #[inline]
    pub(super) fn end_of(&self, position: usize, end: u64) -> u64 {
        self.first(position.wrapping_add(1)).map_or(end, |next| next.wrapping_sub(1))
    }

    /// How many members begin at or before `at`.
    ///
    /// One comparison per cache line finds the line. They do not wait for each other, nor for the length of the node.
    #[inline]
    pub(super) fn search(&self, at: u64) -> usize {
        let (lines, _) = self.firsts.as_chunks::<LINE>();
        let line = lines.iter().skip(1).filter(|[first, ..]| *first <= at).count();
        let within = lines.get(line).map_or(0, |line| line.iter().filter(|first| **first <= at).count());
        line.wrapping_mul(LINE).wrapping_add(within).min(self.len)
    }

    /// Adds a member at a position; the node is not full.
    #[inline]
    pub(super) fn insert(&mut self, position: usize, first: u64, item: T) {
        open(&mut self.firsts, position, self.len, first);
        open(&mut self.items, position, self.len, item);
        self.len = self.len.wrapping_add(1);
    }

    /// Takes the member at a position away.
    #[inline]
    pub(super) fn remove(&mut self, position: usize) {
        close(&mut self.firsts, position, self.len);
        close(&mut self.items, position, self.len);
        self.len = self.len.wrapping_sub(1);
        self.set_first(self.len, u64::MAX);
    }

    /// Moves members between neighbours, so that `left` has `count` of them.
    pub(super) fn balance(left: &mut Self, right: &mut Self, count: usize) {
        let counts = (left.len, right.len, count);
        transfer(&mut left.firsts, &mut right.firsts, counts);
        transfer(&mut left.items, &mut right.items, counts);
        right.len = left.len.wrapping_add(right.len).wrapping_sub(count);
        left.len = count;
        for node in [left, right] {
            node.firsts.iter_mut().skip(node.len).for_each(|free| *free = u64::MAX);
        }
    }
}

impl<V: Copy> Leaf<V> {
    /// The entry at a position.
    #[inline]
    pub(super) fn entry(&self, position: usize) -> Option<Entry<V>> {
        let Held { last, value } = self.item(position)?;
        Some(Entry { first: self.first(position)?, last, value })
    }

    /// The highest number of the entry at a position.
    #[inline]
    pub(super) fn last(&self, position: usize) -> Option<u64> {
        self.items.get(position).map(|held| held.last).filter(|_| position < self.len)
    }

    /// How wide the hole behind the entry at a position is; `end` is the highest number before the next leaf.
    #[inline]
    pub(super) fn hole_behind(&self, position: usize, end: u64) -> u64 {
        self.last(position).map_or(0, |last| self.end_of(position, end).wrapping_sub(last))
    }

    /// How wide the widest hole behind an entry is.
    pub(super) fn widest(&self, end: u64) -> u64 {
        (0..self.len).map(|position| self.hole_behind(position, end)).max().unwrap_or(0)
    }

    /// The lowest hole of at least `length` that is behind an entry, as far as it is not below `from`.
    pub(super) fn hole(&self, from: u64, end: u64, length: u64) -> Option<(u64, u64)> {
        (self.search(from).saturating_sub(1)..self.len).find_map(|position| {
            let first = self.last(position)?.checked_add(1)?.max(from);
            let last = self.end_of(position, end);
            let fits = first <= last && last.wrapping_sub(first) >= length.wrapping_sub(1);
            fits.then_some((first, last))
        })
    }
}

impl Branch {
    /// The number of the child at a position.
    #[inline]
    pub(super) fn child(&self, position: usize) -> Option<u32> {
        self.items.get(position).map(|child| child.node).filter(|_| position < self.len)
    }

    /// No hole behind an entry below is wider.
    pub(super) fn widest(&self) -> u64 {
        self.items.iter().take(self.len).map(|child| child.widest).max().unwrap_or(0)
    }

    /// The first child, from the one at `position` on, that may have a hole of at least `length` behind an entry.
    pub(super) fn with_hole(&self, position: usize, length: u64) -> Option<usize> {
        (position..self.len).find(|&at| self.items.get(at).is_some_and(|child| child.widest >= length))
    }
}

/// Inserts into the first `len` values of an array that has room.
#[inline]
fn open<T: Copy, const N: usize>(values: &mut [T; N], position: usize, len: usize, value: T) {
    let Some(tail) = values.get_mut(position..=len) else {
        return;
    };
    tail.copy_within(..len.saturating_sub(position), 1);
    if let Some(free) = tail.first_mut() {
        *free = value;
    }
}

/// Removes from the first `len` values of an array.
#[inline]
fn close<T: Copy, const N: usize>(values: &mut [T; N], position: usize, len: usize) {
    if let Some(tail) = values.get_mut(position..len) {
        tail.copy_within(1.., 0);
    }
}

/// Moves values between the end of `left` and the beginning of `right`, which have as many as `counts` says; `left`
/// has the third of them afterwards.
fn transfer<T: Copy, const N: usize>(left: &mut [T; N], right: &mut [T; N], counts: (usize, usize, usize)) {
    let (left_len, right_len, count) = counts;
    if let Some(moved) = left.get(count..left_len) {
        right.copy_within(..right_len, moved.len());
        copy(moved, right.get_mut(..moved.len()));
    } else if let Some(room) = left.get_mut(left_len..count) {
        let moved = room.len();
        copy(right.get(..moved).unwrap_or_default(), Some(room));
        right.copy_within(moved..right_len, 0);
    }
}

fn copy<T: Copy>(from: &[T], to: Option<&mut [T]>) {
    to.into_iter().flatten().zip(from).for_each(|(to, from)| *to = *from);
}
