//! Records: the memory that each MAP and MAP_FILE call named.

use super::PAGE;
use super::call::Exporter;
use super::pinned::{self, Pieces, Terms};
use super::span::Span;
use crate::mem::{IdMap, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Account, Backing, Function, Host, Refusal, Run, Source, Task, Transfer};

/// Memory of a process or a file, as one call named it. Areas are slices of it.
struct Record<P: Copy> {
    /// Where its first page is: an address, or an offset in a file.
    start: u64,
    /// How many pages it has.
    pages: u64,
    pinned: Pinned<P>,
    kind: Kind,
    /// Whose memory it is, and who is charged for it.
    task: Task,
    /// How many areas, and copies under way, refer to it.
    references: u32,
}

/// How the record's pages are pinned.
enum Pinned<P: Copy> {
    Not,
    /// All at once, for areas that have them all: nearly always so.
    Whole {
        pin: P,
        users: u32,
    },
    /// Any other way; where the pieces are in [`Records`].
    Pieces(u32),
    /// Not at all, for it is of a dma-buf: it is there until it is revoked.
    Exported(Exported),
}

/// What a dma-buf is of.
#[derive(Clone, Copy)]
enum Exported {
    /// A part of a BAR, which is revoked with the mappings of its function.
    Bar { function: Function, revocations: u32 },
    /// Memory of a self-test, by number.
    Test { number: u32, revoked: bool },
}

impl Exported {
    fn answers<H: Host>(self, host: &H) -> bool {
        match self {
            Exported::Bar { function, revocations } => host.revocations(function) == revocations,
            Exported::Test { revoked, .. } => !revoked,
        }
    }
}

/// What a record is made of; the flags are in the variants because there they take no room.
#[derive(Clone, Copy)]
enum Kind {
    User(Access),
    File(Access, Backing),
    Device(Access),
}

/// Where the memory of a record comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Memory(Source),
    /// A dma-buf.
    Device {
        exporter: Exporter,
        /// Its bus address.
        address: u64,
    },
}

/// What was fixed when the record was made.
#[derive(Clone, Copy)]
struct Access {
    writable: bool,
    account: Account,
}

/// Names a record of a context. Whoever has it has a reference, so it always finds the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordId(u32);

/// What a new record is made from.
#[derive(Clone, Copy)]
pub(super) struct Named {
    /// Its memory, from a multiple of the page size on.
    pub(super) source: Origin,
    /// How many pages.
    pub(super) pages: u64,
    /// Whether devices may ever write to it.
    pub(super) writable: bool,
    /// Who is charged.
    pub(super) task: Task,
    /// Against which counter.
    pub(super) account: Account,
}

/// Neighbouring pages of a record that are neighbours in one pin too.
#[derive(Clone, Copy)]
pub(super) struct Extent<P> {
    pub(super) pin: P,
    /// The first one, counted in the pin.
    pub(super) first: u64,
    pub(super) pages: u64,
}

/// The records of a context.
pub(super) struct Records<H: Host> {
    records: IdMap<Record<H::Pin>>,
    /// For the records that are pinned in pieces.
    pieces: IdMap<Pieces<H::Pin>>,
}

impl<P: Copy> Record<P> {
    fn access(&self) -> Access {
        match self.kind {
            Kind::User(access) | Kind::File(access, _) | Kind::Device(access) => access,
        }
    }

    fn terms(&self) -> Terms {
        let Access { writable, account } = self.access();
        let source = match self.kind {
            Kind::File(_, backing) => Source::File { backing, offset: self.start },
            // What is no memory is not pinned.
            Kind::User(_) | Kind::Device(_) => Source::User { task: self.task, address: self.start },
        };
        Terms { source, writable, task: self.task, account }
    }

    fn is_whole(&self, span: Span) -> bool {
        span.pages() == self.pages
    }
}

impl<H: Host> Records<H> {
    pub(super) const fn new() -> Self {
        Self { records: IdMap::new(0, u32::MAX), pieces: IdMap::new(0, u32::MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Makes a record, with one reference. Takes over the file of its memory, even if it is refused.
    pub(super) fn create(&mut self, host: &H, named: Named) -> Result<RecordId, Refusal> {
        let Named { source, pages, writable, task, account } = named;
        let access = Access { writable, account };
        let (kind, start, pinned) = match source {
            Origin::Memory(Source::User { address, .. }) => (Kind::User(access), address, Pinned::Not),
            Origin::Memory(Source::File { backing, offset }) => {
                (Kind::File(access, backing), offset, Pinned::Not)
            }
            Origin::Device { exporter, address } => {
                let exported = match exporter {
                    Exporter::Function(function) => {
                        Exported::Bar { function, revocations: host.revocations(function) }
                    }
                    Exporter::Test(number) => Exported::Test { number, revoked: false },
                };
                (Kind::Device(access), address, Pinned::Exported(exported))
            }
        };
        let record = Record { start, pages, pinned, kind, task, references: 1 };
        match self.records.insert(host, record) {
            Ok(id) => {
                host.hold_task(task);
                Ok(RecordId(id))
            }
            Err(_) => {
                if let Origin::Memory(Source::File { backing, .. }) = source {
                    host.put_backing(backing);
                }
                Err(rule::NO_MEMORY)
            }
        }
    }

    /// Adds a reference.
    pub(super) fn hold(&mut self, id: RecordId) -> Result<(), Refusal> {
        let record = self.records.get_mut(id.0).ok_or(rule::NO_MEMORY)?;
        record.references = record.references.checked_add(1).ok_or(rule::NO_MEMORY)?;
        Ok(())
    }

    /// Takes a reference away; with the last one the record goes. It is not pinned then: areas are unlinked first.
    pub(super) fn put(&mut self, host: &H, id: RecordId) {
        let Some(record) = self.records.get_mut(id.0) else { return };
        record.references = record.references.saturating_sub(1);
        if record.references > 0 {
            return;
        }
        debug_assert!(
            matches!(record.pinned, Pinned::Not | Pinned::Exported(_)),
            "a record without areas is pinned"
        );
        if let Kind::File(_, backing) = record.kind {
            host.put_backing(backing);
        }
        host.put_task(record.task);
        self.records.remove(id.0);
    }

    /// Whether devices may be allowed to write to it.
    pub(super) fn writable(&self, id: RecordId) -> bool {
        self.records.get(id.0).is_some_and(|record| record.access().writable)
    }

    /// What is mapped of a dma-buf of a self-test is not there any more.
    pub(super) fn revoke(&mut self, buffer: u32) {
        for record in self.records.values_mut() {
            if let Pinned::Exported(Exported::Test { number, revoked }) = &mut record.pinned {
                *revoked |= *number == buffer;
            }
        }
    }

    /// Whether it is of a dma-buf.
    pub(super) fn is_exported(&self, id: RecordId) -> bool {
        self.records.get(id.0).is_some_and(|record| matches!(record.pinned, Pinned::Exported(_)))
    }

    /// Copies to or from a record, from byte `offset` on. Pages that are pinned are reached so, even if the process that they
    /// are of is gone, unless it itself reaches them, as `is_own` says of it. Any others are pinned meanwhile, and charged to
    /// nobody for it.
    pub(super) fn transfer(
        &self,
        host: &H,
        id: RecordId,
        offset: u64,
        mut bytes: Transfer<'_>,
        is_own: impl Fn(Task) -> bool,
    ) -> Result<(), Refusal> {
        let record = self.records.get(id.0).ok_or(rule::NO_MEMORY)?;
        let span = Span::of_bytes(offset, bytes.length() as u64);
        let is_direct = matches!(record.kind, Kind::User(_)) && is_own(record.task);
        if !is_direct && self.extents(id, span).map(|extent| extent.pages).sum::<u64>() == span.pages() {
            let (mut done, mut within) = (0_usize, offset % PAGE);
            for extent in self.extents(id, span) {
                let room = extent.pages.saturating_mul(PAGE).saturating_sub(within) as usize;
                let part = bytes.part(done, room);
                done = done.saturating_add(part.length());
                host.copy(extent.pin, extent.first.saturating_mul(PAGE).saturating_add(within), part);
                within = 0;
            }
            return Ok(());
        }
        let terms = Terms { writable: bytes.is_write(), ..record.terms() };
        let pin = terms.pin(host, span)?;
        host.copy(pin, offset.saturating_sub(span.first.saturating_mul(PAGE)), bytes);
        host.unpin(pin, 0, span.pages());
        Ok(())
    }

    /// The address, or the offset in the file, of a byte of a record.
    pub(super) fn position(&self, id: RecordId, offset: u64) -> u64 {
        self.records.get(id.0).map_or(0, |record| record.start.wrapping_add(offset))
    }

    /// Adds a user to pages of a record, pinning and charging those that have none. A refusal changes nothing.
    pub(super) fn pin(&mut self, host: &H, id: RecordId, span: Span) -> Result<(), Refusal> {
        let record = self.records.get_mut(id.0).ok_or(rule::NO_MEMORY)?;
        let terms = record.terms();
        match record.pinned {
            Pinned::Exported(_) => Ok(()),
            Pinned::Not if record.is_whole(span) => {
                let pin = terms.pin(host, span)?;
                if let Err(refusal) = terms.charge(host, record.pages) {
                    host.unpin(pin, 0, record.pages);
                    return Err(refusal);
                }
                record.pinned = Pinned::Whole { pin, users: 1 };
                Ok(())
            }
            Pinned::Whole { pin, users } if record.is_whole(span) => {
                // Cannot overflow: each user is an area, and each area is a reference.
                record.pinned = Pinned::Whole { pin, users: users.saturating_add(1) };
                Ok(())
            }
            _ => self.pin_slice(host, id, terms, span),
        }
    }

    /// [`Records::pin`] where the record is, or has to be, pinned in pieces.
    fn pin_slice(&mut self, host: &H, id: RecordId, terms: Terms, span: Span) -> Result<(), Refusal> {
        let at = self.in_pieces(host, id)?;
        let pieces = self.pieces.get_mut(at).ok_or(rule::NO_MEMORY)?;
        let result = pinned::acquire(pieces, host, &terms, span);
        if pieces.is_empty() {
            self.forget_pieces(id, at);
        }
        result
    }

    /// Takes a user from pages of a record; those without users are unpinned. The span is one that was given to
    /// [`Records::pin`].
    pub(super) fn unpin(&mut self, host: &H, id: RecordId, span: Span) {
        let Some(record) = self.records.get_mut(id.0) else { return };
        let terms = record.terms();
        match record.pinned {
            Pinned::Exported(_) => {}
            Pinned::Not => debug_assert!(false, "a record was unpinned that is not pinned"),
            Pinned::Whole { pin, users } if users > 1 => {
                record.pinned = Pinned::Whole { pin, users: users.saturating_sub(1) };
            }
            Pinned::Whole { pin, .. } => {
                host.unpin(pin, 0, record.pages);
                terms.uncharge(host, record.pages);
                record.pinned = Pinned::Not;
            }
            Pinned::Pieces(at) => {
                let Some(pieces) = self.pieces.get_mut(at) else { return };
                pinned::release(pieces, host, &terms, span);
                if pieces.is_empty() {
                    self.forget_pieces(id, at);
                }
            }
        }
    }

    /// Has the pins of a record end before a page, so that what is on one side of it can be unpinned alone. A refusal
    /// changes nothing that can be observed.
    pub(super) fn cut(&mut self, host: &H, id: RecordId, page: u64) -> Result<(), Refusal> {
        if self.records.get(id.0).is_none_or(|record| matches!(record.pinned, Pinned::Not)) {
            return Ok(());
        }
        let at = self.in_pieces(host, id)?;
        pinned::split(self.pieces.get_mut(at).ok_or(rule::NO_MEMORY)?, host, page)
    }

    /// The pinned pages from `page` to at most `last` that are neighbours in one pin. Between its link and its unlink,
    /// an area is made of the same extents, whatever other areas do to the edges of pieces.
    pub(super) fn extent(&self, id: RecordId, page: u64, last: u64) -> Option<Extent<H::Pin>> {
        let mut extent = self.piece(id, page, last)?;
        loop {
            let next = page.saturating_add(extent.pages);
            let joins = |piece: &Extent<H::Pin>| {
                piece.pin == extent.pin && piece.first == extent.first.saturating_add(extent.pages)
            };
            match self.piece(id, next, last).filter(|piece| next <= last && joins(piece)) {
                Some(piece) => extent.pages = extent.pages.saturating_add(piece.pages),
                None => return Some(extent),
            }
        }
    }

    /// The extents of a span from its start on, as far as it is pinned.
    fn extents(&self, id: RecordId, span: Span) -> impl Iterator<Item = Extent<H::Pin>> {
        let mut page = span.first;
        core::iter::from_fn(move || {
            let extent = self.extent(id, page, span.last).filter(|_| page <= span.last)?;
            page = page.saturating_add(extent.pages);
            Some(extent)
        })
    }

    /// The memory at pages `first` to `last`, as far as it is physically contiguous; `None` if it is not pinned, or was
    /// revoked.
    pub(super) fn run(&self, host: &H, id: RecordId, first: u64, last: u64) -> Option<Run> {
        let record = self.records.get(id.0)?;
        if let Pinned::Exported(exported) = record.pinned {
            let address = record.start.saturating_add(first.saturating_mul(PAGE));
            return exported.answers(host).then_some(Run { address, pages: Span { first, last }.pages() });
        }
        let mut page = first;
        let mut found: Option<Run> = None;
        while page <= last {
            let Some(piece) = self.piece(id, page, last) else { break };
            let run = host.run(piece.pin, piece.first, piece.pages);
            let run_pages = run.pages.clamp(1, piece.pages);
            let pages = found.map_or(0, |found| found.pages);
            let address = found.map_or(run.address, |found| found.address);
            if run.address != address.wrapping_add(pages.wrapping_mul(PAGE)) {
                break;
            }
            found = Some(Run { address, pages: pages.saturating_add(run_pages) });
            page = page.saturating_add(run_pages);
        }
        found
    }

    /// The pinned piece from `page` to at most `last`.
    fn piece(&self, id: RecordId, page: u64, last: u64) -> Option<Extent<H::Pin>> {
        let record = self.records.get(id.0)?;
        let (pin, origin, end) = match record.pinned {
            Pinned::Not | Pinned::Exported(_) => return None,
            Pinned::Whole { pin, .. } => (pin, 0, record.pages.checked_sub(1).filter(|end| page <= *end)?),
            Pinned::Pieces(pieces) => {
                let piece = self.pieces.get(pieces)?.get(page)?;
                (piece.value.pin, piece.value.origin, piece.last)
            }
        };
        let pages = Span { first: page, last: end.min(last) }.pages();
        Some(Extent { pin, first: page.saturating_sub(origin), pages })
    }

    /// Has all records belong to another process from now on, and charges it for what is pinned. Refused if one of
    /// them is memory of a process, or if the charge is; nothing changes then.
    pub(super) fn change_task(&mut self, host: &H, task: Task) -> Result<(), Refusal> {
        if self.records.iter().any(|(_, record)| matches!(record.kind, Kind::User(_))) {
            return Err(rule::CHANGE_PROCESS_USER);
        }
        let others = || self.records.iter().filter(|(_, record)| record.task != task);
        let as_new = |record: &Record<H::Pin>| Terms { task, ..record.terms() };
        for (id, record) in others() {
            if let Err(refusal) = as_new(record).charge(host, self.pinned_pages(record)) {
                others()
                    .take_while(|(done, _)| *done != id)
                    .for_each(|(_, record)| as_new(record).uncharge(host, self.pinned_pages(record)));
                return Err(refusal);
            }
        }
        others().for_each(|(_, record)| record.terms().uncharge(host, self.pinned_pages(record)));
        let last = self.records.iter().last().map_or(0, |(id, _)| id);
        for id in 0..=last {
            let Some(record) = self.records.get_mut(id).filter(|record| record.task != task) else {
                continue;
            };
            host.hold_task(task);
            host.put_task(record.task);
            record.task = task;
        }
        Ok(())
    }

    fn pinned_pages(&self, record: &Record<H::Pin>) -> u64 {
        match record.pinned {
            Pinned::Not | Pinned::Exported(_) => 0,
            Pinned::Whole { .. } => record.pages,
            Pinned::Pieces(at) => self.pieces.get(at).map_or(0, pinned::pages),
        }
    }

    /// Has the pins of a record kept in pieces from now on.
    fn in_pieces(&mut self, host: &H, id: RecordId) -> Result<u32, Refusal> {
        let record = self.records.get_mut(id.0).ok_or(rule::NO_MEMORY)?;
        let mut pieces = Pieces::new();
        match record.pinned {
            Pinned::Pieces(at) => return Ok(at),
            // A BAR is in no pieces, and nobody asks for them.
            Pinned::Not | Pinned::Exported(_) => {}
            Pinned::Whole { pin, users } => {
                pieces.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
                let inserted = pieces.insert(0, record.pages.saturating_sub(1), pinned::whole(pin, users));
                debug_assert!(inserted.is_ok(), "an empty map was not empty");
            }
        }
        let at = self.pieces.insert(host, pieces).map_err(|_| rule::NO_MEMORY)?;
        record.pinned = Pinned::Pieces(at);
        Ok(at)
    }

    /// The record has no pinned piece left.
    fn forget_pieces(&mut self, id: RecordId, at: u32) {
        self.pieces.remove(at);
        if let Some(record) = self.records.get_mut(id.0) {
            record.pinned = Pinned::Not;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    /// Each mapping has a record.
    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Option<Record<u64>>>(), 48);
    }
}
