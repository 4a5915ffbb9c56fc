//! Page tables of an IOAS: while there is one, memory is pinned, and mapped in the domain of each.

use super::PAGE;
use super::areas::{Area, Areas};
use super::domain::{Domain, Domains, Geometry, Stretch};
use super::records::Records;
use super::selftest::Mock;
use crate::mem::{Entry, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Host, Refusal};

/// A page table that is linked to an IOAS.
pub(super) struct Table<H: Host> {
    /// The id of its object.
    pub(super) hwpt: u32,
    pub(super) domain: Domain<H>,
    pub(super) geometry: Geometry,
}

/// What linking areas to page tables takes.
pub(super) struct Linker<'a, H: Host> {
    pub(super) host: &'a H,
    pub(super) records: &'a mut Records<H>,
    pub(super) mock: &'a H::Mutex<Mock<H>>,
}

impl<H: Host> Areas<H> {
    /// The IOAS gets a page table, which is filled: with the first one, all areas are pinned. A refusal changes nothing.
    pub(super) fn add_table(&mut self, linker: &mut Linker<'_, H>, table: Table<H>) -> Result<(), Refusal> {
        self.tables.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        self.check_alignment(table.geometry.granule())?;
        self.keep_outside_free(linker.host, &table).inspect_err(|_| self.reserved.remove(table.hwpt))?;
        let pin = self.tables.is_empty();
        for area in self.areas.iter() {
            if let Err(refusal) = linker.fill(&area, &table, pin) {
                self.areas
                    .iter()
                    .take_while(|done| done.first < area.first)
                    .for_each(|done| linker.clear(&done, &table, pin));
                self.reserved.remove(table.hwpt);
                return Err(refusal);
            }
        }
        self.tables.push_reserved(table);
        Ok(())
    }

    /// Keeps free what a page table does not translate.
    fn keep_outside_free(&mut self, host: &H, table: &Table<H>) -> Result<(), Refusal> {
        let Some((first, last)) = table.geometry.aperture else { return Ok(()) };
        if let Some(before) = first.checked_sub(1) {
            self.keep_free(host, (0, before), table.hwpt, rule::LINK_APERTURE)?;
        }
        match last.checked_add(1) {
            Some(beyond) => self.keep_free(host, (beyond, u64::MAX), table.hwpt, rule::LINK_APERTURE),
            None => Ok(()),
        }
    }

    /// The IOAS loses a page table: with the last one, everything is unpinned.
    pub(super) fn remove_table(&mut self, linker: &mut Linker<'_, H>, hwpt: u32) {
        let Some(at) = self.tables.iter().position(|table| table.hwpt == hwpt) else { return };
        // The last one takes its place, as in Linux: which table is first decides whether physical addresses are told.
        let Some(last) = self.tables.pop() else { return };
        let table = match self.tables.get_mut(at) {
            Some(place) => core::mem::replace(place, last),
            None => last,
        };
        let unpin = self.tables.is_empty();
        self.areas.iter().for_each(|area| linker.clear(&area, &table, unpin));
        self.reserved.remove(hwpt);
    }
}

impl<H: Host> Linker<'_, H> {
    /// Pins an area and maps it in the page tables. A refusal changes nothing.
    pub(super) fn link<'t>(
        &mut self,
        area: &Entry<Area>,
        tables: impl Iterator<Item = &'t Table<H>> + Clone,
    ) -> Result<(), Refusal>
    where
        H: 't,
    {
        let mut pin = true;
        for (done, table) in tables.clone().enumerate() {
            if let Err(refusal) = self.fill(area, table, pin) {
                self.unlink(area, tables.take(done));
                return Err(refusal);
            }
            pin = false;
        }
        Ok(())
    }

    /// Takes an area out of the page tables and unpins it, as far as no other area has its pages.
    pub(super) fn unlink<'t>(&mut self, area: &Entry<Area>, tables: impl Iterator<Item = &'t Table<H>>)
    where
        H: 't,
    {
        let mut tables = tables.peekable();
        while let Some(table) = tables.next() {
            self.clear(area, table, tables.peek().is_none());
        }
    }

    /// Maps an area in a page table, having pinned it before if `pin`. A refusal changes nothing.
    fn fill(&mut self, area: &Entry<Area>, table: &Table<H>, pin: bool) -> Result<(), Refusal> {
        let span = area.value.span(area);
        if pin {
            self.records.pin(self.host, area.value.record, span)?;
        }
        self.map(area, table).inspect_err(|_| {
            if pin {
                self.records.unpin(self.host, area.value.record, span);
            }
        })
    }

    /// Maps a pinned area in a page table. A refusal changes nothing.
    fn map(&self, area: &Entry<Area>, table: &Table<H>) -> Result<(), Refusal> {
        if !area.value.rights.read && !area.value.rights.write {
            return Err(rule::LINK_RIGHTS);
        }
        let mut page = area.value.span(area).first;
        while let Some((stretch, pages)) = self.stretch(area, page) {
            if !self.domains().map(table.domain, stretch) {
                self.unmap(area, table, page);
                return Err(rule::NO_MEMORY);
            }
            page = page.saturating_add(pages);
        }
        Ok(())
    }

    /// Takes an area out of a page table, and unpins it then if `unpin`.
    fn clear(&mut self, area: &Entry<Area>, table: &Table<H>, unpin: bool) {
        let span = area.value.span(area);
        self.unmap(area, table, span.last.saturating_add(1));
        if unpin {
            self.records.unpin(self.host, area.value.record, span);
        }
    }

    /// Takes back what was mapped of an area in a page table, up to the page `end`.
    fn unmap(&self, area: &Entry<Area>, table: &Table<H>, end: u64) {
        let mut page = area.value.span(area).first;
        while page < end {
            let Some((stretch, pages)) = self.stretch(area, page) else { return };
            self.domains().unmap(table.domain, stretch);
            page = page.saturating_add(pages);
        }
    }

    /// The stretches of a pinned area, one behind the other.
    pub(super) fn stretches(&self, area: Entry<Area>) -> impl Iterator<Item = Stretch<H::Pin>> {
        let mut page = area.value.span(&area).first;
        core::iter::from_fn(move || {
            let (stretch, pages) = self.stretch(&area, page)?;
            page = page.saturating_add(pages);
            Some(stretch)
        })
    }

    /// The part of a pinned area that begins at a page of its record, and how many pages it is in; `None` behind its end.
    fn stretch(&self, area: &Entry<Area>, page: u64) -> Option<(Stretch<H::Pin>, u64)> {
        let span = area.value.span(area);
        let skipped = page.checked_sub(span.first).filter(|skipped| *skipped < span.pages())?;
        let extent = self.records.extent(area.value.record, page, span.last)?;
        // An area may begin within its first page, and end within its last.
        let within = area.value.offset % PAGE;
        let offset = if skipped == 0 { within } else { 0 };
        let first = match skipped {
            0 => area.first,
            _ => area.first.wrapping_add(skipped.wrapping_mul(PAGE)).wrapping_sub(within),
        };
        let bytes = extent.pages.saturating_mul(PAGE).saturating_sub(offset);
        let stretch = Stretch {
            first,
            last: first.saturating_add(bytes.saturating_sub(1)).min(area.last),
            pin: extent.pin,
            at: extent.first.wrapping_mul(PAGE).wrapping_add(offset),
            rights: area.value.rights,
        };
        Some((stretch, extent.pages))
    }

    pub(super) fn domains(&self) -> Domains<'_, H> {
        Domains { host: self.host, mock: self.mock }
    }
}
