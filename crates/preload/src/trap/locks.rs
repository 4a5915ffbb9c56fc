//! What makes a locked instruction one access for other threads.
//!
//! On hardware the processor keeps the bus meanwhile. Here a locked instruction keeps the page that it reads and writes, and
//! each write to a trapped page has to get that page first.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::PAGE;

const LOCKS: usize = 64;

/// Locks by page; pages may share one. Who holds one is in a trap and never waits for another.
#[derive(Debug)]
pub(super) struct Locks([AtomicBool; LOCKS]);

impl Locks {
    pub(super) fn new() -> Self {
        Locks([const { AtomicBool::new(false) }; LOCKS])
    }

    /// Keeps the page with this address, as soon as nobody else does.
    pub(super) fn keep(&self, address: u64) -> Kept<'_> {
        let lock = &self.0[(address / PAGE) as usize % LOCKS];
        while lock.swap(true, Ordering::Acquire) {
            rustix::thread::sched_yield();
        }
        Kept(lock)
    }

    /// Nobody keeps anything: in the child after a fork, in which other threads are not.
    pub(super) fn forget(&self) {
        self.0.iter().for_each(|lock| lock.store(false, Ordering::Relaxed));
    }
}

/// A page that is kept until this is dropped.
pub(super) struct Kept<'a>(&'a AtomicBool);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
