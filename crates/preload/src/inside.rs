//! Whether a thread is at work inside the library: what it calls then is for the host. And how all of them are kept out while the
//! process forks.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::deferred;
use crate::raw::CancelType;

thread_local! {
    // Without a destructor it is a plain thread-local variable, in signal handlers too.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// How many threads are inside.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Whether no thread is to come inside, because one forks.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// How often a fork looks whether all are out before it lets others in again: one that is inside may wait for what another does (a device
/// that is unbound, for who closes it).
const LOOKS: u32 = 1000;
/// How often it does so. Who is inside after that sleeps in a call, which it does without any lock.
const ROUNDS: u32 = 1000;

/// The work of a thread inside the library, until it is dropped.
pub(crate) struct Inside {
    /// How the thread is cancelled outside.
    cancelled: CancelType,
}

impl Inside {
    /// Goes inside; `None` if the thread is inside already.
    pub(crate) fn enter() -> Option<Self> {
        if is_inside() {
            return None;
        }
        // First of all: a thread that is cancelled at any time is not so once it counts, or has locks in its hands.
        let cancelled = CancelType::Deferred.set();
        COUNT.fetch_add(1, Ordering::SeqCst);
        while CLOSED.load(Ordering::SeqCst) {
            COUNT.fetch_sub(1, Ordering::SeqCst);
            while CLOSED.load(Ordering::SeqCst) {
                rustix::thread::sched_yield();
            }
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
        INSIDE.set(true);
        Some(Inside { cancelled })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
        COUNT.fetch_sub(1, Ordering::SeqCst);
        deferred::release();
        if let CancelType::Asynchronous = self.cancelled {
            self.cancelled.set();
        }
    }
}

/// Does work in which the thread is not cancelled at any time, but where it waits. That is for whatever has something to drop: at an
/// instruction that is no call, nothing unwinds a frame that has. So neither the work nor its answer may.
#[inline]
pub(crate) fn shielded<R: Copy>(work: impl FnOnce() -> R + Copy) -> R {
    #[inline(never)]
    fn out_of_line<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    let before = CancelType::Deferred.set();
    let answer = out_of_line(work);
    before.set();
    answer
}

/// Whether the calling thread is inside.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Waits until all other threads are out, and keeps them out until [`let_in`]. The calling thread counts as inside meanwhile.
pub(crate) fn keep_out() {
    for round in 0..=ROUNDS {
        while CLOSED.swap(true, Ordering::SeqCst) {
            rustix::thread::sched_yield();
        }
        for _ in 0..LOOKS {
            if COUNT.load(Ordering::SeqCst) == 0 {
                INSIDE.set(true);
                return;
            }
            rustix::thread::sched_yield();
        }
        if round < ROUNDS {
            CLOSED.store(false, Ordering::SeqCst);
            rustix::thread::sched_yield();
        }
    }
    INSIDE.set(true);
}

/// Ends what [`keep_out`] began.
pub(crate) fn let_in() {
    INSIDE.set(false);
    CLOSED.store(false, Ordering::SeqCst);
    deferred::release();
}

/// As [`let_in`], in the child, in which no other thread is inside.
pub(crate) fn let_in_child() {
    COUNT.store(0, Ordering::SeqCst);
    INSIDE.set(false);
    CLOSED.store(false, Ordering::SeqCst);
    deferred::forget();
}
