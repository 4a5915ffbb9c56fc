//! Frames that are pages of other processes, for which this one keeps the machine.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use subsystem::Task;

use super::super::access::FramePointer;
use super::super::counts::PinCounts;
use super::super::maps::{self, Area, Identity};
use super::super::process::{OwnMapping, Owner};
use super::super::{FRAME, Fate, Found};
use super::{Counts, Foreign, Moved, Within};
use crate::lock::lock;
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
    pub(in super::super) fn leave(&self, task: Task, other: &Arc<OtherProcess>, counts: PinCounts) {
        let state = &mut *lock(&self.state);
        state.counts = Counts(Some(counts));
        state.processes.insert(task, Arc::clone(other));
        let own = |area: &Area| {
            let mappings = state.records.values().flat_map(|record| &record.mappings);
            mappings.clone().any(|mapping| mapping.overlaps(&area.range))
        };
        let areas = maps::areas(Owner::This, &(0..u64::MAX)).unwrap_or_default();
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
                for spot in &mut pinned.spots {
                    spot.of = Some(task);
                    state.counts.add(*spot);
                }
                self.map(&state.processes, pinned.frame, pinned.spots.first().copied());
            }
            state.pages.insert(identity, pinned);
        }
    }

    /// Another process has calls made.
    pub(in super::super) fn admit(&self, task: Task, other: &Arc<OtherProcess>) {
        lock(&self.state).processes.insert(task, Arc::clone(other));
    }

    /// Another process is about to unmap or to empty memory, or has ended: what devices have of it is copied, as far as it is there.
    pub(in super::super) fn retire(
        &self,
        task: Task,
        range: &Range<u64>,
        fate: Fate,
        quiesce: impl FnOnce(),
    ) {
        let Some(process) = lock(&self.state).processes.get(&task).map(Arc::clone) else { return };
        let there = Owner::Other(task, &process);
        self.relocate(Some(task), range, quiesce, |pinned, moves| {
            // What processes have in common is not emptied.
            let goes = |page: &&Within| page.is_private || fate == Fate::Unmapped;
            for from in Within::join(pinned.iter().filter(goes)) {
                let older = |address| {
                    let at = pinned.binary_search_by_key(&address, |page| page.address);
                    at.is_ok_and(|at| pinned[at].inherited)
                };
                // Without memory for it, it is lost.
                if let Ok(kept) = OwnMapping::copied(&from, |part, bytes| match there.read(part, bytes) {
                    // It was killed, or may not read the page itself. What is known of it is older.
                    Err(_) if bytes.len() == FRAME as usize && older(part) => Owner::This.read(part, bytes),
                    answer => answer,
                }) {
                    moves.push(Moved { from, to: kept.start(), kept: Some(Arc::new(kept)) });
                }
            }
        });
    }

    /// Another process has ended.
    pub(in super::super) fn forget(&self, task: Task) {
        lock(&self.state).processes.remove(&task);
    }
}
