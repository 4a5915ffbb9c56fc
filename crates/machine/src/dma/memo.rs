//! What a port remembers of its domain, so that a check costs no lock and no search.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::domains::{DomainState, Span};
use super::finding::Access;
use super::port::PortState;
use crate::ram::{FRAME, Ram};

/// How many spans of frames are remembered.
const REMEMBERED: usize = 8;

/// What a port remembers of its domain.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The epoch that it is good for.
    epoch: u64,
    domain: Option<Arc<DomainState>>,
    /// Whether the domain translates, and whether it notes what is written.
    translates: bool,
    tracks: bool,
    spans: [Span; REMEMBERED],
    oldest: usize,
}

impl Span {
    #[inline]
    fn has(&self, page: u64) -> bool {
        (self.first..self.end).contains(&page)
    }

    #[inline]
    fn allows(&self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }
}

impl Memo {
    /// Forgets what may hold no longer, in an epoch that an access is in.
    #[inline]
    pub(super) fn renew(&mut self, port: &PortState, epoch: u64) {
        if self.epoch != epoch {
            *self = Memo::new(port, epoch);
        }
    }

    /// The frame behind a bus address if it may be accessed, by an access in the epoch that this is good for.
    #[inline]
    pub(super) fn frame(&mut self, ram: &Ram, address: u64, access: Access) -> Option<u64> {
        let page = if self.translates { address / FRAME } else { ram.layout().frame_at(address)? };
        let known = self.spans.iter().find(|span| span.has(page) && span.allows(access)).copied();
        let span = match known {
            Some(span) => span,
            None => self.look_up(ram, page).filter(|span| span.allows(access))?,
        };
        if self.tracks && access == Access::Write {
            self.domain.as_ref()?.dirty.mark(page);
        }
        Some(page.wrapping_add(span.shift))
    }

    fn new(port: &PortState, epoch: u64) -> Self {
        let domain = port.domain();
        let translates = domain.as_ref().is_some_and(|domain| domain.translates());
        let tracks = domain.as_ref().is_some_and(|domain| domain.dirty.is_on());
        Memo { epoch, domain, translates, tracks, ..Memo::default() }
    }

    fn look_up(&mut self, ram: &Ram, page: u64) -> Option<Span> {
        let domain = self.domain.as_ref()?;
        let span = domain.around(ram, page)?;
        if !domain.lasts() {
            return Some(span);
        }
        // What was known of the page before is out of date: mappings were added since.
        let at = self.spans.iter().position(|span| span.has(page)).unwrap_or(self.oldest);
        self.spans[at] = span;
        self.oldest = (self.oldest + 1) % REMEMBERED;
        Some(span)
    }
}
