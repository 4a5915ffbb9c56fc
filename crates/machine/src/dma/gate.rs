//! Waiting for accesses that are under way, and only for those.
//!
//! Whoever accesses memory says which epoch it is in while it does; whoever takes memory away begins a new epoch, and waits
//! until the other is outside, or inside in the new epoch, where it looks everything up again.
#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::thread;

/// What the accesses of a port go through, one at a time.
#[derive(Debug)]
pub(super) struct Gate {
    /// Counts the times that something was taken away, from 1.
    epoch: AtomicU64,
    /// The epoch of the access that is under way, 0 if there is none.
    inside: AtomicU64,
}

/// An access is under way.
pub(super) struct Inside<'a> {
    gate: &'a Gate,
    epoch: u64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Gate { epoch: AtomicU64::new(1), inside: AtomicU64::new(0) }
    }

    /// The epoch that an access would be in now.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins a new epoch, and returns when no access of an older one is under way. Called without locks that an access
    /// takes.
    pub(super) fn quiesce(&self) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        // Pairs with the fence in `enter`: either the access sees the new epoch, or it is seen here.
        fence(Ordering::SeqCst);
        while (1..epoch).contains(&self.inside.load(Ordering::Acquire)) {
            thread::yield_now();
        }
    }

    /// Begins an access; by one thread at a time.
    #[inline]
    pub(super) fn enter(&self) -> Inside<'_> {
        let mut epoch = self.epoch.load(Ordering::Relaxed);
        loop {
            // Released, as its end is: whoever sees this access may take it that those before it are over.
            self.inside.store(epoch, Ordering::Release);
            fence(Ordering::SeqCst);
            let now = self.epoch();
            if now == epoch {
                return Inside { gate: self, epoch };
            }
            epoch = now;
        }
    }
}

impl Inside<'_> {
    /// What was looked up in this epoch holds as long as the epoch does.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.gate.inside.store(0, Ordering::Release);
    }
}
