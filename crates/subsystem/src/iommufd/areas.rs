//! What is mapped in an IOAS.

use super::PAGE;
use super::placement::{self, Placement, is_aligned};
use super::records::{RecordId, Records};
use super::span::Span;
use crate::mem::{Entry, IntervalMap, List, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Grant, Host, Refusal, Run};

/// A mapping: a slice of a record at an IOVA.
#[derive(Clone, Copy)]
struct Area {
    record: RecordId,
    /// Its first byte, counted in the record.
    offset: u64,
    /// Whether devices may write to it. Without an IOMMU, they can always read.
    writable: bool,
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
pub(super) struct Areas {
    areas: IntervalMap<Area>,
    /// Where the subsystem may place mappings; empty: anywhere.
    allowed: IntervalMap<()>,
    huge_pages: bool,
    /// How many page tables the IOAS has. With the first one, its pages are pinned.
    page_tables: u32,
}

/// What linking areas to the devices of a context takes.
pub(super) struct Linker<'a, H: Host> {
    pub(super) host: &'a H,
    pub(super) view: H::View,
    pub(super) records: &'a mut Records<H>,
}

impl Areas {
    pub(super) const fn new() -> Self {
        Self { areas: IntervalMap::new(), allowed: IntervalMap::new(), huge_pages: true, page_tables: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.areas.len()
    }

    /// What IOVA, length and address of a mapping must be a multiple of.
    pub(super) fn alignment(&self) -> u64 {
        if self.page_tables == 0 && self.huge_pages { 1 } else { PAGE }
    }

    /// Replaces the ranges that mappings are placed in.
    pub(super) fn set_allowed(&mut self, allowed: IntervalMap<()>) {
        self.allowed = allowed;
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
        if self.page_tables > 0 && !self.areas.is_empty() {
            return Err(rule::OPTION_HUGE_FILLED);
        }
        if !self.all_page_aligned() {
            return Err(rule::OPTION_HUGE_ALIGNMENT);
        }
        self.huge_pages = false;
        Ok(())
    }

    fn all_page_aligned(&self) -> bool {
        self.areas.iter().all(|area| {
            // An area that ends with the address space has an aligned length too.
            let end = area.last.wrapping_add(1);
            [area.first, end, area.value.offset].into_iter().all(|value| is_aligned(value, PAGE))
        })
    }

    /// Maps slices one behind the other; returns the IOVA of the first. Takes over their references to the records.
    /// A refusal leaves everything as it was, and the references with the caller.
    pub(super) fn map<H: Host>(
        &mut self,
        linker: &mut Linker<'_, H>,
        placement: Placement,
        writable: bool,
        slices: &[Slice],
    ) -> Result<u64, Refusal> {
        let iova = self.place::<H>(linker.records, placement, slices)?;
        self.check_slices::<H>(linker.records, iova, writable, slices)?;
        let mut next = iova;
        for slice in slices {
            if let Err(refusal) = self.insert(linker, next, writable, *slice) {
                self.undo(linker, iova, next);
                return Err(refusal);
            }
            next = next.wrapping_add(slice.length);
        }
        Ok(iova)
    }

    /// Where the slices go.
    fn place<H: Host>(
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
                placement::check_fixed(&self.areas, alignment, iova, length)?;
                Ok(iova)
            }
            Placement::Lowest => {
                let source = slices.first().map_or(0, |slice| records.position(slice.record, slice.offset));
                placement::lowest(&mut self.areas, &self.allowed, alignment, H::HUGE, source, length)
            }
        }
    }

    fn check_slices<H: Host>(
        &self,
        records: &Records<H>,
        iova: u64,
        writable: bool,
        slices: &[Slice],
    ) -> Result<(), Refusal> {
        let alignment = self.alignment();
        let mut next = iova;
        for slice in slices {
            if writable && !records.writable(slice.record) {
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
    fn insert<H: Host>(
        &mut self,
        linker: &mut Linker<'_, H>,
        iova: u64,
        writable: bool,
        slice: Slice,
    ) -> Result<(), Refusal> {
        self.areas.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let last = iova.saturating_add(slice.length.saturating_sub(1));
        let value = Area { record: slice.record, offset: slice.offset, writable };
        if self.page_tables > 0 {
            linker.link(Entry { first: iova, last, value })?;
        }
        let inserted = self.areas.insert(iova, last, value);
        debug_assert!(inserted.is_ok(), "an area was placed on another one");
        Ok(())
    }

    /// Takes back the areas from `first` up to, not including, `end`. Their references stay with the caller.
    fn undo<H: Host>(&mut self, linker: &mut Linker<'_, H>, first: u64, end: u64) {
        let mut at = first;
        while at != end {
            let Some(area) = self.remove(linker, at) else { return };
            at = area.last.wrapping_add(1);
        }
    }

    /// Takes away the area that begins at `first`, but not its reference to the record.
    fn remove<H: Host>(&mut self, linker: &mut Linker<'_, H>, first: u64) -> Option<Entry<Area>> {
        let area = self.areas.remove(first)?;
        if self.page_tables > 0 {
            linker.unlink(area);
        }
        Some(area)
    }

    /// Unmaps the areas from `first` to `last`, ascending; how many bytes they had. An area that is not inside the
    /// range ends it with a refusal: those before it stay unmapped.
    pub(super) fn unmap<H: Host>(
        &mut self,
        linker: &mut Linker<'_, H>,
        first: u64,
        last: u64,
    ) -> Result<u64, Refusal> {
        let mut bytes = 0_u64;
        let mut at = Some(first);
        while let Some(area) = at.and_then(|at| self.areas.at_or_after(at)).filter(|area| area.first <= last)
        {
            if area.first < first || area.last > last {
                return Err(rule::UNMAP_PARTIAL);
            }
            self.remove(linker, area.first);
            linker.records.put(linker.host, area.value.record);
            // Wraps only if all of 2^64 was mapped, and then Linux answers 0 too.
            bytes = bytes.wrapping_add(area.last.wrapping_sub(area.first)).wrapping_add(1);
            at = area.last.checked_add(1);
        }
        Ok(bytes)
    }

    /// Unmaps everything; how many bytes that was.
    pub(super) fn unmap_all<H: Host>(&mut self, linker: &mut Linker<'_, H>) -> u64 {
        // No area reaches beyond the whole.
        self.unmap(linker, 0, u64::MAX).unwrap_or(0)
    }

    /// The slices that cover `length` bytes at `iova`, each with a reference of its own. The range ends below 2^64.
    pub(super) fn slices<H: Host>(
        &self,
        host: &H,
        records: &mut Records<H>,
        iova: u64,
        length: u64,
        slices: &mut List<Slice>,
    ) -> Result<(), Refusal> {
        let last = iova.saturating_add(length.saturating_sub(1));
        let mut at = iova;
        loop {
            let area = self.areas.get(at).ok_or(rule::COPY_UNCOVERED)?;
            let end = area.last.min(last);
            let skipped = at.saturating_sub(area.first);
            slices.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
            records.hold(area.value.record)?;
            slices.push_reserved(Slice {
                record: area.value.record,
                offset: area.value.offset.saturating_add(skipped),
                length: end.saturating_sub(at).saturating_add(1),
            });
            match end.checked_add(1).filter(|_| end < last) {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    /// Where `iova` is in physical memory, and how many bytes from there on are contiguous: at most `length`, and
    /// never beyond the area.
    pub(super) fn physical<H: Host>(
        &self,
        host: &H,
        records: &Records<H>,
        iova: u64,
        length: u64,
    ) -> Result<(u64, u64), Refusal> {
        let area = self.areas.get(iova).ok_or(rule::GET_PA_UNMAPPED)?;
        if self.page_tables == 0 {
            return Err(rule::GET_PA_NO_PAGE_TABLE);
        }
        let wanted = length.min(area.last.saturating_sub(iova).saturating_add(1));
        let offset = area.value.offset.saturating_add(iova.saturating_sub(area.first));
        let span = Span::of_bytes(offset, wanted);
        let Run { address, pages } =
            records.run(host, area.value.record, span.first, span.last).ok_or(rule::GET_PA_NO_PAGE_TABLE)?;
        let within = offset % PAGE;
        let contiguous = pages.saturating_mul(PAGE).saturating_sub(within);
        Ok((address.saturating_add(within), contiguous.min(wanted)))
    }

    /// The IOAS gets a page table: with the first one, all of its areas are pinned. A refusal changes nothing.
    pub(super) fn add_page_table<H: Host>(&mut self, linker: &mut Linker<'_, H>) -> Result<(), Refusal> {
        let page_tables = self.page_tables.checked_add(1).ok_or(rule::NO_MEMORY)?;
        if self.page_tables == 0 {
            if !self.all_page_aligned() {
                return Err(rule::LINK_ALIGNMENT);
            }
            for area in self.areas.iter() {
                if let Err(refusal) = linker.link(area) {
                    self.areas
                        .iter()
                        .take_while(|done| done.first < area.first)
                        .for_each(|done| linker.unlink(done));
                    return Err(refusal);
                }
            }
        }
        self.page_tables = page_tables;
        Ok(())
    }

    /// The IOAS loses a page table: with the last one, everything is unpinned.
    pub(super) fn remove_page_table<H: Host>(&mut self, linker: &mut Linker<'_, H>) {
        self.page_tables = self.page_tables.saturating_sub(1);
        if self.page_tables == 0 {
            self.areas.iter().for_each(|area| linker.unlink(area));
        }
    }
}

impl<H: Host> Linker<'_, H> {
    /// Pins an area and grants it to the devices. A refusal changes nothing.
    fn link(&mut self, area: Entry<Area>) -> Result<(), Refusal> {
        let span = span_of(&area);
        self.records.pin(self.host, area.value.record, span)?;
        let mut page = span.first;
        while let Some(grant) = self.grant(&area, page) {
            if !self.host.grant(self.view, grant) {
                self.revoke(&area, page);
                self.records.unpin(self.host, area.value.record, span);
                return Err(rule::NO_MEMORY);
            }
            page = page.saturating_add(grant.pages);
        }
        Ok(())
    }

    /// Takes an area from the devices and unpins it, as far as no other area has its pages.
    fn unlink(&mut self, area: Entry<Area>) {
        let span = span_of(&area);
        self.revoke(&area, span.last.saturating_add(1));
        self.records.unpin(self.host, area.value.record, span);
    }

    /// Takes back what was granted of an area, up to the page `end`.
    fn revoke(&self, area: &Entry<Area>, end: u64) {
        let mut page = span_of(area).first;
        while page < end {
            let Some(grant) = self.grant(area, page) else { return };
            self.host.revoke(self.view, grant);
            page = page.saturating_add(grant.pages);
        }
    }

    /// The grant for the part of a pinned area that begins at a page of its record; `None` behind its end.
    fn grant(&self, area: &Entry<Area>, page: u64) -> Option<Grant<H::Pin>> {
        let span = span_of(area);
        let skipped = page.checked_sub(span.first).filter(|skipped| *skipped < span.pages())?;
        let extent = self.records.extent(area.value.record, page, span.last)?;
        Some(Grant {
            iova: area.first.wrapping_add(skipped.wrapping_mul(PAGE)),
            pin: extent.pin,
            first: extent.first,
            pages: extent.pages,
            writable: area.value.writable,
        })
    }
}

/// The pages of an area in its record.
fn span_of(area: &Entry<Area>) -> Span {
    Span::of_bytes(area.value.offset, area.last.saturating_sub(area.first).saturating_add(1))
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
