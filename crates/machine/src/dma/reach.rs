//! What devices without an IOMMU may reach, and why they may not reach the rest.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::domains::Span;
use super::finding::{Access, Mapped, Why};
use crate::ram::{FRAME, Ram, Spans};

/// How many mappings are remembered after they are gone.
pub(super) const REMEMBERED: usize = 64;
/// How many pages around a stray access are searched for a mapping.
pub(super) const NEARBY: u64 = 512;

/// How often a frame is mapped. Mappings of the same memory overlap as they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights {
    mappings: u32,
    writable: u32,
}

/// A part of a mapping whose frames follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The mapping's IOVA and length in bytes.
    pub(super) mapping: (u64, u64),
    /// The IOVA of the piece itself.
    pub(super) iova: u64,
    /// Its first frame.
    pub(super) first: u64,
    /// One more than its last frame.
    pub(super) end: u64,
}

impl Piece {
    fn frames(&self) -> Range<u64> {
        self.first..self.end
    }

    /// The part of it that has these frames.
    pub(super) fn part(&self, frames: Range<u64>) -> Piece {
        Piece {
            iova: self.iova + (frames.start - self.first) * FRAME,
            first: frames.start,
            end: frames.end,
            ..*self
        }
    }

    fn key(&self) -> PieceKey {
        (self.first, self.end, self.iova)
    }

    fn mapped(&self, ram: &Ram, frame: u64) -> Mapped {
        let (iova, length) = self.mapping;
        Mapped { iova, length, physical: Some(ram.layout().run_at(frame).0) }
    }
}

type PieceKey = (u64, u64, u64);

/// The memory that devices may reach, by frame.
#[derive(Debug)]
pub(super) struct Reach {
    /// What the checks ask.
    rights: Spans<Rights>,
    /// What findings tell: pieces, and how often the same one is mapped.
    pieces: BTreeMap<PieceKey, (Piece, u32)>,
    /// What was there last, newest first, and the call in which it went.
    gone: VecDeque<(Piece, u64)>,
}

impl Reach {
    pub(super) const fn new() -> Self {
        Reach { rights: Spans::new(), pieces: BTreeMap::new(), gone: VecDeque::new() }
    }

    /// The frames around one that are mapped in the same way.
    pub(super) fn around(&self, frame: u64) -> Option<Span> {
        let (frames, rights) = self.rights.get(frame)?;
        let Range { start: first, end } = frames;
        Some(Span { first, end, shift: 0, read: true, write: rights.writable > 0 })
    }

    pub(super) fn add(&mut self, piece: Piece, writable: bool) {
        self.rights.update(piece.frames(), |_, rights| {
            let Rights { mappings, writable: writers } = rights.unwrap_or_default();
            Some(Rights { mappings: mappings + 1, writable: writers + u32::from(writable) })
        });
        self.insert(piece, 1);
    }

    /// Takes away what was added, in one go or part by part.
    pub(super) fn remove(&mut self, piece: Piece, writable: bool, call: u64) {
        self.rights.update(piece.frames(), |_, rights| {
            let Rights { mappings, writable: writers } = rights?;
            let rights =
                Rights { mappings: mappings - 1, writable: writers.saturating_sub(u32::from(writable)) };
            (rights.mappings > 0).then_some(rights)
        });
        let mapping = self.forget(&piece).unwrap_or(piece.mapping);
        self.gone.truncate(REMEMBERED - 1);
        self.gone.push_front((Piece { mapping, ..piece }, call));
    }

    fn insert(&mut self, piece: Piece, times: u32) {
        self.pieces.entry(piece.key()).or_insert((piece, 0)).1 += times;
    }

    /// Takes a piece, or a part of one, out of those that findings tell of; answers the mapping that it belonged to.
    fn forget(&mut self, gone: &Piece) -> Option<(u64, u64)> {
        let around = |piece: &Piece| {
            piece.first <= gone.first && gone.end <= piece.end && piece.part(gone.frames()).iova == gone.iova
        };
        let key = if self.pieces.contains_key(&gone.key()) {
            gone.key()
        } else {
            *self.pieces.iter().find(|(_, (piece, _))| around(piece))?.0
        };
        let (piece, times) = self.pieces.get_mut(&key)?;
        let piece = *piece;
        *times -= 1;
        if *times == 0 {
            self.pieces.remove(&key);
        }
        for rest in [piece.first..gone.first, gone.end..piece.end] {
            if !rest.is_empty() {
                self.insert(piece.part(rest), 1);
            }
        }
        Some(piece.mapping)
    }

    /// Why an access to the page at a physical address is refused.
    pub(super) fn explain(&self, ram: &Ram, stray: &Stray) -> (Why, Option<Mapped>) {
        let frame = ram.layout().frame_at(stray.address);
        let there = frame.and_then(|frame| self.piece_at(frame)).filter(|_| stray.access == Access::Write);
        let denied = there.map(|(piece, frame)| (Why::ReadOnly, piece.mapped(ram, frame)));
        let gone = frame.and_then(|frame| {
            let (piece, call) = self.gone.iter().find(|(piece, _)| piece.frames().contains(&frame))?;
            Some((piece.mapped(ram, frame), *call))
        });
        explain(
            stray,
            denied,
            gone,
            |address| self.mapped_at(ram, address),
            || self.nearest(ram, stray.address),
        )
    }

    fn piece_at(&self, frame: u64) -> Option<(Piece, u64)> {
        self.rights.get(frame)?;
        self.pieces
            .values()
            .find(|(piece, _)| piece.frames().contains(&frame))
            .map(|&(piece, _)| (piece, frame))
    }

    fn mapped_at(&self, ram: &Ram, address: u64) -> Option<Mapped> {
        let (piece, frame) = self.piece_at(ram.layout().frame_at(address)?)?;
        Some(piece.mapped(ram, frame))
    }

    fn nearest(&self, ram: &Ram, address: u64) -> Option<Mapped> {
        (1..=NEARBY).find_map(|pages| {
            let distance = pages * FRAME;
            let below = address.checked_sub(distance).and_then(|address| self.mapped_at(ram, address));
            below.or_else(|| self.mapped_at(ram, address.checked_add(distance)?))
        })
    }
}

/// An access that is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    pub(super) access: Access,
    pub(super) address: u64,
    /// The access began in memory that may be reached, and came here from there.
    pub(super) entered: bool,
    /// The call that is under way.
    pub(super) call: u64,
}

/// Why an access is refused: `denied` if it is mapped and may not be accessed so, `gone` is what was there last and the call
/// in which it went, `at` tells what is mapped at an address.
pub(super) fn explain(
    stray: &Stray,
    denied: Option<(Why, Mapped)>,
    gone: Option<(Mapped, u64)>,
    at: impl Fn(u64) -> Option<Mapped>,
    nearest: impl FnOnce() -> Option<Mapped>,
) -> (Why, Option<Mapped>) {
    if let Some((why, mapping)) = denied {
        return (why, Some(mapping));
    }
    let before = stray.address.checked_sub(FRAME).and_then(at);
    if stray.entered && before.is_some() {
        return (Why::PastEnd, before);
    }
    if let Some((mapping, call)) = gone {
        // A call of another thread may have taken it since.
        return (Why::AfterUnmap { calls: stray.call.saturating_sub(call) }, Some(mapping));
    }
    match before {
        Some(_) => (Why::PastEnd, before),
        None => (Why::Outside, nearest()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::{LayoutKind, RamSpec};

    /// Memory may come and go in another thread's call after the access was refused, and before it is explained.
    #[test]
    fn what_went_in_a_later_call_went_just_now() {
        let ram =
            Ram::new(&RamSpec { bytes: 16 << 20, layout: LayoutKind::Contiguous, seed: 1 }).expect("RAM");
        let mut reach = Reach::new();
        let piece = Piece { mapping: (0, FRAME), iova: 0, first: 7, end: 8 };
        reach.add(piece, true);
        reach.remove(piece, true, 6);
        let address = ram.layout().run_at(7).0;
        let stray = Stray { access: Access::Read, address, entered: false, call: 5 };
        assert_eq!(reach.explain(&ram, &stray).0, Why::AfterUnmap { calls: 0 });
    }
}
