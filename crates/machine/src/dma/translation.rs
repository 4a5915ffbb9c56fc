//! What an IOMMU makes of the IOVAs of a domain, and why it blocks the rest.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use subsystem::Rights;

use super::domains::Span;
use super::finding::{Access, Mapped, Why};
use super::reach::{NEARBY, Piece, REMEMBERED, Stray, explain};
use crate::ram::FRAME;

/// The mappings of a domain, by page of IOVAs.
#[derive(Debug)]
pub(super) struct Translation {
    /// The last IOVA that can be translated.
    last: u64,
    /// By first page. They are disjoint.
    pieces: BTreeMap<u64, (Piece, Rights)>,
    /// What was there last, newest first, and the call in which it went.
    gone: VecDeque<(Piece, u64)>,
}

impl Piece {
    /// Its first page of IOVAs, and one more than its last.
    fn pages(&self) -> (u64, u64) {
        let first = self.iova / FRAME;
        (first, first + (self.end - self.first))
    }

    fn has_page(&self, page: u64) -> bool {
        let (first, end) = self.pages();
        (first..end).contains(&page)
    }

    fn translated(&self) -> Mapped {
        let (iova, length) = self.mapping;
        Mapped { iova, length, physical: None }
    }
}

impl Translation {
    pub(super) const fn new(last: u64) -> Self {
        Translation { last, pieces: BTreeMap::new(), gone: VecDeque::new() }
    }

    /// How the pages around one are translated.
    pub(super) fn around(&self, page: u64) -> Option<Span> {
        let (piece, Rights { read, write }) = self.at(page)?;
        let (first, end) = piece.pages();
        Some(Span { first, end, shift: piece.first.wrapping_sub(first), read, write })
    }

    pub(super) fn add(&mut self, piece: Piece, rights: Rights) {
        let before = self.pieces.insert(piece.pages().0, (piece, rights));
        debug_assert!(before.is_none(), "an IOVA is mapped twice in a domain");
    }

    /// Takes away what was added, or a part of it.
    pub(super) fn remove(&mut self, piece: Piece, call: u64) {
        if let Some((whole, rights)) = self.at(piece.pages().0) {
            self.pieces.remove(&whole.pages().0);
            for rest in [whole.first..piece.first, piece.end..whole.end] {
                if !rest.is_empty() {
                    self.add(whole.part(rest), rights);
                }
            }
        }
        self.gone.truncate(REMEMBERED - 1);
        self.gone.push_front((piece, call));
    }

    /// Why an access to the page at an IOVA is blocked.
    pub(super) fn explain(&self, stray: &Stray) -> (Why, Option<Mapped>) {
        if stray.address > self.last {
            let bits = (u64::BITS - self.last.leading_zeros()) as u8;
            return (Why::BeyondAperture { bits }, None);
        }
        let denied = self.at(stray.address / FRAME).and_then(|(piece, rights)| match stray.access {
            Access::Write if !rights.write => Some((Why::ReadOnly, piece.translated())),
            Access::Read if !rights.read => Some((Why::WriteOnly, piece.translated())),
            Access::Read | Access::Write => None,
        });
        let at = |address: u64| self.at(address / FRAME).map(|(piece, _)| piece.translated());
        let gone = self.gone.iter().find(|(piece, _)| piece.has_page(stray.address / FRAME));
        explain(stray, denied, gone.map(|(piece, call)| (piece.translated(), *call)), at, || {
            self.nearest(stray.address / FRAME)
        })
    }

    fn at(&self, page: u64) -> Option<(Piece, Rights)> {
        let (_, found) = self.pieces.range(..=page).next_back()?;
        found.0.has_page(page).then_some(*found)
    }

    /// The nearest mapping, if it is near.
    fn nearest(&self, page: u64) -> Option<Mapped> {
        let below = self.pieces.range(..=page).next_back().map(|(_, (piece, _))| piece);
        let above = self.pieces.range(page..).next().map(|(_, (piece, _))| piece);
        let distance = |piece: &Piece| match piece.pages() {
            (first, _) if first > page => first - page,
            (_, end) => page - (end - 1),
        };
        let near = [below, above].into_iter().flatten().filter(|piece| distance(piece) <= NEARBY);
        near.min_by_key(|piece| distance(piece)).map(Piece::translated)
    }
}
