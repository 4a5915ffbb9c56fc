//! Pinned memory that goes to other addresses.
#![forbid(unsafe_code)]

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use subsystem::Task;

use super::super::FRAME;
use super::super::maps::Identity;
use super::super::process::{OwnMapping, Page, Spot};
use super::super::table::Place;
use super::{Foreign, State};
use crate::lock::lock;

/// Memory that is elsewhere now.
#[derive(Clone, Debug)]
pub(in super::super) struct Moved {
    pub(in super::super) from: Range<u64>,
    /// Where it starts now.
    pub(in super::super) to: u64,
    /// It is the machine's alone now, and this is what keeps it. `None`: it is still of the process that it was of.
    pub(in super::super) kept: Option<Arc<OwnMapping>>,
}

/// A pinned page within a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Within {
    pub(super) address: u64,
    frame: u64,
    /// Whether devices reach the frame there.
    is_reached: bool,
    /// Whether it is memory of the process's own.
    pub(super) is_private: bool,
    /// Whether this process has what it was at a fork.
    pub(super) inherited: bool,
}

impl Within {
    /// Such pages as ranges; their addresses rise.
    pub(in super::super) fn join<'a>(pages: impl IntoIterator<Item = &'a Within>) -> Vec<Range<u64>> {
        let mut joined: Vec<Range<u64>> = Vec::new();
        for &Within { address, .. } in pages {
            match joined.last_mut() {
                Some(last) if address <= last.end => last.end = address + FRAME,
                _ => joined.push(address..address + FRAME),
            }
        }
        joined
    }
}

impl Moved {
    /// Where is now what was at an address of the process `of`.
    fn spot(&self, of: Option<Task>, address: u64) -> Option<Spot> {
        let of = if self.kept.is_some() { None } else { of };
        self.from.contains(&address).then(|| Spot { of, address: address - self.from.start + self.to })
    }

    fn page(&self, page: Page) -> Option<Page> {
        let spot = self.spot(page.spot.of, page.spot.address)?;
        let number = spot.address / FRAME;
        let identity = match (page.identity, &self.kept) {
            (Identity::Private { of, .. }, None) => Identity::Private { of, page: number },
            (Identity::Private { .. }, Some(_)) => Identity::Aside { page: number },
            (other, _) => other,
        };
        Some(Page { spot, identity })
    }
}

impl Foreign {
    /// Memory at some addresses of a process (`None`: this one) is about to be unmapped, or moved. `go` does that, after a look at
    /// which pages of it are pinned; meanwhile no device has them, as `quiesce` waits for. What `go` says to be elsewhere then is
    /// reached there, whatever it answers.
    pub(in super::super) fn relocate<R>(
        &self,
        of: Option<Task>,
        range: &Range<u64>,
        quiesce: impl FnOnce(),
        go: impl FnOnce(&[Within], &mut Vec<Moved>) -> R,
    ) -> R {
        let _still = self.still.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *lock(&self.state);
        let pinned = state.pinned_within(of, range);
        let reached = || pinned.iter().filter(|pinned| pinned.is_reached);
        for pinned in reached() {
            self.put(pinned.frame, Place::Moving);
        }
        if !pinned.is_empty() {
            quiesce();
        }
        let mut moves = Vec::new();
        let answer = go(&pinned, &mut moves);
        for moved in &moves {
            state.follow(of, moved);
        }
        for &Within { frame, address, .. } in reached() {
            let now = moves.iter().find_map(|moved| moved.spot(of, address));
            self.map(&state.processes, frame, Some(now.unwrap_or(Spot { of, address })));
        }
        answer
    }

    /// Whether a page is pinned that this process has at one of these addresses.
    pub(in super::super) fn has_pinned(&self, range: &Range<u64>) -> bool {
        !lock(&self.state).pinned_within(None, range).is_empty()
    }
}

impl State {
    /// The pages that are pinned within a range of addresses, by address.
    fn pinned_within(&self, of: Option<Task>, range: &Range<u64>) -> Vec<Within> {
        let records = self.records.values().filter(|record| record.overlaps(range));
        let pages = records.flat_map(|record| &record.pages);
        let mut pinned: Vec<Within> = pages
            .filter(|(page, _)| page.spot.of == of && range.contains(&page.spot.address))
            .filter_map(|&(Page { spot, identity }, frame)| {
                let held = self.pages.get(&identity).filter(|held| held.frame == frame)?;
                let at = held.spots.iter().position(|&other| other == spot)?;
                Some(Within {
                    address: spot.address,
                    frame,
                    is_reached: at == 0,
                    is_private: matches!(identity, Identity::Private { .. }),
                    inherited: held.inherited,
                })
            })
            .collect();
        pinned.sort_unstable();
        pinned.dedup();
        pinned
    }

    /// Pages that are elsewhere now are known there.
    fn follow(&mut self, of: Option<Task>, moved: &Moved) {
        for record in self.records.values_mut().filter(|record| record.overlaps(&moved.from)) {
            let mut has_some = false;
            for (page, frame) in record.pages.iter_mut().filter(|(page, _)| page.spot.of == of) {
                let Some(now) = moved.page(*page) else { continue };
                has_some = true;
                // Once for all the records that have it.
                if let Entry::Occupied(entry) = self.pages.entry(page.identity)
                    && entry.get().frame == *frame
                {
                    let mut pinned = entry.remove();
                    for spot in pinned.spots.iter_mut().filter(|spot| **spot == page.spot) {
                        *spot = now.spot;
                        self.counts.take(page.spot);
                        self.counts.add(now.spot);
                    }
                    self.pages.insert(now.identity, pinned);
                }
                *page = now;
            }
            if has_some {
                record.mappings.extend(moved.kept.clone());
                record.find_hull();
            }
        }
    }
}
