//! Accesses: how a driver of the kernel reaches what is mapped in an IOAS, in software.
//!
//! An access is the object by which an emulated device is bound. It is attached to an IOAS itself, not to a page table. Its
//! driver may have pages pinned there, and copy to and from what is mapped.
//!
//! The kernel has accesses of its own, too: for memory that hardware uses by its physical address.
//!
//! Before an area goes, every driver that is attached is told, and what was pinned of it is taken back: so no driver keeps
//! an unmap from succeeding. (In Linux it is the driver that unpins; one that does not has the unmap fail with EDEADLOCK.)

use super::PAGE;
use super::areas::{Area, Areas};
use super::context::Context;
use super::device::DeviceObject;
use super::domain::Stretch;
use super::link::Linker;
use super::objects::{Object, Objects};
use super::placement::is_aligned;
use crate::mem::{Entry, List, OutOfMemory};
use crate::rules::{guest, iommufd as rule, selftest as test_rule};
use crate::{Function, Host, Refusal, RwLock, Task, Transfer};

/// The object of an access.
pub(super) struct Access {
    pub(super) owner: Owner,
    /// The IOAS that it is attached to.
    pub(super) ioas: Option<u32>,
    /// The number that a test's next call to pin gets.
    pub(super) next_item: u32,
}

/// Who has an access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The driver of an emulated device, which is told what is pinned, and when it goes.
    Driver(Function),
    /// A self-test, which has nothing of what it pins.
    Test {
        /// Whether it pins at all.
        pins: bool,
    },
    /// The kernel itself, for hardware: what it has pinned does not go.
    Kernel,
}

/// An access that is attached to an IOAS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Attached {
    /// The id of its object.
    pub(super) access: u32,
    pub(super) owner: Owner,
}

/// Pages that a driver has pinned with one call: IOVAs `first` to `last`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) access: u32,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The number of the call, where the driver tells them apart.
    pub(super) item: u32,
}

/// The accesses that are attached to an IOAS, and what they have pinned.
pub(super) struct Accesses {
    attached: List<Attached>,
    pinned: List<Pinned>,
}

impl Access {
    pub(super) fn new(owner: Owner) -> Self {
        Access { owner, ioas: None, next_item: 0 }
    }
}

impl Owner {
    /// What IOVA, length and address of a mapping must be a multiple of.
    fn alignment(self) -> u64 {
        if self == (Owner::Test { pins: false }) { 1 } else { PAGE }
    }

    /// It has nothing of what is mapped from `first` to `last` any more, when this returns.
    fn unmap<H: Host>(self, host: &H, first: u64, last: u64) {
        if let Owner::Driver(function) = self {
            host.dma_unmap(function, first, last);
        }
    }
}

impl Accesses {
    pub(super) const fn new() -> Self {
        Accesses { attached: List::new(), pinned: List::new() }
    }

    /// Whether none is attached.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// What IOVA, length and address of a mapping must be a multiple of.
    pub(super) fn alignment(&self) -> u64 {
        self.attached.iter().map(|attached| attached.owner.alignment()).fold(1, u64::max)
    }

    /// What an access has pinned with the call of a number.
    pub(super) fn item(&self, access: u32, item: u32) -> Option<Pinned> {
        self.pinned.iter().find(|pinned| (pinned.access, pinned.item) == (access, item)).copied()
    }

    /// Whether the kernel itself has pages of an area pinned.
    pub(super) fn keep(&self, area: &Entry<Area>) -> bool {
        let mut kept = self.pinned.iter().filter(|pinned| pinned.overlaps(area.first, area.last));
        let of_kernel = |access| Attached { access, owner: Owner::Kernel };
        kept.any(|pinned| self.attached.iter().any(|attached| *attached == of_kernel(pinned.access)))
    }

    /// Whether pages of an area are pinned.
    pub(super) fn has_pinned(&self, area: &Entry<Area>) -> bool {
        self.pinned.iter().any(|pinned| pinned.overlaps(area.first, area.last))
    }
}

impl Pinned {
    fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

impl<H: Host> Context<H> {
    /// Attaches an access to an IOAS, or changes over to it.
    pub(super) fn attach_access(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        id: u32,
        ioas: u32,
    ) -> Result<(), Refusal> {
        let new = objects.ioas(ioas)?;
        let access = objects.access(id).ok_or(rule::DEVICE_GONE)?;
        if access.ioas == Some(ioas) {
            return Ok(());
        }
        let attached = Attached { access: id, owner: access.owner };
        self.with_areas(host, new, |areas, linker| areas.add_access(linker.host, attached))?;
        self.detach_access(host, objects, id);
        if let Some(access) = objects.access_mut(id) {
            access.ioas = Some(ioas);
        }
        Ok(())
    }

    /// Detaches an access from the IOAS that it is attached to, if any.
    pub(super) fn detach_access(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let left = objects.access_mut(id).and_then(|access| access.ioas.take());
        if let Some(ioas) = left.and_then(|ioas| objects.ioas(ioas).ok()) {
            self.with_areas(host, ioas, |areas, linker| areas.remove_access(linker, id));
        }
    }

    /// Pins the pages from `iova` on, a multiple of the page size, for the driver of an emulated device, which is told of them.
    ///
    /// Refused if the device is not attached, if not all of them are mapped with these rights, or if they cannot be pinned.
    pub(crate) fn pin_pages(
        &self,
        host: &H,
        device: DeviceObject,
        iova: u64,
        pages: u64,
        write: bool,
    ) -> Result<(), Refusal> {
        let last = last_of(iova, pages.checked_mul(PAGE).ok_or(rule::ACCESS_WRAPS)?)?;
        self.with_access(host, device, |attached, areas, linker| {
            let pinned = Pinned { access: attached.access, first: iova, last, item: 0 };
            areas.pin_pages(linker, pinned, write)?;
            if let Owner::Driver(function) = attached.owner {
                let mut pages = areas.pinned_stretches(linker, pinned).map(Stretch::mapping);
                host.pages_pinned(function, &mut pages);
            }
            Ok(())
        })
    }

    /// Gives back what was pinned with one call. Nothing happens if it was taken back meanwhile.
    pub(crate) fn unpin_pages(&self, host: &H, device: DeviceObject, iova: u64, pages: u64) {
        let Ok(last) = last_of(iova, pages.saturating_mul(PAGE)) else { return };
        // An access that is not attached has nothing pinned.
        let _nothing = self.with_access(host, device, |attached, areas, linker| {
            areas.unpin(linker, Pinned { access: attached.access, first: iova, last, item: 0 });
            Ok(())
        });
    }

    /// Has the pages from `first` to `last` kept in place, for hardware that finds them by the physical address of the first
    /// one. They stay mapped until the access is detached.
    pub(super) fn keep_pages(
        &self,
        host: &H,
        objects: &Objects<H>,
        access: u32,
        (first, last): (u64, u64),
    ) -> Result<(), Refusal> {
        let ioas = objects.access(access).and_then(|access| access.ioas).ok_or(rule::ACCESS_DETACHED)?;
        self.with_areas(host, objects.ioas(ioas)?, |areas, linker| {
            let pinned = Pinned { access, first, last, item: 0 };
            areas.pin_pages(linker, pinned, false)?;
            match areas.are_in_one_piece(linker, pinned) {
                true => Ok(()),
                false => Err(guest::HW_QUEUE_SCATTERED),
            }
        })
    }

    /// Copies for the driver of an emulated device. What was copied before a refusal stays.
    ///
    /// Refused if the device is not attached, if not all of it is mapped with these rights, or if it is not there.
    pub(crate) fn transfer(
        &self,
        host: &H,
        device: DeviceObject,
        iova: u64,
        bytes: Transfer<'_>,
    ) -> Result<(), Refusal> {
        let last = last_of(iova, bytes.length() as u64)?;
        // Their driver copies in the process that uses the device.
        self.with_access(host, device, |_, areas, linker| areas.transfer(linker, iova, last, bytes, |_| true))
    }

    /// Runs `f` on the IOAS that an access is attached to.
    fn with_access(
        &self,
        host: &H,
        device: DeviceObject,
        f: impl FnOnce(Attached, &mut Areas<H>, &mut Linker<'_, H>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.objects.read(|objects| {
            let access = objects.access(device.id).ok_or(rule::ACCESS_DETACHED)?;
            let attached = Attached { access: device.id, owner: access.owner };
            let ioas = objects.ioas(access.ioas.ok_or(rule::ACCESS_DETACHED)?)?;
            self.with_areas(host, ioas, |areas, linker| f(attached, areas, linker))
        })
    }
}

/// The last IOVA of a range that a driver reaches.
pub(super) fn last_of(iova: u64, length: u64) -> Result<u64, Refusal> {
    iova.checked_add(length.checked_sub(1).ok_or(rule::ACCESS_LENGTH)?).ok_or(rule::ACCESS_WRAPS)
}

impl<H: Host> Objects<H> {
    pub(super) fn access(&self, id: u32) -> Option<&Access> {
        match self.get(id) {
            Some(Object::Access(access)) => Some(access),
            _ => None,
        }
    }

    pub(super) fn access_mut(&mut self, id: u32) -> Option<&mut Access> {
        match self.get_mut(id) {
            Some(Object::Access(access)) => Some(access),
            _ => None,
        }
    }
}

impl<H: Host> Areas<H> {
    fn add_access(&mut self, host: &H, attached: Attached) -> Result<(), Refusal> {
        self.accesses.attached.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        self.check_alignment(attached.owner.alignment())?;
        self.accesses.attached.push_reserved(attached);
        Ok(())
    }

    /// An access leaves, whose driver has nothing of the IOAS any more.
    fn remove_access(&mut self, linker: &mut Linker<'_, H>, access: u32) {
        let Some(at) = self.accesses.attached.iter().position(|attached| attached.access == access) else {
            return;
        };
        if let Some(gone) = self.accesses.attached.remove(at) {
            gone.owner.unmap(linker.host, 0, u64::MAX);
        }
        self.unpin_where(linker, |pinned| pinned.access == access);
    }

    /// Pins what is mapped at some IOVAs, for an access.
    pub(super) fn pin_pages(
        &mut self,
        linker: &mut Linker<'_, H>,
        pinned: Pinned,
        write: bool,
    ) -> Result<(), Refusal> {
        let Pinned { first, last, .. } = pinned;
        self.accesses.pinned.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let mut next = Some(first);
        for area in self.covered(first, last) {
            let pinned = check_whole_pages(&area, last)
                .and_then(|()| check_access(linker, &area, write))
                .and_then(|()| linker.records.pin(linker.host, area.value.record, area.value.span(&area)));
            if let Err(refusal) = pinned {
                self.unpin_before(linker, first, area.first);
                return Err(refusal);
            }
            next = area.last.checked_add(1);
        }
        if let Some(gap) = next.filter(|next| *next <= last) {
            self.unpin_before(linker, first, gap);
            return Err(rule::ACCESS_UNMAPPED);
        }
        self.accesses.pinned.push_reserved(pinned);
        Ok(())
    }

    /// What was pinned.
    pub(super) fn pinned_stretches<'a>(
        &'a self,
        linker: &'a Linker<'_, H>,
        pinned: Pinned,
    ) -> impl Iterator<Item = Stretch<H::Pin>> + 'a {
        self.covered(pinned.first, pinned.last).flat_map(|area| linker.stretches(area))
    }

    /// Whether pinned pages are neighbours in physical memory.
    fn are_in_one_piece(&self, linker: &Linker<'_, H>, pinned: Pinned) -> bool {
        let mut next = None;
        self.pinned_stretches(linker, pinned).map(Stretch::mapping).all(|mapping| {
            let mut done = 0;
            while let Some(left) = mapping.pages.checked_sub(done).filter(|left| *left > 0) {
                let run = linker.host.run(mapping.pin, mapping.first.saturating_add(done), left);
                if next.is_some_and(|next| next != run.address) {
                    return false;
                }
                let pages = run.pages.max(1);
                next = Some(run.address.wrapping_add(pages.wrapping_mul(PAGE)));
                done = done.saturating_add(pages);
            }
            true
        })
    }

    pub(super) fn unpin(&mut self, linker: &mut Linker<'_, H>, pinned: Pinned) {
        if let Some(at) = self.accesses.pinned.iter().position(|other| *other == pinned) {
            self.accesses.pinned.remove(at);
            self.unpin_range(linker, pinned.first, pinned.last);
        }
    }

    /// Before an area goes: no driver has pages of it any more.
    pub(super) fn take_back(&mut self, linker: &mut Linker<'_, H>, area: &Entry<Area>) {
        if self.accesses.has_pinned(area) {
            for attached in self.accesses.attached.iter() {
                attached.owner.unmap(linker.host, area.first, area.last);
            }
            self.unpin_where(linker, |pinned| pinned.overlaps(area.first, area.last));
        }
    }

    fn unpin_where(&mut self, linker: &mut Linker<'_, H>, which: impl Fn(&Pinned) -> bool) {
        while let Some(at) = self.accesses.pinned.iter().position(&which) {
            if let Some(gone) = self.accesses.pinned.remove(at) {
                self.unpin_range(linker, gone.first, gone.last);
            }
        }
    }

    fn unpin_range(&self, linker: &mut Linker<'_, H>, first: u64, last: u64) {
        for area in self.covered(first, last) {
            linker.records.unpin(linker.host, area.value.record, area.value.span(&area));
        }
    }

    /// Takes back the pages from `first` up to, not including, `end`.
    fn unpin_before(&self, linker: &mut Linker<'_, H>, first: u64, end: u64) {
        if let Some(last) = end.checked_sub(1).filter(|last| first <= *last) {
            self.unpin_range(linker, first, last);
        }
    }

    pub(super) fn transfer(
        &self,
        linker: &mut Linker<'_, H>,
        first: u64,
        last: u64,
        mut bytes: Transfer<'_>,
        is_own: impl Fn(Task) -> bool,
    ) -> Result<(), Refusal> {
        let mut done = 0_usize;
        for area in self.covered(first, last) {
            check_access(linker, &area, bytes.is_write())?;
            let part = bytes.part(done, area.last.saturating_sub(area.first).saturating_add(1) as usize);
            done = done.saturating_add(part.length());
            linker.records.transfer(linker.host, area.value.record, area.value.offset, part, &is_own)?;
        }
        if done < bytes.length() { Err(rule::ACCESS_UNMAPPED) } else { Ok(()) }
    }
}

/// Checks that a part of an area begins with a page, and, unless it ends at `last`, ends with one.
fn check_whole_pages(area: &Entry<Area>, last: u64) -> Result<(), Refusal> {
    let begins = is_aligned(area.value.offset, PAGE);
    let length = area.last.saturating_sub(area.first).saturating_add(1);
    let ends = area.last == last || is_aligned(area.value.offset.saturating_add(length), PAGE);
    if begins && ends { Ok(()) } else { Err(test_rule::WHOLE_PAGES) }
}

/// Checks that a driver may reach an area.
fn check_access<H: Host>(linker: &Linker<'_, H>, area: &Entry<Area>, write: bool) -> Result<(), Refusal> {
    let rights = area.value.rights;
    if !(if write { rights.write } else { rights.read }) {
        return Err(rule::ACCESS_RIGHTS);
    }
    if linker.records.is_exported(area.value.record) { Err(rule::ACCESS_BAR) } else { Ok(()) }
}
