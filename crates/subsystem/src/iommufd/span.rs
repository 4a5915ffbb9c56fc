//! A run of pages.

use super::PAGE;

/// Pages `first` to `last` of a record, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    /// The pages that hold `length` bytes (at least one) from byte `offset` on.
    pub(super) fn of_bytes(offset: u64, length: u64) -> Self {
        let last = offset.saturating_add(length.saturating_sub(1));
        Self { first: offset / PAGE, last: last / PAGE }
    }

    /// How many pages; a span has at least one, and less than 2^64.
    pub(super) fn pages(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}
