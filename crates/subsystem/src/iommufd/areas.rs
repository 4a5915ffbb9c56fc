//! What is mapped in an IOAS.

use super::PAGE;
use super::access::Accesses;
use super::link::{Linker, Table};
use super::placement::{self, Placement, is_aligned};
use super::records::{RecordId, Records};
use super::reserved::Reserved;
use super::span::Span;
use crate::mem::{Entry, IntervalMap, List, OutOfMemory};
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Refusal, Rights, Run};

/// A mapping: a slice of a record at an IOVA.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) record: RecordId,
    /// Its first byte, counted in the record.
    pub(super) offset: u64,
    /// What devices may do.
    pub(super) rights: Rights,
}

/// A slice of a record that is to be mapped. It comes with a reference to the record.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    pub(super) record: RecordId,
    /// Its first byte, counted in the record.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) length: u64,
}

/// The mappings of an IOAS, and what new ones have to fulfil.
pub(super) struct Areas<H: Host> {
    pub(super) areas: IntervalMap<Area>,
    /// Where the subsystem may place mappings; empty: anywhere.
    allowed: IntervalMap<()>,
    /// Where nothing may be mapped.
    pub(super) reserved: Reserved,
    huge_pages: bool,
    /// Its page tables.
    pub(super) tables: List<Table<H>>,
    /// The drivers that reach it in software.
    pub(super) accesses: Accesses,
}

impl Area {
    /// The pages that it has in its record, by the entry that holds it.
    pub(super) fn span(self, entry: &Entry<Area>) -> Span {
        Span::of_bytes(self.offset, entry.last.saturating_sub(entry.first).saturating_add(1))
    }
}

impl<H: Host> Areas<H> {
    pub(super) const fn new() -> Self {
        Self {
            areas: IntervalMap::new(),
            allowed: IntervalMap::new(),
            reserved: Reserved::new(),
            huge_pages: true,
            tables: List::new(),
            accesses: Accesses::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.areas.len()
    }

    /// What IOVA, length and address of a mapping must be a multiple of.
    pub(super) fn alignment(&self) -> u64 {
        let least = if self.huge_pages { self.accesses.alignment() } else { PAGE };
        self.tables.iter().map(|table| table.geometry.granule()).fold(least, u64::max)
    }

    /// Checks that something can be attached for which mappings are aligned so.
    pub(super) fn check_alignment(&self, alignment: u64) -> Result<(), Refusal> {
        if self.alignment() < alignment && !self.all_aligned(alignment) {
            return Err(rule::LINK_ALIGNMENT);
        }
        Ok(())
    }

    /// The sizes of pages that all page tables can have, each as a bit.
    pub(super) fn page_sizes(&self) -> u64 {
        let sizes = self.tables.iter().fold(u64::MAX, |sizes, table| sizes & table.geometry.page_sizes);
        // What is smaller than a page of the CPU is not told.
        (sizes & PAGE.wrapping_neg()).max(self.alignment())
    }

    /// The ranges of IOVAs that are not kept free, ascending.
    pub(super) fn open_ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut from = Some(0);
        core::iter::from_fn(move || {
            let range = self.reserved.open_from(from?, u64::MAX)?;
            from = range.1.checked_add(1);
            Some(range)
        })
    }

    /// Replaces the ranges that mappings are placed in. None of them may have IOVAs that are kept free.
    pub(super) fn set_allowed(&mut self, allowed: IntervalMap<()>) -> Result<(), Refusal> {
        if allowed.iter().any(|range| self.reserved.overlaps(range.first, range.last)) {
            return Err(rule::ALLOW_IOVAS_RESERVED_REGION);
        }
        self.allowed = allowed;
        Ok(())
    }

    /// Keeps a range free for the object `owner`; refused with `taken` if something is mapped or allowed there.
    pub(super) fn keep_free(
        &mut self,
        host: &H,
        (first, last): (u64, u64),
        owner: u32,
        taken: Refusal,
    ) -> Result<(), Refusal> {
        if self.areas.overlaps(first, last) || self.allowed.overlaps(first, last) {
            return Err(taken);
        }
        self.reserved.add(host, (first, last), owner)
    }

    pub(super) fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    pub(super) fn enable_huge_pages(&mut self) {
        self.huge_pages = true;
    }

    pub(super) fn disable_huge_pages(&mut self) -> Result<(), Refusal> {
        if !self.huge_pages {
            return Ok(());
        }
        if !self.tables.is_empty() && !self.areas.is_empty() {
            return Err(rule::OPTION_HUGE_FILLED);
        }
        if !self.all_aligned(PAGE) {
            return Err(rule::OPTION_HUGE_ALIGNMENT);
        }
        self.huge_pages = false;
        Ok(())
    }

    fn all_aligned(&self, alignment: u64) -> bool {
        self.areas.iter().all(|area| {
            // An area that ends with the address space has an aligned length too.
            let end = area.last.wrapping_add(1);
            [area.first, end, area.value.offset].into_iter().all(|value| is_aligned(value, alignment))
        })
    }

    /// Maps slices one behind the other; returns the IOVA of the first. Takes over their references to the records.
    /// A refusal leaves everything as it was, and the references with the caller.
    pub(super) fn map(
        &mut self,
        linker: &mut Linker<'_, H>,
        placement: Placement,
        rights: Rights,
        slices: &[Slice],
    ) -> Result<u64, Refusal> {
        let iova = self.place(linker.records, placement, slices)?;
        self.check_slices(linker.records, iova, rights, slices)?;
        let mut next = iova;
        for slice in slices {
            if let Err(refusal) = self.insert(linker, next, rights, *slice) {
                self.undo(linker, iova, next);
                return Err(refusal);
            }
            next = next.wrapping_add(slice.length);
        }
        Ok(iova)
    }

    /// Where the slices go.
    fn place(
        &mut self,
        records: &Records<H>,
        placement: Placement,
        slices: &[Slice],
    ) -> Result<u64, Refusal> {
        let length = slices.iter().fold(0_u64, |length, slice| length.saturating_add(slice.length));
        let alignment = self.alignment();
        if !is_aligned(length, alignment) {
            return Err(rule::MAP_LENGTH_ALIGNMENT);
        }
        match placement {
            Placement::Fixed(iova) => {
                placement::check_fixed(&self.areas, &self.reserved, alignment, iova, length)?;
                Ok(iova)
            }
            Placement::Lowest => {
                let source = slices.first().map_or(0, |slice| records.position(slice.record, slice.offset));
                let free = placement::Free { areas: &mut self.areas, reserved: &self.reserved };
                placement::lowest(free, &self.allowed, alignment, H::HUGE, source, length)
            }
        }
    }

    fn check_slices(
        &self,
        records: &Records<H>,
        iova: u64,
        rights: Rights,
        slices: &[Slice],
    ) -> Result<(), Refusal> {
        let alignment = self.alignment();
        let mut next = iova;
        for slice in slices {
            if rights.write && !records.writable(slice.record) {
                return Err(rule::COPY_WRITEABLE);
            }
            if !is_aligned(slice.offset, alignment) {
                return Err(rule::MAP_SOURCE_ALIGNMENT);
            }
            if !is_aligned(next, alignment) {
                return Err(rule::MAP_PIECE_ALIGNMENT);
            }
            next = next.wrapping_add(slice.length);
        }
        Ok(())
    }

    /// Adds one area at an IOVA that is free.
    fn insert(
        &mut self,
        linker: &mut Linker<'_, H>,
        iova: u64,
        rights: Rights,
        slice: Slice,
    ) -> Result<(), Refusal> {
        self.areas.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let last = iova.saturating_add(slice.length.saturating_sub(1));
        let value = Area { record: slice.record, offset: slice.offset, rights };
        linker.link(&Entry { first: iova, last, value }, self.tables.iter())?;
        let inserted = self.areas.insert(iova, last, value);
        debug_assert!(inserted.is_ok(), "an area was placed on another one");
        Ok(())
    }

    /// Takes back the areas from `first` up to, not including, `end`. Their references stay with the caller.
    fn undo(&mut self, linker: &mut Linker<'_, H>, first: u64, end: u64) {
        let mut at = first;
        while at != end {
            let Some(area) = self.remove(linker, at) else { return };
            at = area.last.wrapping_add(1);
        }
    }

    /// Takes away the area that begins at `first`, but not its reference to the record.
    fn remove(&mut self, linker: &mut Linker<'_, H>, first: u64) -> Option<Entry<Area>> {
        let area = self.areas.remove(first)?;
        linker.unlink(&area, self.tables.iter());
        Some(area)
    }

    /// Unmaps the areas from `first` to `last`, ascending; counts how many `bytes` they had. An area that is not inside the
    /// range ends it with a refusal: those before it stay unmapped.
    pub(super) fn unmap(
        &mut self,
        linker: &mut Linker<'_, H>,
        first: u64,
        last: u64,
        bytes: &mut u64,
    ) -> Result<(), Refusal> {
        let mut at = Some(first);
        while let Some(area) = at.and_then(|at| self.areas.at_or_after(at)).filter(|area| area.first <= last)
        {
            if self.accesses.keep(&area) {
                return Err(guest::UNMAP_KEPT);
            }
            if area.first < first || area.last > last {
                return Err(rule::UNMAP_PARTIAL);
            }
            self.take_back(linker, &area);
            self.remove(linker, area.first);
            linker.records.put(linker.host, area.value.record);
            // Wraps only if all of 2^64 was mapped, and then Linux answers 0 too.
            *bytes = bytes.wrapping_add(area.last.wrapping_sub(area.first)).wrapping_add(1);
            at = area.last.checked_add(1);
        }
        Ok(())
    }

    /// Unmaps everything, as [`Areas::unmap`] does; counts how many `bytes` that was.
    pub(super) fn unmap_all(&mut self, linker: &mut Linker<'_, H>, bytes: &mut u64) -> Result<(), Refusal> {
        self.unmap(linker, 0, u64::MAX, bytes)
    }

    /// Has areas end at an IOVA and begin behind it, so that what is on one side of it can be unmapped alone.
    pub(super) fn cut_behind(&mut self, linker: &mut Linker<'_, H>, iova: u64) -> Result<(), Refusal> {
        let Some(area) = self.areas.get(iova).filter(|area| area.first < iova && iova < area.last) else {
            return Ok(());
        };
        let start = iova.saturating_add(1);
        let offset = area.value.offset.saturating_add(start.saturating_sub(area.first));
        let alignment = self.alignment();
        if !is_aligned(start, alignment) || !is_aligned(offset, alignment) {
            return Err(rule::CUT_ALIGNMENT);
        }
        if self.accesses.has_pinned(&area) {
            return Err(rule::CUT_PINNED);
        }
        self.areas.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        linker.records.cut(linker.host, area.value.record, offset / PAGE)?;
        if !self.tables.iter().all(|table| linker.domains().cut(table.domain, start)) {
            return Err(rule::NO_MEMORY);
        }
        linker.records.hold(area.value.record)?;
        self.areas.set_last(area.first, iova);
        let inserted = self.areas.insert(start, area.last, Area { offset, ..area.value });
        debug_assert!(inserted.is_ok(), "the rest of an area was not free");
        Ok(())
    }

    /// The slices that cover `length` bytes at `iova`, each with a reference of its own. The range ends below 2^64.
    pub(super) fn slices(
        &self,
        host: &H,
        records: &mut Records<H>,
        iova: u64,
        length: u64,
        slices: &mut List<Slice>,
    ) -> Result<(), Refusal> {
        let last = iova.saturating_add(length.saturating_sub(1));
        let mut end = None;
        for area in self.covered(iova, last) {
            slices.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
            records.hold(area.value.record)?;
            slices.push_reserved(Slice {
                record: area.value.record,
                offset: area.value.offset,
                length: area.last.saturating_sub(area.first).saturating_add(1),
            });
            end = Some(area.last);
        }
        if end == Some(last) { Ok(()) } else { Err(rule::COPY_UNCOVERED) }
    }

    /// What is mapped from `first` to `last`, cut to that, as far as it is without gaps.
    pub(super) fn covered(&self, first: u64, last: u64) -> impl Iterator<Item = Entry<Area>> {
        let mut next = Some(first);
        core::iter::from_fn(move || {
            let at = next.filter(|at| *at <= last)?;
            let area = self.areas.get(at)?;
            let end = area.last.min(last);
            next = end.checked_add(1);
            let offset = area.value.offset.saturating_add(at.saturating_sub(area.first));
            Some(Entry { first: at, last: end, value: Area { offset, ..area.value } })
        })
    }

    /// The last IOVA up to which everything from `iova` on is mapped; `None` if it is not mapped itself.
    pub(super) fn mapped_from(&self, iova: u64) -> Option<u64> {
        let mut last = self.areas.get(iova)?.last;
        while let Some(area) = last.checked_add(1).and_then(|next| self.areas.get(next)) {
            last = area.last;
        }
        Some(last)
    }

    /// Where `iova` is in physical memory, and how many bytes from there on are contiguous: at most `length`, and
    /// never beyond the area.
    pub(super) fn physical(
        &self,
        host: &H,
        records: &Records<H>,
        iova: u64,
        length: u64,
    ) -> Result<(u64, u64), Refusal> {
        let area = self.areas.get(iova).ok_or(rule::GET_PA_UNMAPPED)?;
        if self.tables.get(0).is_none_or(|table| table.geometry.aperture.is_some()) {
            return Err(rule::GET_PA_NO_PAGE_TABLE);
        }
        let wanted = length.min(area.last.saturating_sub(iova).saturating_add(1));
        let offset = area.value.offset.saturating_add(iova.saturating_sub(area.first));
        let span = Span::of_bytes(offset, wanted);
        let Run { address, pages } =
            records.run(host, area.value.record, span.first, span.last).ok_or(rule::GET_PA_REVOKED)?;
        let within = offset % PAGE;
        let contiguous = pages.saturating_mul(PAGE).saturating_sub(within);
        Ok((address.saturating_add(within), contiguous.min(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use super::Area;

    /// Each mapping is an area; its IOVAs take 16 bytes more.
    #[test]
    fn an_area_is_small() {
        assert_eq!(size_of::<Area>(), 16);
    }
}
