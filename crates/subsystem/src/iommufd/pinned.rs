//! Which pages of a record are pinned, by whom and how often.
//!
//! Several areas may share the pages of one record. Each page is pinned while at least one area that is filled has
//! it, and only once. So the pinned pages are kept in *pieces*, each with a number of users; a piece is split where
//! an area begins or ends. Pieces are never joined again, for the edge between them may be that of another area; they
//! go when their last user goes.

use super::span::Span;
use crate::mem::{Entry, IntervalMap, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Account, Host, PinError, Refusal, Source, Task};

/// Pages that were pinned with one call, or what is left of them.
#[derive(Clone, Copy)]
pub(super) struct Piece<P> {
    pub(super) pin: P,
    /// The page of the record that is page 0 of the pin.
    pub(super) origin: u64,
    /// How many filled areas have these pages. 0 only while they are being pinned.
    users: u32,
}

/// The pinned pieces of a record, by page.
pub(super) type Pieces<P> = IntervalMap<Piece<P>>;

/// How the pages of a record are pinned and counted.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) source: Source,
    pub(super) writable: bool,
    pub(super) task: Task,
    pub(super) account: Account,
}

impl Terms {
    /// Pins pages.
    pub(super) fn pin<H: Host>(&self, host: &H, span: Span) -> Result<H::Pin, Refusal> {
        host.pin(self.source, span.first, span.pages(), self.writable).map_err(|error| match error {
            PinError::Fault => rule::PIN_FAULT,
            PinError::NoMemory => rule::PIN_NO_MEMORY,
            PinError::Unsuitable => rule::PIN_FILE,
        })
    }

    /// Counts pages that were pinned.
    pub(super) fn charge<H: Host>(&self, host: &H, pages: u64) -> Result<(), Refusal> {
        if pages == 0 || host.charge(self.task, self.account, pages) { Ok(()) } else { Err(rule::PIN_LIMIT) }
    }

    /// Stops counting pages.
    pub(super) fn uncharge<H: Host>(&self, host: &H, pages: u64) {
        if pages > 0 {
            host.uncharge(self.task, self.account, pages);
        }
    }
}

/// Adds a user to pages, pinning those that are not pinned. A refusal leaves them as they were.
pub(super) fn acquire<H: Host>(
    pieces: &mut Pieces<H::Pin>,
    host: &H,
    terms: &Terms,
    span: Span,
) -> Result<(), Refusal> {
    split(pieces, host, span.first)?;
    split(pieces, host, span.last.saturating_add(1))?;
    let result = pin_holes(pieces, host, terms, span).and_then(|fresh| terms.charge(host, fresh));
    if result.is_err() {
        for_each(pieces, span, |pieces, piece| {
            if piece.value.users == 0 {
                unpin(pieces, host, piece);
            }
        });
        return result;
    }
    for_each(pieces, span, |pieces, piece| {
        if let Some(piece) = pieces.get_mut(piece.first) {
            // Cannot overflow: a record has fewer than 2^32 areas.
            piece.users = piece.users.saturating_add(1);
        }
    });
    Ok(())
}

/// Takes a user from pages that it had acquired as one span; unpins those that have none left.
pub(super) fn release<H: Host>(pieces: &mut Pieces<H::Pin>, host: &H, terms: &Terms, span: Span) {
    let mut freed = 0_u64;
    for_each(pieces, span, |pieces, piece| {
        if piece.value.users <= 1 {
            freed = freed.saturating_add(Span { first: piece.first, last: piece.last }.pages());
            unpin(pieces, host, piece);
        } else if let Some(piece) = pieces.get_mut(piece.first) {
            piece.users = piece.users.saturating_sub(1);
        }
    });
    terms.uncharge(host, freed);
}

/// The only piece of a record that was pinned as a whole.
pub(super) fn whole<P>(pin: P, users: u32) -> Piece<P> {
    Piece { pin, origin: 0, users }
}

/// How many pages are pinned.
pub(super) fn pages<P: Copy>(pieces: &Pieces<P>) -> u64 {
    pieces
        .iter()
        .fold(0, |pages, piece| pages.saturating_add(Span { first: piece.first, last: piece.last }.pages()))
}

/// Pins the pages of a span that are not pinned, for no user yet; how many they were.
fn pin_holes<H: Host>(
    pieces: &mut Pieces<H::Pin>,
    host: &H,
    terms: &Terms,
    span: Span,
) -> Result<u64, Refusal> {
    let mut fresh = 0_u64;
    while let Some((first, last)) = pieces.hole(span.first, span.last, 1) {
        pieces.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let hole = Span { first, last };
        let pin = terms.pin(host, hole)?;
        let inserted = pieces.insert(first, last, Piece { pin, origin: first, users: 0 });
        debug_assert!(inserted.is_ok(), "a hole was not empty");
        fresh = fresh.saturating_add(hole.pages());
    }
    Ok(fresh)
}

/// Makes an edge before page `at`, if that is inside a piece. Nothing that can be observed changes.
pub(super) fn split<H: Host>(pieces: &mut Pieces<H::Pin>, host: &H, at: u64) -> Result<(), Refusal> {
    let Some(piece) = pieces.get(at).filter(|piece| piece.first < at) else { return Ok(()) };
    pieces.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
    pieces.set_last(piece.first, at.saturating_sub(1));
    let inserted = pieces.insert(at, piece.last, piece.value);
    debug_assert!(inserted.is_ok(), "the rest of a piece was not free");
    Ok(())
}

/// Gives back the pages of a piece and forgets it.
fn unpin<H: Host>(pieces: &mut Pieces<H::Pin>, host: &H, piece: Entry<Piece<H::Pin>>) {
    let span = Span { first: piece.first, last: piece.last };
    host.unpin(piece.value.pin, piece.first.saturating_sub(piece.value.origin), span.pages());
    pieces.remove(piece.first);
}

/// Calls `f` for each piece of a span, which begins and ends at edges of pieces. `f` may remove that piece.
fn for_each<P: Copy>(pieces: &mut Pieces<P>, span: Span, mut f: impl FnMut(&mut Pieces<P>, Entry<Piece<P>>)) {
    let mut at = Some(span.first);
    while let Some(piece) = at.and_then(|at| pieces.at_or_after(at)).filter(|piece| piece.first <= span.last)
    {
        f(pieces, piece);
        at = piece.last.checked_add(1);
    }
}
