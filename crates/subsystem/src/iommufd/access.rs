//! Accesses: how a driver of the kernel reaches what is mapped in an IOAS, in software.
//!
//! An access is the object by which an emulated device is bound. It is attached to an IOAS itself, not to a page table. Its
//! driver may have pages pinned there, and copy to and from what is mapped.
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
use crate::mem::{Entry, List, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Function, Host, Refusal, RwLock, Transfer};

/// The object of an access.
pub(super) struct Access {
    /// The device whose driver has it.
    pub(super) function: Function,
    /// The IOAS that it is attached to.
    ioas: Option<u32>,
}

/// An access that is attached to an IOAS.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attached {
    /// The id of its object.
    access: u32,
    function: Function,
}

/// Pages that a driver has pinned with one call: IOVAs `first` to `last`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pinned {
    access: u32,
    first: u64,
    last: u64,
}

/// The accesses that are attached to an IOAS, and what they have pinned.
pub(super) struct Accesses {
    attached: List<Attached>,
    pinned: List<Pinned>,
}

impl Access {
    pub(super) fn new(function: Function) -> Self {
        Access { function, ioas: None }
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
        let attached = Attached { access: id, function: access.function };
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
            areas.pin_pages(linker, attached, iova, last, write)
        })
    }

    /// Gives back what was pinned with one call. Nothing happens if it was taken back meanwhile.
    pub(crate) fn unpin_pages(&self, host: &H, device: DeviceObject, iova: u64, pages: u64) {
        let Ok(last) = last_of(iova, pages.saturating_mul(PAGE)) else { return };
        // An access that is not attached has nothing pinned.
        let _nothing = self.with_access(host, device, |attached, areas, linker| {
            areas.unpin(linker, Pinned { access: attached.access, first: iova, last });
            Ok(())
        });
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
        self.with_access(host, device, |_, areas, linker| areas.transfer(linker, iova, last, bytes))
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
            let attached = Attached { access: device.id, function: access.function };
            let ioas = objects.ioas(access.ioas.ok_or(rule::ACCESS_DETACHED)?)?;
            self.with_areas(host, ioas, |areas, linker| f(attached, areas, linker))
        })
    }
}

/// The last IOVA of a range that a driver reaches.
fn last_of(iova: u64, length: u64) -> Result<u64, Refusal> {
    iova.checked_add(length.checked_sub(1).ok_or(rule::ACCESS_LENGTH)?).ok_or(rule::ACCESS_WRAPS)
}

impl<H: Host> Objects<H> {
    fn access(&self, id: u32) -> Option<&Access> {
        match self.get(id) {
            Some(Object::Access(access)) => Some(access),
            _ => None,
        }
    }

    fn access_mut(&mut self, id: u32) -> Option<&mut Access> {
        match self.get_mut(id) {
            Some(Object::Access(access)) => Some(access),
            _ => None,
        }
    }
}

impl<H: Host> Areas<H> {
    fn add_access(&mut self, host: &H, attached: Attached) -> Result<(), Refusal> {
        self.accesses.attached.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        self.check_alignment(PAGE)?;
        self.accesses.attached.push_reserved(attached);
        Ok(())
    }

    /// An access leaves, whose driver has nothing of the IOAS any more.
    fn remove_access(&mut self, linker: &mut Linker<'_, H>, access: u32) {
        let Some(at) = self.accesses.attached.iter().position(|attached| attached.access == access) else {
            return;
        };
        if let Some(gone) = self.accesses.attached.remove(at) {
            linker.host.dma_unmap(gone.function, 0, u64::MAX);
        }
        self.unpin_where(linker, |pinned| pinned.access == access);
    }

    fn pin_pages(
        &mut self,
        linker: &mut Linker<'_, H>,
        attached: Attached,
        first: u64,
        last: u64,
        write: bool,
    ) -> Result<(), Refusal> {
        self.accesses.pinned.reserve(linker.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let mut next = Some(first);
        for area in self.covered(first, last) {
            let pinned = check_access(linker, &area, write)
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
        self.accesses.pinned.push_reserved(Pinned { access: attached.access, first, last });
        let linker = &*linker;
        let mut pages =
            self.covered(first, last).flat_map(|area| linker.stretches(area)).map(Stretch::mapping);
        linker.host.pages_pinned(attached.function, &mut pages);
        Ok(())
    }

    fn unpin(&mut self, linker: &mut Linker<'_, H>, pinned: Pinned) {
        if let Some(at) = self.accesses.pinned.iter().position(|other| *other == pinned) {
            self.accesses.pinned.remove(at);
            self.unpin_range(linker, pinned.first, pinned.last);
        }
    }

    /// Before an area goes: no driver has pages of it any more.
    pub(super) fn take_back(&mut self, linker: &mut Linker<'_, H>, area: &Entry<Area>) {
        if self.accesses.has_pinned(area) {
            for attached in self.accesses.attached.iter() {
                linker.host.dma_unmap(attached.function, area.first, area.last);
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

    fn transfer(
        &self,
        linker: &mut Linker<'_, H>,
        first: u64,
        last: u64,
        mut bytes: Transfer<'_>,
    ) -> Result<(), Refusal> {
        let mut done = 0_usize;
        for area in self.covered(first, last) {
            check_access(linker, &area, bytes.is_write())?;
            let part = bytes.part(done, area.last.saturating_sub(area.first).saturating_add(1) as usize);
            done = done.saturating_add(part.length());
            linker.records.transfer(linker.host, area.value.record, area.value.offset, part)?;
        }
        if done < bytes.length() { Err(rule::ACCESS_UNMAPPED) } else { Ok(()) }
    }
}

/// Checks that a driver may reach an area.
fn check_access<H: Host>(linker: &Linker<'_, H>, area: &Entry<Area>, write: bool) -> Result<(), Refusal> {
    let rights = area.value.rights;
    if !(if write { rights.write } else { rights.read }) {
        return Err(rule::ACCESS_RIGHTS);
    }
    if linker.records.is_bar(area.value.record) { Err(rule::ACCESS_BAR) } else { Ok(()) }
}
