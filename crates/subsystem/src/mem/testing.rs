//! Hosts for the tests of the containers.

use core::cell::Cell;

use crate::Alloc;

/// Permits everything.
pub(super) struct Always;

impl Alloc for Always {
    fn permit(&self) -> bool {
        true
    }
}

/// Permits so many allocations.
pub(super) struct Budget(pub(super) Cell<usize>);

impl Budget {
    pub(super) fn new(allocations: usize) -> Self {
        Self(Cell::new(allocations))
    }
}

impl Alloc for Budget {
    fn permit(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}
