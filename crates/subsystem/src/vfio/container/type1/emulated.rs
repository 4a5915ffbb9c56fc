//! What drivers of emulated devices reach through a container, in software: pages that they have pinned, and copies.

use super::{PAGE, Space, Type1, no_memory, pages};
use crate::host::{Account, Function, Host, Mapping, Mutex as _, PinError, Source, Transfer};
use crate::mem::{Entry, IntervalMap, List};
use crate::rules::{Refusal, type1 as rules, vfio as vfio_rules};
use crate::vfio::emulated::Request;

/// How many pages are pinned at most with one call (`VFIO_PIN_PAGES_MAX_ENTRIES`).
const MOST_PAGES: u64 = 512;

/// The emulated devices of a container, and what their drivers have pinned.
pub(super) struct Drivers<P: Copy> {
    /// Their groups, by the minor numbers of their nodes.
    groups: List<u32>,
    /// Those that are open.
    devices: List<Function>,
    /// Each page that is pinned, by its IOVAs.
    pages: IntervalMap<Page<P>>,
    pinned: List<Pinned>,
}

/// A page that drivers have pinned.
#[derive(Clone, Copy)]
struct Page<P> {
    pin: P,
    users: u32,
}

/// Pages that a driver has pinned with one call: IOVAs `first` to `last`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pinned {
    function: Function,
    first: u64,
    last: u64,
}

impl<P: Copy> Drivers<P> {
    pub(super) const fn new() -> Self {
        Drivers { groups: List::new(), devices: List::new(), pages: IntervalMap::new(), pinned: List::new() }
    }

    /// Whether groups of emulated devices have joined.
    pub(super) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// First and last IOVA of the first page from `at` on that is pinned.
    pub(super) fn pinned_from(&self, at: u64) -> Option<(u64, u64)> {
        self.pages.at_or_after(at).map(|page| (page.first, page.last))
    }

    /// How many pages from `first` to `last` are pinned.
    pub(super) fn count(&self, first: u64, last: u64) -> u64 {
        self.pages.iter_from(first).take_while(|page| page.first <= last).count() as u64
    }
}

impl<H: Host> Type1<H> {
    /// An emulated device is open.
    pub(in super::super) fn open_device(&self, host: &H, function: Function) -> Result<(), Refusal> {
        self.space.with(|space| space.emulated.devices.push(host, function)).map_err(no_memory)
    }

    /// A device is closed, emulated or not.
    pub(in super::super) fn close_device(&self, host: &H, function: Function) {
        self.space.with(|space| {
            let devices = &mut space.emulated.devices;
            if let Some(at) = devices.iter().position(|device| *device == function) {
                devices.remove(at);
                host.dma_unmap(function, 0, u64::MAX);
                space.unpin_where(host, |pinned| pinned.function == function);
            }
        });
    }

    /// Does what the driver of an emulated device asks for.
    pub(in super::super) fn serve(
        &self,
        host: &H,
        function: Function,
        iova: u64,
        request: Request<'_>,
    ) -> Result<(), Refusal> {
        match request {
            Request::Pin { pages, write } => self.pin_pages(host, function, iova, pages, write),
            Request::Unpin { pages } => {
                if let Some(last) = last_of(iova, pages) {
                    self.space.with(|space| space.unpin(host, Pinned { function, first: iova, last }));
                }
                Ok(())
            }
            Request::Transfer(bytes) => self.space.with(|space| space.transfer(host, iova, bytes)),
        }
    }

    fn pin_pages(
        &self,
        host: &H,
        function: Function,
        iova: u64,
        pages: u64,
        write: bool,
    ) -> Result<(), Refusal> {
        match pages {
            0 => return Err(rules::PIN_LENGTH),
            1..=MOST_PAGES => {}
            _ => return Err(rules::PIN_MANY),
        }
        if !self.v2 {
            return Err(rules::PIN_VERSION);
        }
        let last = last_of(iova, pages).ok_or(rules::PIN_WRAPS)?;
        self.space.with(|space| {
            space.emulated.pinned.reserve(host).map_err(no_memory)?;
            for page in each_page(iova, last) {
                if let Err(refusal) = space.pin_page(host, page, write) {
                    each_page(iova, last)
                        .take_while(|done| *done < page)
                        .for_each(|done| space.unpin_page(host, done));
                    return Err(refusal);
                }
            }
            space.emulated.pinned.push_reserved(Pinned { function, first: iova, last });
            host.pages_pinned(
                function,
                &mut each_page(iova, last).filter_map(|page| space.mapped_page(page)),
            );
            Ok(())
        })
    }
}

impl<H: Host> Space<H> {
    /// The group of an emulated device joins.
    pub(super) fn add_emulated(&mut self, host: &H, minor: u32) -> Result<(), Refusal> {
        if self.without_address > 0 {
            return Err(rules::GROUP_ADDRESSES);
        }
        self.emulated.groups.push(host, minor).map_err(no_memory)
    }

    /// It leaves; whether it is one that has joined.
    pub(super) fn remove_emulated(&mut self, minor: u32) -> bool {
        let groups = &mut self.emulated.groups;
        let at = groups.iter().position(|group| *group == minor);
        at.and_then(|at| groups.remove(at)).is_some()
    }

    /// Before a mapping goes: no driver has pages of it any more.
    pub(super) fn take_back<V>(&mut self, host: &H, mapping: &Entry<V>) {
        if self.emulated.count(mapping.first, mapping.last) > 0 {
            for device in self.emulated.devices.iter() {
                host.dma_unmap(*device, mapping.first, mapping.last);
            }
            self.unpin_where(host, |pinned| pinned.first <= mapping.last && mapping.first <= pinned.last);
        }
    }

    /// Pins a page for a driver, or adds a user to one that is pinned. It is charged unless the mapping as a whole is.
    fn pin_page(&mut self, host: &H, iova: u64, write: bool) -> Result<(), Refusal> {
        let entry = self.mappings.get(iova).ok_or(rules::PIN_UNMAPPED)?;
        let mapped = entry.value;
        if !mapped.rights.read || write && !mapped.rights.write {
            return Err(rules::PIN_RIGHTS);
        }
        if let Some(page) = self.emulated.pages.get_mut(iova) {
            page.users = page.users.saturating_add(1);
            return Ok(());
        }
        self.emulated.pages.reserve(host).map_err(no_memory)?;
        let address = mapped.address.saturating_add(iova.saturating_sub(entry.first));
        if host.is_region(mapped.task, address, 1, mapped.rights.write) {
            return Err(rules::PIN_BAR);
        }
        let source = Source::User { task: mapped.task, address };
        let pin = host.pin(source, 0, 1, mapped.rights.write).map_err(|error| match error {
            PinError::Fault | PinError::Unsuitable => rules::PIN_FAULT,
            PinError::NoMemory => vfio_rules::NO_MEMORY,
        })?;
        let account = Account::Locked { capable: mapped.capable };
        if self.domains.is_empty() && !host.charge(mapped.task, account, 1) {
            host.unpin(pin, 0, 1);
            return Err(rules::PIN_LOCKED);
        }
        let last = iova.saturating_add(PAGE.saturating_sub(1));
        let inserted = self.emulated.pages.insert(iova, last, Page { pin, users: 1 });
        debug_assert!(inserted.is_ok(), "a page was pinned twice");
        self.note_written(host, iova, last);
        Ok(())
    }

    /// Takes a user from a page.
    fn unpin_page(&mut self, host: &H, iova: u64) {
        let Some(page) = self.emulated.pages.get_mut(iova) else { return };
        page.users = page.users.saturating_sub(1);
        if page.users > 0 {
            return;
        }
        host.unpin(page.pin, 0, 1);
        self.emulated.pages.remove(iova);
        if let Some(entry) = self.mappings.get(iova).filter(|_| self.domains.is_empty()) {
            host.uncharge(entry.value.task, Account::Locked { capable: entry.value.capable }, 1);
        }
    }

    fn mapped_page(&self, iova: u64) -> Option<Mapping<H::Pin>> {
        let pin = self.emulated.pages.get(iova)?.value.pin;
        let rights = self.mappings.get(iova)?.value.rights;
        Some(Mapping { iova, pin, first: 0, pages: 1, rights })
    }

    fn unpin(&mut self, host: &H, pinned: Pinned) {
        if let Some(at) = self.emulated.pinned.iter().position(|other| *other == pinned) {
            self.emulated.pinned.remove(at);
            each_page(pinned.first, pinned.last).for_each(|page| self.unpin_page(host, page));
        }
    }

    fn unpin_where(&mut self, host: &H, which: impl Fn(&Pinned) -> bool) {
        while let Some(gone) = self.emulated.pinned.iter().find(|pinned| which(pinned)).copied() {
            self.unpin(host, gone);
        }
    }

    /// Copies from or to what is mapped, which is read from in any case.
    fn transfer(&mut self, host: &H, iova: u64, mut bytes: Transfer<'_>) -> Result<(), Refusal> {
        if bytes.length() == 0 {
            return Err(rules::COPY_LENGTH);
        }
        let mut done = 0_usize;
        while done < bytes.length() {
            let at = iova.checked_add(done as u64).ok_or(rules::COPY_UNMAPPED)?;
            let entry = self.mappings.get(at).ok_or(rules::COPY_UNMAPPED)?;
            let mapped = entry.value;
            if !mapped.rights.read || bytes.is_write() && !mapped.rights.write {
                return Err(rules::COPY_RIGHTS);
            }
            let write = bytes.is_write();
            let part = bytes.part(done, entry.last.saturating_sub(at).saturating_add(1) as usize);
            let (length, within) = (part.length(), at % PAGE);
            let skipped = at.saturating_sub(within).saturating_sub(entry.first);
            let source = Source::User { task: mapped.task, address: mapped.address.saturating_add(skipped) };
            let count = within.saturating_add(length as u64).div_ceil(PAGE);
            let pin = host.pin(source, 0, count, write).map_err(|_| rules::COPY_FAULT)?;
            host.copy(pin, within, part);
            host.unpin(pin, 0, count);
            if write {
                let first = at.saturating_sub(within);
                let bytes = count.saturating_mul(PAGE);
                self.note_written(host, first, first.saturating_add(bytes.saturating_sub(1)));
            }
            done = done.saturating_add(length);
        }
        Ok(())
    }

    /// Pins all mappings: the first domain is about to come. A refusal leaves none pinned.
    pub(super) fn pin_all(&mut self, host: &H) -> Result<(), Refusal> {
        let mut at = Some(0);
        while let Some(entry) = at.and_then(|at| self.mappings.at_or_after(at)) {
            let counted = self.emulated.count(entry.first, entry.last);
            let pin = entry.value.lock(host, pages(&entry), counted);
            let pin = pin.inspect_err(|_| self.unpin_all(host))?;
            if let Some(mapped) = self.mappings.get_mut(entry.first) {
                mapped.pin = pin;
            }
            at = entry.last.checked_add(1);
        }
        Ok(())
    }

    /// Unpins all mappings: the last domain has gone. What drivers have pinned stays so, and charged.
    pub(super) fn unpin_all(&mut self, host: &H) {
        let mut at = Some(0);
        while let Some(entry) = at.and_then(|at| self.mappings.at_or_after(at)) {
            let counted = self.emulated.count(entry.first, entry.last);
            if let Some(mapped) = self.mappings.get_mut(entry.first) {
                mapped.unlock(host, pages(&entry), counted);
            }
            at = entry.last.checked_add(1);
        }
    }
}

/// The last IOVA of pages.
fn last_of(iova: u64, pages: u64) -> Option<u64> {
    iova.checked_add(pages.checked_mul(PAGE)?.checked_sub(1)?)
}

/// The IOVAs of pages.
fn each_page(first: u64, last: u64) -> impl Iterator<Item = u64> {
    core::iter::successors(Some(first), |page| page.checked_add(PAGE)).take_while(move |page| *page <= last)
}
