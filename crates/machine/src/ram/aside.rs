//! Pinned memory of the program that the program unmaps: it stays with the devices.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::Ram;
use super::foreign::Moved;
use super::process::{self, Area, Identity, OwnMapping};

/// What the program is about to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing, or something else, is mapped there then.
    Unmapped,
    /// The mapping stays. If it is private, it has new pages then.
    Emptied,
}

impl Ram {
    /// The program is about to unmap memory: what of it is pinned is kept elsewhere from now on. `quiesce` is called if there is such
    /// memory, to return when every access of a device is over that began before.
    pub(crate) fn set_aside(
        &self,
        range: &Range<u64>,
        fate: Fate,
        quiesce: impl FnOnce(),
    ) -> Result<(), Errno> {
        self.foreign.relocate(range, quiesce, |pinned, moves| {
            if pinned.is_empty() {
                return Ok(());
            }
            for area in process::areas(range).map_err(|_| Errno::NOMEM)? {
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

    /// The program moves memory: `go` does it, and answers where it starts then. Devices reach it there.
    pub(crate) fn follow<E>(
        &self,
        from: &Range<u64>,
        quiesce: impl FnOnce(),
        go: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        self.foreign.relocate(from, quiesce, |_, moves| {
            let to = go()?;
            moves.push(Moved { from: from.clone(), to, kept: None });
            Ok(to)
        })
    }

    /// Whether memory of the program at some addresses is pinned.
    pub(crate) fn has_pinned(&self, range: &Range<u64>) -> bool {
        self.foreign.has_pinned(range)
    }
}
