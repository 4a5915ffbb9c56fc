//! Frames that are pages of other processes, for which this one keeps the machine.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError};

use subsystem::{Task, UserMemory as _};

use super::super::access::FramePointer;
use super::super::process::{self, Area, Identity, Spot};
use super::super::table::Place;
use super::super::{FRAME, Found, lock};
use super::Foreign;
use crate::process::OtherProcess;

impl Foreign {
    #[cold]
    pub(super) fn find_elsewhere(&self, frame: u64) -> Found<'_> {
        let elsewhere = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner);
        elsewhere.get(&frame).map_or(Found::Nowhere, |(process, address)| {
            Found::Here(FramePointer::elsewhere(Arc::clone(process), *address))
        })
    }

    /// What was this process is another one from now on, and this its copy. No access is under way.
    pub(in super::super) fn leave(&self, task: Task, other: &Arc<OtherProcess>) {
        let state = &mut *lock(&self.state);
        state.processes.insert(task, Arc::clone(other));
        let own = |area: &Area| {
            let mappings = state.records.values().flat_map(|record| &record.mappings);
            mappings.clone().any(|mapping| mapping.overlaps(&area.range))
        };
        let areas = process::areas(&(0..u64::MAX)).unwrap_or_default();
        let inherited = areas.into_iter().filter(|area| area.is_of_file() && !own(area)).collect();
        state.inherited = inherited;
        // Memory that both have in common is the same here, and what the machine has mapped itself is its own.
        let leave = |identity: &mut Identity| match identity {
            Identity::Private { of, .. } => of.replace(task).is_none(),
            Identity::File { .. } | Identity::Aside { .. } => false,
        };
        for (page, _) in state.records.values_mut().flat_map(|record| &mut record.pages) {
            if leave(&mut page.identity) {
                page.spot.of = Some(task);
            }
        }
        for (mut identity, mut pinned) in std::mem::take(&mut state.pages) {
            if leave(&mut identity) {
                pinned.inherited = true;
                pinned.spots.iter_mut().for_each(|spot| spot.of = Some(task));
                self.map(&state.processes, pinned.frame, pinned.spots.first().copied());
            }
            state.pages.insert(identity, pinned);
        }
    }

    /// Another process has calls made.
    pub(in super::super) fn admit(&self, task: Task, other: &Arc<OtherProcess>) {
        lock(&self.state).processes.insert(task, Arc::clone(other));
    }

    /// Another process unmaps memory, or ends: what devices have of it is copied while it is there. Whoever calls this waits for
    /// accesses under way afterwards.
    pub(in super::super) fn retire(&self, task: Task, range: &Range<u64>) {
        let state = &mut *lock(&self.state);
        let Some(process) = state.processes.get(&task) else { return };
        for pinned in state.pages.values_mut().filter(|pinned| pinned.left.is_none()) {
            let reached = pinned.spots.first().filter(|spot| spot.of == Some(task));
            let Some(Spot { address, .. }) = reached.filter(|spot| range.contains(&spot.address)) else {
                continue;
            };
            let (page, mut bytes) = (OwnPage::new(), [0; FRAME as usize]);
            if process.read(*address, &mut bytes).is_err() && pinned.inherited {
                // It was killed. What is known of the page is older.
                let old = NonNull::new(ptr::with_exposed_provenance_mut(*address as usize));
                // SAFETY: it was a page of this process when it became a copy, in which nothing is unmapped.
                let old = old.map(|old| unsafe { FramePointer::new(old) });
                // A page of a copy is always there.
                let _read = old.map(|old| old.read(0, &mut bytes));
            }
            // The page is this function's, and there.
            let _written = page.pointer().write(0, &bytes);
            self.table.set(pinned.frame - self.frames.start, Place::At(page.0));
            self.elsewhere.write().unwrap_or_else(PoisonError::into_inner).remove(&pinned.frame);
            pinned.left = Some(page);
        }
    }

    /// Another process has ended.
    pub(in super::super) fn forget(&self, task: Task) {
        lock(&self.state).processes.remove(&task);
    }
}

/// A page of memory of the machine's own.
#[derive(Debug)]
pub(super) struct OwnPage(NonNull<u8>);

// SAFETY: the memory belongs to this value alone, and is reached through raw pointers; nothing about it is tied to a thread.
unsafe impl Send for OwnPage {}

impl OwnPage {
    const LAYOUT: Layout = match Layout::from_size_align(FRAME as usize, FRAME as usize) {
        Ok(layout) => layout,
        Err(_) => panic!("a page"),
    };

    /// A page of zeroes.
    fn new() -> Self {
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(Self::LAYOUT) };
        OwnPage(NonNull::new(start).unwrap_or_else(|| handle_alloc_error(Self::LAYOUT)))
    }

    fn pointer(&self) -> FramePointer<'_> {
        // SAFETY: a whole page, which is there as long as this value.
        unsafe { FramePointer::new(self.0) }
    }
}

impl Drop for OwnPage {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, with the same layout; the last pin of the frame is gone.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) };
    }
}
