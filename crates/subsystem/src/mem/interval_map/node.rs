//! One node of the tree: up to [`FANOUT`] members in order, and the widest hole between them.

use super::Entry;

/// How many members a node has at most. A multiple of [`LINE`].
pub(super) const FANOUT: usize = 64;

/// How many keys fill a cache line.
const LINE: usize = 8;

/// What a node keeps of a member, besides where it begins.
pub(super) trait Member: Copy {
    /// What leads on to it, kept apart from the rest so that the way down touches less memory.
    type Link: Copy;

    /// The highest number in it.
    fn last(&self) -> u64;
    /// The width of the widest hole in it.
    fn gap(&self) -> u64;
}

/// A member of a leaf: an interval and its value.
#[derive(Clone, Copy)]
pub(super) struct Item<V> {
    pub(super) last: u64,
    pub(super) value: V,
}

impl<V: Copy> Member for Item<V> {
    type Link = ();

    fn last(&self) -> u64 {
        self.last
    }

    fn gap(&self) -> u64 {
        0
    }
}

/// A member of a branch: another node, whose number is the link.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) last: u64,
    pub(super) gap: u64,
}

impl Member for Child {
    type Link = u32;

    fn last(&self) -> u64 {
        self.last
    }

    fn gap(&self) -> u64 {
        self.gap
    }
}

/// A member with all that a node keeps of it.
#[derive(Clone, Copy)]
pub(super) struct Part<M: Member> {
    pub(super) first: u64,
    pub(super) link: M::Link,
    pub(super) member: M,
}

/// What a branch knows of a node below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The lowest number in it.
    pub(super) first: u64,
    /// The highest number in it.
    pub(super) last: u64,
    /// The width of the widest hole between the two.
    pub(super) gap: u64,
}

/// Where the search for a hole ended.
pub(super) enum Found {
    /// Just before the member at this position.
    Before(usize),
    /// Within the member at this position.
    Within(usize),
}

/// Members in order. The keys lie together, apart from the rest, for searching.
pub(super) struct Node<M: Member> {
    len: usize,
    gap: u64,
    /// Where the members begin; behind them `u64::MAX`, so that a search need not know how many there are.
    firsts: [u64; FANOUT],
    /// What leads on to the members; behind them anything.
    links: [M::Link; FANOUT],
    /// The rest of the members; behind them anything.
    members: [M; FANOUT],
}

impl<M: Member> Node<M> {
    /// A node without members. What is in place of them is taken from `filler`.
    pub(super) fn new(filler: Part<M>) -> Self {
        let Part { link, member, .. } = filler;
        Self { len: 0, gap: 0, firsts: [u64::MAX; FANOUT], links: [link; FANOUT], members: [member; FANOUT] }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many more members it can hold.
    pub(super) fn room(&self) -> usize {
        FANOUT.saturating_sub(self.len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= FANOUT
    }

    /// Where the member at a position begins.
    #[inline]
    pub(super) fn first(&self, position: usize) -> Option<u64> {
        self.firsts.get(position).copied().filter(|_| position < self.len)
    }

    /// The member at a position.
    #[inline]
    pub(super) fn member(&self, position: usize) -> Option<&M> {
        self.members.get(position).filter(|_| position < self.len)
    }

    /// What leads on to the member at a position.
    #[inline]
    pub(super) fn link(&self, position: usize) -> Option<M::Link> {
        self.links.get(position).copied().filter(|_| position < self.len)
    }

    /// The member at a position.
    pub(super) fn member_mut(&mut self, position: usize) -> Option<&mut M> {
        self.members.get_mut(position).filter(|_| position < self.len)
    }

    /// The whole node in short; `None` if it has no members.
    pub(super) fn summary(&self) -> Option<Summary> {
        let last = self.member(self.len.checked_sub(1)?)?.last();
        Some(Summary { first: self.first(0)?, last, gap: self.gap })
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

    /// The width of the hole before the member at a position; 0 at either end of the node.
    fn hole_before(&self, position: usize) -> u64 {
        let before = position.checked_sub(1).and_then(|before| self.member(before));
        match (before, self.first(position)) {
            (Some(before), Some(first)) => width(before.last(), first),
            _ => 0,
        }
    }

    /// The hole before the member at a position, as its first and last number.
    pub(super) fn hole(&self, position: usize) -> Option<(u64, u64)> {
        let before = self.member(position.checked_sub(1)?)?;
        Some((before.last().checked_add(1)?, self.first(position)?.checked_sub(1)?))
    }

    /// The widest hole that has to do with the member at a position.
    fn gap_around(&self, position: usize) -> u64 {
        let within = self.member(position).map_or(0, Member::gap);
        within.max(self.hole_before(position)).max(self.hole_before(position.wrapping_add(1)))
    }

    /// Takes note that the holes around a member changed from `before` to `after` at most.
    fn note(&mut self, before: u64, after: u64) {
        if before == self.gap && after < before {
            self.measure();
        } else {
            self.gap = self.gap.max(after);
        }
    }

    /// Finds the widest hole anew.
    fn measure(&mut self) {
        let within = self.members.iter().take(self.len).map(Member::gap).max();
        let others = self.firsts.iter().take(self.len).skip(1);
        let between = others.zip(&self.members).map(|(&first, before)| width(before.last(), first)).max();
        self.gap = within.max(between).unwrap_or(0);
    }

    /// Adds a member at a position; the node is not full.
    pub(super) fn insert(&mut self, position: usize, part: Part<M>) {
        let before = self.hole_before(position);
        open(&mut self.firsts, position, self.len, part.first);
        open(&mut self.links, position, self.len, part.link);
        open(&mut self.members, position, self.len, part.member);
        self.len = self.len.wrapping_add(1);
        self.note(before, self.gap_around(position));
    }

    /// Takes the member at a position away.
    pub(super) fn remove(&mut self, position: usize) -> Option<M> {
        let removed = *self.member(position)?;
        let before = self.gap_around(position);
        close(&mut self.firsts, position, self.len);
        close(&mut self.links, position, self.len);
        close(&mut self.members, position, self.len);
        self.len = self.len.wrapping_sub(1);
        if let Some(free) = self.firsts.get_mut(self.len) {
            *free = u64::MAX;
        }
        self.note(before, self.hole_before(position));
        Some(removed)
    }

    /// Moves members between neighbours, so that `left` has `count` of them.
    pub(super) fn balance(left: &mut Self, right: &mut Self, count: usize) {
        let counts = (left.len, right.len, count);
        transfer(&mut left.firsts, &mut right.firsts, counts);
        transfer(&mut left.links, &mut right.links, counts);
        transfer(&mut left.members, &mut right.members, counts);
        right.len = left.len.wrapping_add(right.len).wrapping_sub(count);
        left.len = count;
        for node in [left, right] {
            node.firsts.iter_mut().skip(node.len).for_each(|free| *free = u64::MAX);
            node.measure();
        }
    }

    /// The lowest hole of at least `length`, from the member at `position` on, its inside included.
    pub(super) fn hole_from(&self, position: usize, length: u64) -> Option<Found> {
        if self.member(position)?.gap() >= length {
            return Some(Found::Within(position));
        }
        self.hole_behind(position, length)
    }

    /// The lowest hole of at least `length` that is behind the member at `position`.
    pub(super) fn hole_behind(&self, position: usize, length: u64) -> Option<Found> {
        (position.checked_add(1)?..self.len).find_map(|next| {
            if self.hole_before(next) >= length {
                return Some(Found::Before(next));
            }
            (self.member(next)?.gap() >= length).then_some(Found::Within(next))
        })
    }
}

impl<V: Copy> Node<Item<V>> {
    /// Moves the end of the member at a position.
    pub(super) fn set_last(&mut self, position: usize, last: u64) {
        let before = self.gap_around(position);
        if let Some(item) = self.member_mut(position) {
            item.last = last;
        }
        self.note(before, self.gap_around(position));
    }

    /// The member at a position, as an entry.
    #[inline]
    pub(super) fn entry(&self, position: usize) -> Option<Entry<V>> {
        let item = self.member(position)?;
        Some(Entry { first: self.first(position)?, last: item.last, value: item.value })
    }
}

impl Node<Child> {
    /// Brings what is known of a child up to date.
    pub(super) fn update(&mut self, position: usize, summary: Summary) {
        let before = self.gap_around(position);
        if let (Some(first), Some(child)) = (self.firsts.get_mut(position), self.members.get_mut(position)) {
            *first = summary.first;
            child.last = summary.last;
            child.gap = summary.gap;
        }
        self.note(before, self.gap_around(position));
    }
}

/// The width of the hole between two intervals; 0 while they overlap, as summaries may before both are up to date.
#[inline]
fn width(last: u64, next_first: u64) -> u64 {
    next_first.saturating_sub(last).saturating_sub(1)
}

/// Inserts into the first `len` values of an array that has room.
#[inline]
fn open<T: Copy>(values: &mut [T; FANOUT], position: usize, len: usize, value: T) {
    let Some(tail) = values.get_mut(position..=len) else { return };
    tail.copy_within(..len.saturating_sub(position), 1);
    if let Some(free) = tail.first_mut() {
        *free = value;
    }
}

/// Removes from the first `len` values of an array.
#[inline]
fn close<T: Copy>(values: &mut [T; FANOUT], position: usize, len: usize) {
    if let Some(tail) = values.get_mut(position..len) {
        tail.copy_within(1.., 0);
    }
}

/// Moves values between the end of `left` and the beginning of `right`, which have as many as `counts` says; `left`
/// has the third of them afterwards.
fn transfer<T: Copy>(left: &mut [T; FANOUT], right: &mut [T; FANOUT], counts: (usize, usize, usize)) {
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
