//! What devices have to say to drivers, until no lock is held.
#![forbid(unsafe_code)]

use std::sync::PoisonError;

use subsystem::Function;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Functions whose line has risen and whose driver has not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Whether there are some.
    some: AtomicBool,
    risen: Mutex<Vec<Function>>,
}

impl Outbox {
    pub(super) fn post(&self, function: Function) {
        let mut risen = self.risen.lock().unwrap_or_else(PoisonError::into_inner);
        if !risen.contains(&function) {
            risen.push(function);
        }
        self.some.store(true, Ordering::Release);
    }

    /// Whether something is waiting.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.some.load(Ordering::Acquire)
    }

    /// Takes what is waiting. Cheap when nothing is.
    #[inline]
    pub(crate) fn take(&self) -> Vec<Function> {
        if !self.waits() {
            return Vec::new();
        }
        let mut risen = self.risen.lock().unwrap_or_else(PoisonError::into_inner);
        self.some.store(false, Ordering::Release);
        std::mem::take(&mut risen)
    }
}
