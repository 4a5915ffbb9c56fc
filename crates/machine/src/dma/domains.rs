//! The domains of a machine, what is mapped in them, and the devices that are attached to them.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;
use subsystem::{Mapping, Task};

use super::checker::Checker;
use super::finding::{Mapped, Why};
use super::port::{DmaPort, PortControl, PortState};
use super::reach::{Piece, Reach, Stray};
use super::translation::Translation;
use crate::lock::lock;
use crate::log::Log;
use crate::ram::{FRAME, Fate, Known, Pin, Ram};

/// A domain, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Domain(u64);

/// The domain that is always there: of devices whose memory nobody but the program knows of.
pub(crate) const UNMANAGED: Domain = Domain(0);

/// All domains of a machine.
#[derive(Debug)]
pub(crate) struct Domains {
    ram: Arc<Ram>,
    checker: Arc<Checker>,
    all: Mutex<(u64, HashMap<Domain, Arc<DomainState>>)>,
}

/// A domain, as the ports of its devices see it.
#[derive(Debug)]
pub(super) struct DomainState {
    space: RwLock<Space>,
    ports: Mutex<Vec<Arc<PortState>>>,
    pub(super) dirty: Dirty,
}

/// How a domain's devices address memory.
#[derive(Debug)]
enum Space {
    Physical(Reach),
    Translated(Translation),
    /// Physically, by addresses that the program has learnt.
    Unmanaged,
}

/// Pages of bus addresses that are mapped in the same way, and how their frames are found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    /// The first page.
    pub(super) first: u64,
    /// One more than the last.
    pub(super) end: u64,
    /// What makes the number of a frame of the number of a page, if added.
    pub(super) shift: u64,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// Which pages were written, by IOVA.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    on: AtomicBool,
    pages: Mutex<BTreeSet<u64>>,
}

impl Dirty {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(super) fn mark(&self, page: u64) {
        lock(&self.pages).insert(page);
    }
}

impl DomainState {
    fn new(space: Space) -> Self {
        DomainState { space: RwLock::new(space), ports: Mutex::default(), dirty: Dirty::default() }
    }

    fn space(&self) -> RwLockReadGuard<'_, Space> {
        self.space.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn space_mut(&self) -> RwLockWriteGuard<'_, Space> {
        self.space.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its devices use IOVAs.
    pub(super) fn translates(&self) -> bool {
        matches!(*self.space(), Space::Translated(_))
    }

    /// Whether what was found once holds until the domain says otherwise.
    pub(super) fn lasts(&self) -> bool {
        !matches!(*self.space(), Space::Unmanaged)
    }

    /// What is mapped around a page: a frame, or a page of IOVAs if the domain translates.
    pub(super) fn around(&self, ram: &Ram, page: u64) -> Option<Span> {
        match &*self.space() {
            Space::Physical(reach) => reach.around(page),
            Space::Translated(translation) => translation.around(page),
            Space::Unmanaged => match ram.known(page) {
                Known::Fixed(frames) => {
                    Some(Span { first: frames.start, end: frames.end, shift: 0, read: true, write: true })
                }
                Known::Movable | Known::Not => None,
            },
        }
    }

    /// Why an access is refused, and the mapping that it has to do with.
    pub(super) fn explain(&self, ram: &Ram, stray: &Stray) -> (Why, Option<Mapped>) {
        match &*self.space() {
            Space::Physical(reach) => reach.explain(ram, stray),
            Space::Translated(translation) => translation.explain(stray),
            Space::Unmanaged => {
                let known = ram.layout().frame_at(stray.address).map_or(Known::Not, |frame| ram.known(frame));
                (if known == Known::Movable { Why::Movable } else { Why::Unknown }, None)
            }
        }
    }

    fn quiesce(&self) {
        let ports = lock(&self.ports).clone();
        ports.iter().for_each(|port| port.gate.quiesce());
    }
}

impl Domains {
    /// None yet.
    #[must_use]
    pub(crate) fn new(ram: Arc<Ram>, checker: Arc<Checker>) -> Self {
        let unmanaged = Arc::new(DomainState::new(Space::Unmanaged));
        Domains { ram, checker, all: Mutex::new((0, HashMap::from([(UNMANAGED, unmanaged)]))) }
    }

    /// The memory that they are about.
    #[must_use]
    pub(crate) fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// What was found.
    #[must_use]
    pub(crate) fn checker(&self) -> &Arc<Checker> {
        &self.checker
    }

    /// A port for a device with `bits` address bits, bus mastering off and attached to nothing: the half that the model
    /// gets, and the half that the bus keeps. `device` names it in findings. With `faults` it is behind an IOMMU, which
    /// logs there what it blocks.
    #[must_use]
    pub(crate) fn port(&self, device: &str, bits: u8, faults: Option<Arc<Log>>) -> (DmaPort, PortControl) {
        let control = PortControl::new(device, bits, faults);
        let port =
            DmaPort::new(Arc::clone(&self.ram), Arc::clone(&self.checker), Arc::clone(control.state()));
        (port, control)
    }

    /// A new domain, empty. `aperture_last` is the last IOVA that it can translate; `None`: it translates none.
    #[must_use]
    pub(crate) fn create(&self, aperture_last: Option<u64>) -> Domain {
        let (last, all) = &mut *lock(&self.all);
        *last += 1;
        let space = match aperture_last {
            Some(last) => Space::Translated(Translation::new(last)),
            None => Space::Physical(Reach::new()),
        };
        all.insert(Domain(*last), Arc::new(DomainState::new(space)));
        Domain(*last)
    }

    /// The domain is gone, with everything mapped in it; its devices may reach nothing.
    pub(crate) fn remove(&self, domain: Domain) {
        let Some(state) = lock(&self.all).1.remove(&domain) else { return };
        for port in lock(&state.ports).drain(..) {
            port.set_domain(None);
            port.gate.quiesce();
        }
    }

    /// The devices of the domain may reach this memory from now on.
    pub(crate) fn map(&self, domain: Domain, mapping: &Mapping<Pin>) {
        let Some(state) = self.state(domain) else { return };
        let pieces = self.pieces(mapping);
        match &mut *state.space_mut() {
            Space::Physical(reach) => {
                pieces.into_iter().for_each(|piece| reach.add(piece, mapping.rights.write));
            }
            Space::Translated(translation) => {
                pieces.into_iter().for_each(|piece| translation.add(piece, mapping.rights));
            }
            Space::Unmanaged => debug_assert!(false, "nothing is mapped there"),
        }
    }

    /// They may no longer; returns when no access to it is under way any more.
    pub(crate) fn unmap(&self, domain: Domain, mapping: &Mapping<Pin>) {
        let Some(state) = self.state(domain) else { return };
        let pieces = self.pieces(mapping);
        let call = self.checker.calls();
        match &mut *state.space_mut() {
            Space::Physical(reach) => {
                pieces.into_iter().for_each(|piece| reach.remove(piece, mapping.rights.write, call));
            }
            Space::Translated(translation) => {
                pieces.into_iter().for_each(|piece| translation.remove(piece, call));
            }
            Space::Unmanaged => debug_assert!(false, "nothing is mapped there"),
        }
        state.quiesce();
    }

    /// Gives back pages of a pin that is mapped in no domain any more. Its pages may be pinned elsewhere too, in another
    /// domain, and have been reached through this pin all the same: returns when no access does that any more.
    pub(crate) fn unpin(&self, pin: Pin, first: u64, pages: u64) {
        self.ram.unpin(pin, first, pages, || self.quiesce());
    }

    /// A process is about to unmap memory, or has ended ([`Ram::set_aside`]).
    pub(crate) fn set_aside(&self, task: Task, range: &Range<u64>, fate: Fate) -> Result<(), Errno> {
        self.ram.set_aside(task, range, fate, || self.quiesce())
    }

    /// A process moves memory ([`Ram::follow`]).
    pub(crate) fn follow<E>(
        &self,
        task: Task,
        from: &Range<u64>,
        go: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        self.ram.follow(task, from, || self.quiesce(), go)
    }

    fn quiesce(&self) {
        let states: Vec<_> = lock(&self.all).1.values().map(Arc::clone).collect();
        states.iter().for_each(|state| state.quiesce());
    }

    /// The device's accesses go through this domain from now on; `None`: it may reach nothing. Returns when no access that
    /// began before is under way any more.
    pub(crate) fn attach(&self, port: &PortControl, domain: Option<Domain>) {
        let port = port.state();
        let state = domain.and_then(|domain| self.state(domain));
        // Listed first, so that no unmapping overlooks the port.
        if let Some(state) = &state {
            lock(&state.ports).push(Arc::clone(port));
        }
        let before = port.set_domain(state);
        port.gate.quiesce();
        if let Some(before) = before {
            let mut ports = lock(&before.ports);
            if let Some(at) = ports.iter().position(|other| Arc::ptr_eq(other, port)) {
                ports.swap_remove(at);
            }
        }
    }

    /// Whether a domain notes which pages are written from now on.
    pub(crate) fn track_dirty(&self, domain: Domain, on: bool) {
        if let Some(state) = self.state(domain) {
            state.dirty.on.store(on, Ordering::Relaxed);
            state.quiesce();
        }
    }

    /// The pages of IOVAs from `first` to `last` that were noted as written. With `clear` they are forgotten, and no write of
    /// one is under way any more: one that is noted then is a later one.
    pub(crate) fn dirty(&self, domain: Domain, first: u64, last: u64, clear: bool) -> Vec<u64> {
        let Some(state) = self.state(domain) else { return Vec::new() };
        let found = {
            let mut pages = lock(&state.dirty.pages);
            let found: Vec<u64> = pages.range(first..=last).copied().collect();
            if clear {
                found.iter().for_each(|page| {
                    pages.remove(page);
                });
            }
            found
        };
        if clear {
            state.quiesce();
        }
        found
    }

    fn state(&self, domain: Domain) -> Option<Arc<DomainState>> {
        lock(&self.all).1.get(&domain).map(Arc::clone)
    }

    fn pieces(&self, mapping: &Mapping<Pin>) -> Vec<Piece> {
        let whole = (mapping.iova, mapping.pages * FRAME);
        let mut iova = mapping.iova;
        let frames = self.ram.pinned_frames(mapping.pin, mapping.first, mapping.pages);
        frames
            .into_iter()
            .map(|frames| {
                let piece = Piece { mapping: whole, iova, first: frames.start, end: frames.end };
                // The last piece may end with the address space.
                iova = iova.wrapping_add((frames.end - frames.start) * FRAME);
                piece
            })
            .collect()
    }
}
