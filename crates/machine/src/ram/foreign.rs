//! Frames of foreign memory: memory of the process that is not machine RAM, while it is pinned.
//!
//! A page has one frame, and so one physical address, however often it is pinned and wherever it is mapped. The frame is
//! given up with the last pin; frames are handed out in turn, so that a stale address leads nowhere for as long as
//! possible.
//!
//! Devices reach a frame through the mapping that it was pinned by, so what the program writes there later is what they
//! read, copy on write included.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Mutex;

use subsystem::PinError;

use super::access::FramePointer;
use super::lock;
use super::process::{FileMapping, Identity, Page};
use super::table::Table;

/// The frames of foreign memory.
#[derive(Debug)]
pub(super) struct Foreign {
    frames: Range<u64>,
    /// Where each of them is mapped that is in use, counted from the first.
    table: Table,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The frame to be tried next, counted from the first.
    next: u64,
    pages: HashMap<Identity, Pinned>,
    last_record: u64,
    records: HashMap<u64, Record>,
}

/// A page that is pinned at least once.
#[derive(Debug)]
struct Pinned {
    frame: u64,
    /// The virtual address that each pin found it at. It is reached at the first.
    addresses: Vec<u64>,
}

/// What one pin holds.
#[derive(Debug)]
struct Record {
    pages: Vec<(Page, u64)>,
    /// How many of them have not been given back.
    left: u64,
    /// A mapping that the machine made for it.
    mapping: Option<FileMapping>,
}

impl Foreign {
    /// `frames` frames from `first` on.
    pub(super) fn new(first: u64, frames: u64) -> Self {
        Foreign { frames: first..first + frames, table: Table::new(frames), state: Mutex::default() }
    }

    /// The bytes of a frame that is in use.
    ///
    /// They are those of a mapping that the program made: while it is pinned, not unmapping it is the program's duty.
    #[inline]
    pub(super) fn frame(&self, frame: u64) -> Option<FramePointer<'_>> {
        let start = self.table.get(frame.checked_sub(self.frames.start)?)?;
        // SAFETY: the address is that of a whole page which was present when it was pinned. It is taken out before the pin
        // ends, and whoever ends the pin waits for the devices that have it still (`Domains::unmap` and `unpin`). Until then
        // the page stays mapped: by the record, or by the program, whose promise that is (`Sys::ioctl_typed`).
        Some(unsafe { FramePointer::new(start) })
    }

    /// Gives each page a frame, or another hold on the one it has. The answer numbers the pin.
    pub(super) fn pin(&self, pages: Vec<Page>, mapping: Option<FileMapping>) -> Result<u64, PinError> {
        let state = &mut *lock(&self.state);
        let mut record = Record { left: pages.len() as u64, pages: Vec::new(), mapping };
        record.pages.try_reserve_exact(pages.len()).map_err(|_| PinError::NoMemory)?;
        for page in pages {
            let Some(frame) = self.hold(state, page) else {
                for &(page, _) in &record.pages {
                    self.let_go(state, page);
                }
                return Err(PinError::NoMemory);
            };
            record.pages.push((page, frame));
        }
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
        for (page, _) in given_back {
            moved |= self.let_go(state, page);
        }
        drop(guard);
        if moved {
            quiesce();
        }
        // Unmapped last, and without the lock.
        drop(done.and_then(|record| record.mapping));
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

    /// The frame of a page, if it is pinned.
    pub(super) fn frame_of(&self, page: Identity) -> Option<u64> {
        lock(&self.state).pages.get(&page).map(|pinned| pinned.frame)
    }

    fn hold(&self, state: &mut State, page: Page) -> Option<u64> {
        if let Some(pinned) = state.pages.get_mut(&page.identity) {
            pinned.addresses.push(page.address);
            return Some(pinned.frame);
        }
        let frame = self.unused(state)?;
        state.pages.insert(page.identity, Pinned { frame, addresses: vec![page.address] });
        self.map(frame, Some(page.address));
        Some(frame)
    }

    /// True if the page stays pinned, and is somewhere else now.
    fn let_go(&self, state: &mut State, page: Page) -> bool {
        let Entry::Occupied(mut entry) = state.pages.entry(page.identity) else { return false };
        let Pinned { frame, addresses } = entry.get_mut();
        let Some(at) = addresses.iter().position(|&address| address == page.address) else { return false };
        addresses.swap_remove(at);
        // Elsewhere it is not reached: it stays where it is.
        if at != 0 {
            return false;
        }
        let left = addresses.first().copied();
        self.map(*frame, left);
        if left.is_none() {
            entry.remove();
        }
        left.is_some_and(|address| address != page.address)
    }

    fn unused(&self, state: &mut State) -> Option<u64> {
        let count = self.frames.end - self.frames.start;
        if state.pages.len() as u64 >= count {
            return None;
        }
        loop {
            let frame = self.frames.start + state.next % count;
            state.next += 1;
            if self.frame(frame).is_none() {
                return Some(frame);
            }
        }
    }

    /// Says at which address a frame is from now on.
    fn map(&self, frame: u64, address: Option<u64>) {
        let start = |address| NonNull::new(std::ptr::with_exposed_provenance_mut(address as usize));
        self.table.set(frame - self.frames.start, address.and_then(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices may have the address already; who moves a frame has to wait for them.
    #[test]
    fn a_pin_that_fails_moves_no_frame() {
        let foreign = Foreign::new(0, 2);
        let page = |address, number| Page { address, identity: Identity::Private { page: number } };
        let address = || foreign.table.get(0).map(|start| start.addr().get());
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
