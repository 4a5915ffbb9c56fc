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
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock};

use subsystem::PinError;

use super::access::FramePointer;
use super::lock;
use super::process::{FileMapping, Identity, Page};

/// Frames in a chunk of the pointer table.
const CHUNK: u64 = 512;

/// The frames of foreign memory.
#[derive(Debug)]
pub(super) struct Foreign {
    frames: Range<u64>,
    /// Where each frame is mapped; null if it is not in use. Grows by chunks, for lookups without a lock.
    pointers: Box<[OnceLock<Box<Chunk>>]>,
    state: Mutex<State>,
}

type Chunk = [AtomicPtr<u8>; CHUNK as usize];

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
    /// The virtual address that each pin found it at.
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
        let pointers = (0..frames.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        Foreign { frames: first..first + frames, pointers, state: Mutex::default() }
    }

    /// The bytes of a frame that is in use.
    ///
    /// They are those of a mapping that the program made: while it is pinned, not unmapping it is the program's duty.
    #[inline]
    pub(super) fn frame(&self, frame: u64) -> Option<FramePointer<'_>> {
        let start = NonNull::new(self.pointer(frame)?.load(Ordering::Acquire))?;
        // SAFETY: the pointer is that of a whole page which was present when it was pinned. It is taken out before the
        // pin ends, and whoever ends the pin waits for the devices that have it still (`revoke`, and the `quiesce` of
        // `unpin`). Until then the page stays mapped: by the record, or because the program, which handed it to a device
        // (`Sys::ioctl_typed`), promised so.
        Some(unsafe { FramePointer::new(start) })
    }

    #[inline]
    fn pointer(&self, frame: u64) -> Option<&AtomicPtr<u8>> {
        let index = frame.checked_sub(self.frames.start)?;
        self.pointers.get((index / CHUNK) as usize)?.get()?.get((index % CHUNK) as usize)
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
        if let Some(at) = addresses.iter().position(|&address| address == page.address) {
            addresses.swap_remove(at);
        }
        let left = addresses.last().copied();
        let before = self.map(*frame, left);
        if left.is_none() {
            entry.remove();
        }
        left.is_some_and(|address| address != before)
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

    /// Says where a frame is from now on; answers the address where it was.
    fn map(&self, frame: u64, address: Option<u64>) -> u64 {
        let index = frame - self.frames.start;
        let chunk = self.pointers[(index / CHUNK) as usize]
            .get_or_init(|| Box::new(std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut()))));
        let pointer = address
            .map_or(std::ptr::null_mut(), |address| std::ptr::with_exposed_provenance_mut(address as usize));
        chunk[(index % CHUNK) as usize].swap(pointer, Ordering::AcqRel).addr() as u64
    }
}
