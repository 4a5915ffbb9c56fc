//! Frames of foreign memory: memory of the process that is not machine RAM, while it is pinned.
//!
//! A page has one frame, and so one physical address, however often it is pinned and wherever it is mapped. The frame is
//! given up with the last pin; frames are handed out in turn, so that a stale address leads nowhere for as long as
//! possible.
//!
//! Devices reach a frame through the mapping that it was pinned by, so what the program writes there later is what they
//! read, copy on write included. When that mapping goes or moves, and the machine is told, the frame goes with it (`moving`). It may be
//! one of another process, for which the machine is kept (`elsewhere`).

mod elsewhere;
mod moving;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use subsystem::{PinError, Task};

pub(super) use moving::{Moved, Within};

use super::access::FramePointer;
use super::counts::PinCounts;
use super::maps::{Area, Identity};
use super::process::{OwnMapping, Page, Spot};
use super::table::{Place, Table};
use super::{FRAME, Found};
use crate::lock::lock;
use crate::process::OtherProcess;

/// How many frames a huge page has.
const HUGE: u64 = 512;

/// The frames of foreign memory.
#[derive(Debug)]
pub(super) struct Foreign {
    frames: Range<u64>,
    /// Where each of them is mapped that is in use, counted from the first.
    table: Table,
    /// Written to while frames are moved.
    still: RwLock<()>,
    /// Those that are in other processes.
    elsewhere: RwLock<HashMap<u64, (Arc<OtherProcess>, u64)>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The frame to be tried next, counted from the first.
    next: u64,
    pages: HashMap<Identity, Pinned>,
    last_record: u64,
    records: HashMap<u64, Record>,
    /// The other processes.
    processes: HashMap<Task, Arc<OtherProcess>>,
    counts: Counts,
    /// Mappings of files that this process has of the one that it was made of by `fork`: they stay.
    inherited: Vec<Area>,
}

/// What other processes know of their pages that are pinned, if there are such processes.
#[derive(Clone, Copy, Debug, Default)]
struct Counts(Option<PinCounts>);

/// A page that is pinned at least once.
#[derive(Debug)]
struct Pinned {
    frame: u64,
    /// The virtual address that each pin found it at. It is reached at the first.
    spots: Vec<Spot>,
    /// Whether this process, made by `fork`, has what it was then at the same address.
    inherited: bool,
}

/// What one pin holds.
#[derive(Debug)]
struct Record {
    pages: Vec<(Page, u64)>,
    /// The addresses that they are between.
    hull: Range<u64>,
    /// How many of them have not been given back.
    left: u64,
    /// Mappings that the machine has made for it.
    mappings: Vec<Arc<OwnMapping>>,
}

impl Record {
    fn new(pages: usize, mapping: Option<OwnMapping>) -> Result<Self, PinError> {
        let mappings = mapping.into_iter().map(Arc::new).collect();
        let mut record = Record { pages: Vec::new(), hull: 0..0, left: pages as u64, mappings };
        record.pages.try_reserve_exact(pages).map_err(|_| PinError::NoMemory)?;
        Ok(record)
    }

    fn find_hull(&mut self) {
        let addresses = || self.pages.iter().map(|(page, _)| page.spot.address);
        self.hull = addresses().min().unwrap_or(0)..addresses().max().map_or(0, |last| last + FRAME);
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        self.hull.start < range.end && range.start < self.hull.end
    }
}

impl Foreign {
    /// `frames` frames from `first` on.
    pub(super) fn new(first: u64, frames: u64) -> Self {
        Foreign {
            frames: first..first + frames,
            table: Table::new(frames),
            still: RwLock::default(),
            elsewhere: RwLock::default(),
            state: Mutex::default(),
        }
    }

    /// The bytes of a frame that is in use.
    ///
    /// They are those of a mapping that the program made. Where it can unmap that unseen, faults are recovered from, or not to is the
    /// program's duty.
    #[inline]
    pub(super) fn find(&self, frame: u64) -> Found<'_> {
        let place = frame.checked_sub(self.frames.start).map_or(Place::Nowhere, |at| self.table.get(at));
        match place {
            Place::Nowhere => Found::Nowhere,
            Place::Moving => Found::Moving,
            Place::Elsewhere => self.find_elsewhere(frame),
            // SAFETY: the address is that of a whole page which was present when it was pinned. It is taken out before the pin
            // ends, and whoever ends the pin or moves the page waits for the devices that have it still (`Domains::unmap`,
            // `unpin` and `relocate`). Until then the page stays mapped: by the record, or by the program, whose promise that is
            // (`Sys::ioctl_typed`) unless faults are recovered from.
            Place::At(start) => Found::Here(unsafe { FramePointer::of_program(start) }),
        }
    }

    /// No frame is moved meanwhile.
    pub(super) fn hold_still(&self) -> RwLockReadGuard<'_, ()> {
        self.still.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each page a frame, or another hold on the one it has. The answer numbers the pin.
    pub(super) fn pin(&self, pages: Vec<Page>, mapping: Option<OwnMapping>) -> Result<u64, PinError> {
        let state = &mut *lock(&self.state);
        let mut record = Record::new(pages.len(), mapping)?;
        for mut page in pages {
            // What processes have in common is reached here, where it stays for as long as devices have it.
            if page.spot.of.is_some()
                && let Some(address) = state.inherited.iter().find_map(|area| area.address_of(page.identity))
            {
                page.spot = Spot { of: None, address };
            }
            let Some(frame) = self.hold(state, page) else {
                for &held in &record.pages {
                    self.let_go(state, held);
                }
                return Err(PinError::NoMemory);
            };
            record.pages.push((page, frame));
        }
        record.find_hull();
        state.last_record += 1;
        state.records.insert(state.last_record, record);
        Ok(state.last_record)
    }

    /// Gives back pages of a pin. Calls `quiesce` if one of them is reached through another pin from now on.
    pub(super) fn unpin(&self, record: u64, pages: Range<u64>, quiesce: impl FnOnce()) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Entry::Occupied(mut entry) = state.records.entry(record) else { return };
        let given_back = entry.get().pages[pages.start as usize..pages.end as usize].to_vec();
        entry.get_mut().left -= given_back.len() as u64;
        let done = (entry.get().left == 0).then(|| entry.remove());
        let mut moved = false;
        for held in given_back {
            moved |= self.let_go(state, held);
        }
        drop(guard);
        if moved {
            quiesce();
        }
        // Unmapped last, and without the lock.
        drop(done);
    }

    /// Calls `each` with the frames of pages of a pin, in their order, until it answers false.
    pub(super) fn visit(&self, record: u64, pages: Range<u64>, mut each: impl FnMut(u64) -> bool) {
        let state = lock(&self.state);
        let record = state.records.get(&record);
        let pages = record.and_then(|record| record.pages.get(pages.start as usize..pages.end as usize));
        for &(_, frame) in pages.unwrap_or_default() {
            if !each(frame) {
                return;
            }
        }
    }

    /// How many pins hold a page of a pin.
    pub(super) fn pins(&self, record: u64, page: u64) -> u64 {
        let state = lock(&self.state);
        let page = state.records.get(&record).and_then(|record| record.pages.get(page as usize));
        let pinned = page.and_then(|(page, _)| state.pages.get(&page.identity));
        pinned.map_or(0, |pinned| pinned.spots.len() as u64)
    }

    /// The frame of a page, if it is pinned.
    pub(super) fn frame_of(&self, page: Identity) -> Option<u64> {
        lock(&self.state).pages.get(&page).map(|pinned| pinned.frame)
    }

    fn hold(&self, state: &mut State, page: Page) -> Option<u64> {
        let frame = match state.pages.get_mut(&page.identity) {
            Some(pinned) => {
                pinned.spots.push(page.spot);
                pinned.frame
            }
            None => {
                if page.spot.address.is_multiple_of(HUGE * FRAME) {
                    // Huge pages of the program are in one piece, where the layout has such.
                    state.next = (self.frames.start + state.next).next_multiple_of(HUGE) - self.frames.start;
                }
                let frame = self.unused(state)?;
                let pinned = Pinned { frame, spots: vec![page.spot], inherited: false };
                state.pages.insert(page.identity, pinned);
                self.map(&state.processes, frame, Some(page.spot));
                frame
            }
        };
        state.counts.add(page.spot);
        Some(frame)
    }

    /// True if the page stays pinned, and is somewhere else now.
    fn let_go(&self, state: &mut State, (page, held): (Page, u64)) -> bool {
        let Entry::Occupied(mut entry) = state.pages.entry(page.identity) else { return false };
        let Pinned { frame, spots, .. } = entry.get_mut();
        if *frame != held {
            return false;
        }
        let Some(at) = spots.iter().position(|spot| *spot == page.spot) else { return false };
        spots.swap_remove(at);
        let next = spots.first().copied();
        // Elsewhere it is not reached: it stays where it is.
        if at == 0 {
            self.map(&state.processes, *frame, next);
        }
        if next.is_none() {
            entry.remove();
        }
        state.counts.take(page.spot);
        at == 0 && next.is_some_and(|spot| spot != page.spot)
    }

    fn unused(&self, state: &mut State) -> Option<u64> {
        let count = self.frames.end - self.frames.start;
        if state.pages.len() as u64 >= count {
            return None;
        }
        loop {
            let frame = self.frames.start + state.next % count;
            state.next += 1;
            if self.table.get(frame - self.frames.start) == Place::Nowhere {
                return Some(frame);
            }
        }
    }

    /// Says where a frame is from now on.
    fn map(&self, processes: &HashMap<Task, Arc<OtherProcess>>, frame: u64, spot: Option<Spot>) {
        let place = match spot {
            None => Place::Nowhere,
            Some(Spot { of: None, address }) => {
                let start = NonNull::new(ptr::with_exposed_provenance_mut(address as usize));
                start.map_or(Place::Nowhere, Place::At)
            }
            Some(Spot { of: Some(task), address }) => {
                let there = processes.get(&task).map(|process| (Arc::clone(process), address));
                let mut elsewhere = self.elsewhere.write().unwrap_or_else(PoisonError::into_inner);
                there.map(|there| elsewhere.insert(frame, there));
                Place::Elsewhere
            }
        };
        self.put(frame, place);
    }

    fn put(&self, frame: u64, place: Place) {
        let number = frame - self.frames.start;
        let before = self.table.get(number);
        self.table.set(number, place);
        if before == Place::Elsewhere && place != Place::Elsewhere {
            self.elsewhere.write().unwrap_or_else(PoisonError::into_inner).remove(&frame);
        }
    }
}

impl Counts {
    /// A page is pinned at an address.
    fn add(self, spot: Spot) {
        if let (Some(counts), Some(task)) = (self.0, spot.of) {
            counts.add(task, spot.address);
        }
    }

    /// It is pinned there once less.
    fn take(self, spot: Spot) {
        if let (Some(counts), Some(task)) = (self.0, spot.of) {
            counts.take(task, spot.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices may have the address already; who moves a frame has to wait for them.
    #[test]
    fn a_pin_that_fails_moves_no_frame() {
        let foreign = Foreign::new(0, 2);
        let page = |address, number| {
            let identity = Identity::Private { of: None, page: number };
            Page { spot: Spot { of: None, address }, identity }
        };
        let address = || match foreign.table.get(0) {
            Place::At(start) => Some(start.addr().get()),
            Place::Nowhere | Place::Moving | Place::Elsewhere => None,
        };
        let pin = |pages: &[Page]| foreign.pin(pages.to_vec(), None);
        let first = pin(&[page(0x1000, 7)]).expect("room");
        let second = pin(&[page(0x2000, 7)]).expect("the same frame");
        assert_eq!(pin(&[page(0x3000, 7), page(0x4000, 8), page(0x5000, 9)]), Err(PinError::NoMemory));
        assert_eq!(address(), Some(0x1000));

        let mut moved = false;
        foreign.unpin(first, 0..1, || moved = true);
        assert_eq!((address(), moved), (Some(0x2000), true));
        foreign.unpin(second, 0..1, || ());
        assert_eq!(address(), None);
    }
}
