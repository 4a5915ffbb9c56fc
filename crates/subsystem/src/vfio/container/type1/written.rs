//! Which pages are dirty: those that drivers of emulated devices have written or pinned; all, where devices do DMA.

use super::{Mapped, PAGE, Space};
use crate::host::Host;
use crate::mem::{Entry, IntervalMap};

/// What drivers have written or pinned since the process was last told of it.
pub(super) struct Written {
    /// IOVAs of pages, each range within one mapping.
    ranges: IntervalMap<()>,
    /// There was no memory to note something: everything counts as written until pages are tracked anew.
    incomplete: bool,
}

impl Written {
    pub(super) const NOTHING: Self = Written { ranges: IntervalMap::new(), incomplete: false };
}

/// The dirty pages of a mapping, as bits of a bitmap that begins at the page of `base`.
pub(super) struct Dirty<'a> {
    base: u64,
    /// The bits of the mapping.
    first: u64,
    last: u64,
    /// `None`: all.
    ranges: Option<&'a IntervalMap<()>>,
}

impl Dirty<'_> {
    /// A word of the bitmap.
    pub(super) fn word(&self, word: u64) -> u64 {
        let start = word.saturating_mul(64);
        let (first, last) = (start.max(self.first), start.saturating_add(63).min(self.last));
        if first > last {
            return 0;
        }
        let ones = |from: u64, to: u64| {
            let (from, to) = (from.max(first).saturating_sub(start), to.min(last).saturating_sub(start));
            (u64::MAX << from.min(63)) & (u64::MAX >> 63_u64.saturating_sub(to))
        };
        let Some(ranges) = self.ranges else { return ones(first, last) };
        let bit = |iova: u64| iova.saturating_sub(self.base) / PAGE;
        let ranges = ranges.iter_from(self.base.saturating_add(first.saturating_mul(PAGE)));
        ranges
            .take_while(|range| bit(range.first) <= last)
            .fold(0, |bits, range| bits | ones(bit(range.first), bit(range.last)))
    }

    /// The last `count` bits of the mapping, of at most 63, the highest one as the highest.
    pub(super) fn top(&self, count: u32) -> u64 {
        let start = self.last.saturating_add(1).saturating_sub(count.into());
        let (low, high) = (self.word(start / 64), self.word((start / 64).saturating_add(1)));
        let bits = u128::from(low) | u128::from(high) << 64;
        (bits >> (start % 64)) as u64
    }
}

impl<H: Host> Space<H> {
    /// The dirty pages of a mapping.
    pub(super) fn dirty(&self, base: u64, entry: &Entry<Mapped<H::Pin>>) -> Dirty<'_> {
        let bit = |iova: u64| iova.saturating_sub(base) / PAGE;
        let all = !self.domains.is_empty() || self.written.incomplete;
        let ranges = (!all).then_some(&self.written.ranges);
        Dirty { base, first: bit(entry.first), last: bit(entry.last), ranges }
    }

    /// Pages of a mapping are written, or pinned: who has pinned them may write them at any time.
    pub(super) fn note_written(&mut self, host: &H, first: u64, last: u64) {
        if !self.tracks_dirty {
            return;
        }
        let Written { ranges, incomplete } = &mut self.written;
        if ranges.reserve(host).is_err() {
            *incomplete = true;
            return;
        }
        let (mut from, mut to) = (first, last);
        while let Some(range) = ranges.at_or_after(first).filter(|range| range.first <= last) {
            (from, to) = (from.min(range.first), to.max(range.last));
            ranges.remove(range.first);
        }
        let inserted = ranges.insert(from, to, ());
        debug_assert!(inserted.is_ok(), "ranges that overlap were taken out");
    }

    /// The process was told of the pages of a mapping, or the mapping goes.
    pub(super) fn forget_written(&mut self, first: u64, last: u64) {
        let ranges = &mut self.written.ranges;
        while let Some(range) = ranges.at_or_after(first).filter(|range| range.first <= last) {
            ranges.remove(range.first);
        }
    }

    /// Notes the pages that are pinned.
    pub(super) fn note_pinned(&mut self, host: &H, first: u64, last: u64) {
        let mut at = Some(first);
        while let Some((first, page_last)) = at.and_then(|at| self.emulated.pinned_from(at)) {
            if first > last {
                break;
            }
            self.note_written(host, first, page_last);
            at = page_last.checked_add(1);
        }
    }

    /// Notes all that is mapped: devices that do DMA may have written it until now.
    pub(super) fn note_all(&mut self, host: &H) {
        let mut at = Some(0);
        while let Some(entry) = at.and_then(|at| self.mappings.at_or_after(at)) {
            self.note_written(host, entry.first, entry.last);
            at = entry.last.checked_add(1);
        }
    }
}
