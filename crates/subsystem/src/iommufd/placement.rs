//! Where a new mapping goes.

use super::PAGE;
use super::reserved::Reserved;
use crate::Refusal;
use crate::mem::IntervalMap;
use crate::rules::iommufd as rule;

/// Which IOVA a mapping is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// This one.
    Fixed(u64),
    /// The lowest that suits the memory, in the allowed ranges.
    Lowest,
}

/// Checks a fixed IOVA: aligned, in bounds, not kept free, not mapped.
pub(super) fn check_fixed<V: Copy>(
    areas: &IntervalMap<V>,
    reserved: &Reserved,
    alignment: u64,
    iova: u64,
    length: u64,
) -> Result<(), Refusal> {
    if !is_aligned(iova, alignment) {
        return Err(rule::MAP_IOVA_ALIGNMENT);
    }
    let last = iova.checked_add(length.saturating_sub(1)).ok_or(rule::MAP_IOVA_WRAPS)?;
    if reserved.overlaps(iova, last) {
        return Err(rule::MAP_RESERVED);
    }
    if areas.overlaps(iova, last) { Err(rule::MAP_OVERLAP) } else { Ok(()) }
}

/// Finds the lowest IOVA for memory that starts at `source`, an address or an offset in a file.
///
/// The IOVA is aligned as the memory is, as far as its length can use it and to at most `huge` bytes; the offset in
/// the page is that of the memory. An empty list of allowed ranges allows everything; the first page and the last
/// one are never chosen.
pub(super) fn lowest<V: Copy>(
    mut free: Free<'_, V>,
    allowed: &IntervalMap<()>,
    alignment: u64,
    huge: u64,
    source: u64,
    length: u64,
) -> Result<u64, Refusal> {
    if length >= u64::MAX / 2 {
        return Err(rule::MAP_TOO_LONG);
    }
    let fit = Fit { want: wanted_alignment(source, length, huge), offset: source % PAGE, length };
    if fit.want < alignment {
        return Err(rule::MAP_NATURAL_ALIGNMENT);
    }
    const FIRST: u64 = PAGE;
    const LAST: u64 = u64::MAX - PAGE;
    let found = if allowed.is_empty() {
        fit.between(&mut free, FIRST, LAST)
    } else {
        allowed
            .iter_from(FIRST)
            .take_while(|range| range.first <= LAST)
            .find_map(|range| fit.between(&mut free, range.first.max(FIRST), range.last.min(LAST)))
    };
    found.ok_or(rule::MAP_NO_ROOM)
}

/// The alignment that makes the best use of large pages.
fn wanted_alignment(source: u64, length: u64, huge: u64) -> u64 {
    let by_length = length.checked_next_power_of_two().unwrap_or(huge);
    // The lowest bit that is set; 0 is aligned to anything.
    let by_source = source & source.wrapping_neg();
    let natural = if by_source == 0 { by_length } else { by_length.min(by_source) };
    natural.min(huge)
}

/// Whether `value` is a multiple of `alignment`, a power of two.
pub(super) fn is_aligned(value: u64, alignment: u64) -> bool {
    value & alignment.saturating_sub(1) == 0
}

/// What is free: what is neither mapped nor kept free.
pub(super) struct Free<'a, V: Copy> {
    pub(super) areas: &'a mut IntervalMap<V>,
    pub(super) reserved: &'a Reserved,
}

impl<V: Copy> Free<'_, V> {
    /// The lowest hole of at least `length` from `from` to `last`, as large as it is there.
    fn hole(&mut self, from: u64, last: u64, length: u64) -> Option<(u64, u64)> {
        let mut from = from;
        loop {
            let open = self.reserved.open_from(from, last)?;
            if let Some(hole) = self.areas.hole(open.0, open.1, length) {
                return Some(hole);
            }
            from = open.1.checked_add(1)?;
        }
    }
}

/// What the place of a mapping must fulfil.
struct Fit {
    want: u64,
    offset: u64,
    length: u64,
}

impl Fit {
    /// The lowest place from `first` to `last` that is free.
    fn between<V: Copy>(&self, free: &mut Free<'_, V>, first: u64, last: u64) -> Option<u64> {
        let mut from = self.start(first, last)?;
        loop {
            let hole = free.hole(from, last, self.length)?;
            if let Some(start) = self.start(hole.0, hole.1) {
                return Some(start);
            }
            from = hole.1.checked_add(1)?;
        }
    }

    /// Where a mapping begins in a hole. The offset is put in with OR, as Linux does: in a hole that begins within a
    /// page, the offset of the result can be another one.
    fn start(&self, first: u64, last: u64) -> Option<u64> {
        let mask = self.want.checked_sub(1)?;
        let start = (first.checked_add(mask)? & !mask) | self.offset;
        // A start at the very last address is refused even for one byte: so does Linux.
        let room = last.checked_sub(start).filter(|room| *room > 0)?;
        (room >= self.length.saturating_sub(1)).then_some(start)
    }
}
