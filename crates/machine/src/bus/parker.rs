//! A thread that sleeps when it has nothing to do, and those who give it something to do.
//!
//! Both sides write first and look then: the one says that it sleeps and looks for work once more, the others leave work and
//! look whether it sleeps. So one of them at least sees what the other wrote.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::thread::{self, Thread};

/// Where one thread sleeps.
#[derive(Debug, Default)]
pub(super) struct Parker {
    asleep: AtomicBool,
    over: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Parker {
    /// Another thread is to sleep here, after one that has ended.
    pub(super) fn renew(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.over.store(false, Ordering::SeqCst);
    }

    /// The calling thread is the one that sleeps here.
    pub(super) fn begin(&self) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
    }

    /// Sleeps until it is woken, unless `look` finds work.
    pub(super) fn park(&self, look: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        // Pairs with the fence in `wake_if_asleep`.
        fence(Ordering::SeqCst);
        if look() {
            self.asleep.store(false, Ordering::SeqCst);
            return;
        }
        while self.asleep.load(Ordering::SeqCst) && !self.is_over() {
            thread::park();
        }
    }

    /// Wakes the thread if it sleeps. Called when there is work.
    #[inline]
    pub(super) fn wake_if_asleep(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Wakes the thread. One that is awake already sleeps a little less deep next time.
    #[cold]
    fn wake(&self) {
        self.asleep.store(false, Ordering::Release);
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    /// The thread is to sleep no more. Whoever calls this unparks it, too: it may not have begun.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}
