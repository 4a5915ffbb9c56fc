//! One node of the tree: up to [`FANOUT`] members in order, and the widest hole between them.

use core::ops::Range;

use super::Entry;

/// How many members a node has at most. A multiple of [`LINE`].
pub(super) const FANOUT: usize = 64;

/// How many keys fill a cache line.
const LINE: usize = 8;

/// An entry, or all entries of a node below: the numbers from `first` to `last`.
#[derive(Clone, Copy)]
pub(super) struct Member<T, G> {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The value of the entry, or the number of the node.
    pub(super) item: T,
    pub(super) gap: G,
}

/// The widest hole in a member.
pub(super) trait Gap: Copy {
    /// Its width; 0 if there is none.
    fn width(self) -> u64;
}

/// An entry has no holes.
impl Gap for () {
    fn width(self) -> u64 {
        0
    }
}

/// A node may have.
impl Gap for u64 {
    fn width(self) -> u64 {
        self
    }
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

/// The widest holes of a node: how wide, and how many there are. Counting spares most searches for the next ones, for
/// areas of like size leave holes of like size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Widest {
    width: u64,
    count: usize,
}

impl Widest {
    #[inline]
    fn gain(&mut self, other: Self) {
        if other.width > self.width {
            *self = other;
        } else if other.width == self.width {
            self.count = self.count.wrapping_add(other.count);
        }
    }

    #[inline]
    fn lose(&mut self, other: Self) {
        if other.width == self.width {
            self.count = self.count.wrapping_sub(other.count);
        }
    }
}

/// One hole.
impl From<u64> for Widest {
    fn from(width: u64) -> Self {
        Self { width, count: usize::from(width > 0) }
    }
}

/// Where the search for a hole ended.
pub(super) enum Found {
    /// Just before the member at this position.
    Before(usize),
    /// Within the member at this position.
    Within(usize),
}

/// Members in order, each property of them by itself: a search reads keys and little else.
pub(super) struct Node<T, G> {
    len: usize,
    pub(super) widest: Widest,
    /// Behind the members `u64::MAX`, so that a search need not know how many there are.
    firsts: [u64; FANOUT],
    lasts: [u64; FANOUT],
    items: [T; FANOUT],
    gaps: [G; FANOUT],
}

impl<T: Copy, G: Gap> Node<T, G> {
    /// A node without members; `filler` is what is in place of them.
    pub(super) fn new(filler: Member<T, G>) -> Self {
        Self {
            len: 0,
            widest: Widest::default(),
            firsts: [u64::MAX; FANOUT],
            lasts: [0; FANOUT],
            items: [filler.item; FANOUT],
            gaps: [filler.gap; FANOUT],
        }
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

    /// Where the member at a position ends.
    #[inline]
    pub(super) fn last(&self, position: usize) -> Option<u64> {
        self.lasts.get(position).copied().filter(|_| position < self.len)
    }

    /// The value or the node at a position.
    #[inline]
    pub(super) fn item(&self, position: usize) -> Option<T> {
        self.items.get(position).copied().filter(|_| position < self.len)
    }

    /// The value or the node at a position.
    pub(super) fn item_mut(&mut self, position: usize) -> Option<&mut T> {
        self.items.get_mut(position).filter(|_| position < self.len)
    }

    /// The width of the widest hole in the member at a position.
    pub(super) fn gap(&self, position: usize) -> u64 {
        self.gaps.get(position).filter(|_| position < self.len).map_or(0, |gap| gap.width())
    }

    /// The whole node in short; `None` if it has no members.
    pub(super) fn summary(&self) -> Option<Summary> {
        Some(Summary {
            first: self.first(0)?,
            last: self.last(self.len.checked_sub(1)?)?,
            gap: self.widest.width,
        })
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

    /// Adds a member at a position; the node is not full. Whether the summary changed.
    #[inline]
    pub(super) fn insert(&mut self, position: usize, member: Member<T, G>) -> bool {
        let (at_end, widest) = (position == 0 || position >= self.len, self.widest.width);
        let (before, behind) = (self.last_before(position), self.first(position));
        self.widest.lose(hole_between(before, behind).into());
        self.widest.gain(hole_between(before, Some(member.first)).into());
        self.widest.gain(hole_between(Some(member.last), behind).into());
        self.widest.gain(member.gap.width().into());
        open(&mut self.firsts, position, self.len, member.first);
        open(&mut self.lasts, position, self.len, member.last);
        open(&mut self.items, position, self.len, member.item);
        open(&mut self.gaps, position, self.len, member.gap);
        self.len = self.len.wrapping_add(1);
        self.settle(widest) || at_end
    }

    /// Takes the member at a position away. Whether the summary changed.
    #[inline]
    pub(super) fn remove(&mut self, position: usize) -> bool {
        let widest = self.widest.width;
        self.around(position).into_iter().for_each(|hole| self.widest.lose(hole.into()));
        close(&mut self.firsts, position, self.len);
        close(&mut self.lasts, position, self.len);
        close(&mut self.items, position, self.len);
        close(&mut self.gaps, position, self.len);
        self.len = self.len.wrapping_sub(1);
        if let Some(free) = self.firsts.get_mut(self.len) {
            *free = u64::MAX;
        }
        self.widest.gain(self.hole_before(position).into());
        self.settle(widest) || position == 0 || position >= self.len
    }

    /// Replaces the limits and the gap of the member at a position. Whether the summary changed.
    fn replace(&mut self, position: usize, summary: Summary, gap: G) -> bool {
        let widest = self.widest.width;
        self.around(position).into_iter().for_each(|hole| self.widest.lose(hole.into()));
        let known =
            (self.firsts.get_mut(position), self.lasts.get_mut(position), self.gaps.get_mut(position));
        if let (Some(known_first), Some(known_last), Some(known_gap)) = known {
            (*known_first, *known_last, *known_gap) = (summary.first, summary.last, gap);
        }
        self.around(position).into_iter().for_each(|hole| self.widest.gain(hole.into()));
        self.settle(widest) || position == 0 || position.wrapping_add(1) >= self.len
    }

    /// Moves members between neighbours, so that `left` has `count` of them.
    pub(super) fn balance(left: &mut Self, right: &mut Self, count: usize) {
        let counts = (left.len, right.len, count);
        let given = left.len.saturating_sub(count);
        let taken = count.saturating_sub(left.len);
        // What leaves a node takes its holes along; the hole at the cut is in neither node afterwards.
        let moved = if given > 0 { left.widest_of(count..left.len) } else { right.widest_of(0..taken) };
        let cut = Widest::from(if given > 0 { left.hole_before(count) } else { right.hole_before(taken) });
        transfer(&mut left.firsts, &mut right.firsts, counts);
        transfer(&mut left.lasts, &mut right.lasts, counts);
        transfer(&mut left.items, &mut right.items, counts);
        transfer(&mut left.gaps, &mut right.gaps, counts);
        right.len = left.len.wrapping_add(right.len).wrapping_sub(count);
        left.len = count;
        let (giver, taker, seam) =
            if given > 0 { (left, right, given) } else { (right, left, count.saturating_sub(taken)) };
        giver.firsts.iter_mut().skip(giver.len).for_each(|free| *free = u64::MAX);
        giver.widest.lose(moved);
        giver.widest.lose(cut);
        giver.settle(0);
        taker.widest.gain(moved);
        taker.widest.gain(taker.hole_before(seam).into());
    }

    /// Finds the widest holes anew if none is left. Whether they are not as wide as they were.
    #[inline]
    fn settle(&mut self, widest: u64) -> bool {
        if self.widest.count == 0 && self.widest.width > 0 {
            self.widest = self.widest_of(0..self.len);
        }
        self.widest.width != widest
    }

    /// The widest holes in and between members.
    pub(super) fn widest_of(&self, members: Range<usize>) -> Widest {
        let gaps = self.gaps.get(members.clone()).unwrap_or_default().iter().map(|gap| gap.width());
        let lasts = self.lasts.get(members.clone()).unwrap_or_default();
        let firsts = self.firsts.get(members).and_then(|firsts| firsts.get(1..)).unwrap_or_default();
        let steps = lasts.iter().zip(firsts).map(|(&last, &first)| first.wrapping_sub(last));
        // Four maxima in turn, for one alone would wait for itself at each step.
        let (a, b, c, d) = steps.clone().fold((1, 1, 1, 1), |(a, b, c, d), step| (b, c, d, a.max(step)));
        let between = a.max(b).max(c.max(d)).wrapping_sub(1);
        let width = gaps.clone().max().unwrap_or(0).max(between);
        if width == 0 {
            return Widest::default();
        }
        let within = gaps.filter(|&gap| gap == width).count();
        let between = steps.filter(|&step| step == width.wrapping_add(1)).count();
        Widest { width, count: within.wrapping_add(between) }
    }

    /// The widths of the holes that have to do with the member at a position.
    #[inline]
    fn around(&self, position: usize) -> [u64; 3] {
        [self.hole_before(position), self.gap(position), self.hole_before(position.wrapping_add(1))]
    }

    /// Where the member before a position ends.
    #[inline]
    fn last_before(&self, position: usize) -> Option<u64> {
        self.last(position.checked_sub(1)?)
    }

    /// The width of the hole before the member at a position; 0 at either end of the node.
    #[inline]
    fn hole_before(&self, position: usize) -> u64 {
        hole_between(self.last_before(position), self.first(position))
    }

    /// The hole before the member at a position, as its first and last number.
    pub(super) fn hole(&self, position: usize) -> Option<(u64, u64)> {
        let before = self.last_before(position)?;
        Some((before.checked_add(1)?, self.first(position)?.checked_sub(1)?))
    }

    /// The lowest hole of at least `length`, from the member at `position` on, its inside included.
    pub(super) fn hole_from(&self, position: usize, length: u64) -> Option<Found> {
        if self.gap(position) >= length {
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
            (self.gap(next) >= length).then_some(Found::Within(next))
        })
    }
}

impl<V: Copy> Node<V, ()> {
    /// Has the member at a position end at `last`. Whether the summary changed.
    pub(super) fn set_last(&mut self, position: usize, last: u64) -> bool {
        let Some(first) = self.first(position) else { return false };
        self.replace(position, Summary { first, last, gap: 0 }, ())
    }

    /// The member at a position, as an entry.
    #[inline]
    pub(super) fn entry(&self, position: usize) -> Option<Entry<V>> {
        Some(Entry { first: self.first(position)?, last: self.last(position)?, value: self.item(position)? })
    }
}

impl Node<u32, u64> {
    /// Brings what is known of a node below up to date. Whether the summary changed.
    pub(super) fn update(&mut self, position: usize, summary: Summary) -> bool {
        self.replace(position, summary, summary.gap)
    }
}

/// The width of the hole between the end of a member and the beginning of the next; 0 if one of them is missing.
#[inline]
fn hole_between(last: Option<u64>, next_first: Option<u64>) -> u64 {
    match (last, next_first) {
        (Some(last), Some(first)) => first.wrapping_sub(last).wrapping_sub(1),
        _ => 0,
    }
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
