//! Page tables of the unit.

use super::dirty::take_dirty;
use super::{Mock, no_number};
use crate::iommufd::PAGE;
use crate::iommufd::domain::{Geometry, Stretch};
use crate::mem::IntervalMap;
use crate::{Host, Refusal};

/// A page table.
pub(super) struct MockDomain<P: Copy> {
    /// By IOVA.
    pub(super) mapped: IntervalMap<Place<P>>,
    pub(super) geometry: Geometry,
    /// Whether it notes which pages are written.
    pub(super) tracking: bool,
    /// The pages that were noted, as large as it has them.
    pub(super) dirty: IntervalMap<()>,
}

/// Where IOVAs are in memory.
#[derive(Clone, Copy)]
pub(super) struct Place<P> {
    pub(super) pin: P,
    /// The byte of the pin at the first of them.
    pub(super) at: u64,
}

impl<H: Host> Mock<H> {
    /// A new page table, empty.
    pub(in crate::iommufd) fn domain_new(&mut self, host: &H, geometry: Geometry) -> Result<u32, Refusal> {
        let (mapped, dirty) = (IntervalMap::new(), IntervalMap::new());
        let domain = MockDomain { mapped, geometry, tracking: false, dirty };
        self.domains.insert(host, domain).map_err(no_number)
    }

    /// A page table is gone.
    pub(in crate::iommufd) fn domain_free(&mut self, number: u32) {
        let gone = self.domains.remove(number);
        debug_assert!(gone.is_some_and(|domain| domain.mapped.is_empty()), "a page table goes empty");
    }

    /// False if there is no memory.
    pub(in crate::iommufd) fn map(&mut self, host: &H, number: u32, stretch: Stretch<H::Pin>) -> bool {
        let Some(MockDomain { mapped, .. }) = self.domains.get_mut(number) else { return false };
        let Stretch { first, last, pin, at, .. } = stretch;
        if mapped.reserve(host).is_err() {
            return false;
        }
        let inserted = mapped.insert(first, last, Place { pin, at });
        debug_assert!(inserted.is_ok(), "a page table has two translations of one IOVA");
        true
    }

    /// Takes away what was mapped from `first` to `last`, in one piece or in what cuts have left of it.
    pub(in crate::iommufd) fn unmap(&mut self, number: u32, first: u64, last: u64) {
        let Some(MockDomain { mapped, dirty, .. }) = self.domains.get_mut(number) else { return };
        take_dirty(dirty, (first, last), true, &mut |_, _| {});
        let mut at = Some(first);
        while let Some(entry) = at.and_then(|at| mapped.get(at)).filter(|entry| entry.first <= last) {
            debug_assert!(first <= entry.first && entry.last <= last, "less is unmapped than was mapped");
            mapped.remove(entry.first);
            at = entry.last.checked_add(1);
        }
    }

    /// Has what is mapped across an IOVA end before it, and the rest begin there. False if there is no memory.
    pub(in crate::iommufd) fn cut(&mut self, host: &H, number: u32, iova: u64) -> bool {
        let Some(MockDomain { mapped, .. }) = self.domains.get_mut(number) else { return false };
        let Some(entry) = mapped.get(iova).filter(|entry| entry.first < iova) else { return true };
        if mapped.reserve(host).is_err() {
            return false;
        }
        let at = entry.value.at.saturating_add(iova.saturating_sub(entry.first));
        mapped.set_last(entry.first, iova.saturating_sub(1));
        let inserted = mapped.insert(iova, entry.last, Place { at, ..entry.value });
        debug_assert!(inserted.is_ok(), "the rest of a stretch was not free");
        true
    }

    /// The physical address behind an IOVA.
    pub(super) fn translate(&self, host: &H, number: u32, iova: u64) -> Option<u64> {
        let entry = self.domains.get(number)?.mapped.get(iova)?;
        let at = entry.value.at.saturating_add(iova.saturating_sub(entry.first));
        let page = host.run(entry.value.pin, at / PAGE, 1).address;
        Some(page.saturating_add(at % PAGE))
    }
}
