//! Pinned memory of the program that the program unmaps: it stays with the devices.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use subsystem::Task;

use super::Ram;
use super::accounts::Space;
use super::foreign::{Moved, Within};
use super::maps::{self, Area, Identity};
use super::process::{OwnMapping, Owner};

/// What the program is about to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Nothing, or something else, is mapped there then.
    Unmapped,
    /// The mapping stays. If it is private, it has new pages then.
    Emptied,
}

impl Ram {
    /// A process is about to unmap memory: what of it is pinned is kept elsewhere from now on. `quiesce` is called if there is such
    /// memory, to return when every access of a device is over that began before.
    pub(crate) fn set_aside(
        &self,
        task: Task,
        range: &Range<u64>,
        fate: Fate,
        quiesce: impl FnOnce(),
    ) -> Result<(), Errno> {
        if !matches!(self.accounts.space(task), Space::Here) {
            self.foreign.retire(task, range, fate, quiesce);
            return Ok(());
        }
        self.foreign.relocate(None, range, quiesce, |pinned, moves| {
            let pinned = Within::join(pinned);
            if pinned.is_empty() {
                return Ok(());
            }
            for area in maps::areas(Owner::This, range).map_err(|_| Errno::NOMEM)? {
                let parts = pinned.iter().filter_map(|pages| area.part(pages));
                // What is mapped twice takes no more memory, and huge pages are mapped as a whole.
                let parts: Vec<Area> = match area.identity {
                    Identity::Private { .. } => parts.collect(),
                    _ if fate == Fate::Emptied => Vec::new(),
                    _ => parts.take(1).map(|_| area.clone()).collect(),
                };
                for part in parts {
                    let kept = OwnMapping::of_area(&part)?;
                    let to = kept.start();
                    moves.push(Moved { from: part.range, to, kept: Some(Arc::new(kept)) });
                }
            }
            Ok(())
        })
    }

    /// A process moves memory: `go` does it, and answers where it starts then. Devices reach it there.
    pub(crate) fn follow<E>(
        &self,
        task: Task,
        from: &Range<u64>,
        quiesce: impl FnOnce(),
        go: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        let of = if matches!(self.accounts.space(task), Space::Here) { None } else { Some(task) };
        self.foreign.relocate(of, from, quiesce, |_, moves| {
            let to = go()?;
            moves.push(Moved { from: from.clone(), to, kept: None });
            Ok(to)
        })
    }

    /// Whether memory of this process at some addresses is pinned.
    pub(crate) fn has_pinned(&self, range: &Range<u64>) -> bool {
        self.foreign.has_pinned(range)
    }
}
