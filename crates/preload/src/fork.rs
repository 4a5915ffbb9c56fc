//! Forking: no thread is inside the library or the machine meanwhile, so that no lock stays held in the child, which has none of them.
//!
//! The devices' threads end before, and start again: the parent's at once, the child's with its first call on the machine. A child
//! that only starts a program does without.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::family::{self, give_back};
use crate::inside::{is_inside, keep_out, let_in, let_in_child};
use crate::raw::{Answer, raw};
use crate::report::Kind;
use crate::signals::with_faults_let_in;
use crate::state::{self, State};

/// Whether this process is a child that has not used its machine yet.
static FRESH: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread forks in a handler of a signal that came while it was inside. It holds what it holds.
    static NESTED: Cell<bool> = const { Cell::new(false) };
}

/// Has every `fork` of libc call the three functions below.
pub(crate) fn set_up() {
    // SAFETY: the functions are there as long as the process.
    let refused = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    if refused != 0
        && let Some(settings) = state::settings()
    {
        settings
            .report
            .tell(Kind::Trouble, "a child after fork cannot be helped: no memory for its handlers");
    }
}

extern "C" fn before() {
    if is_inside() {
        NESTED.set(true);
        give_back(true);
        return;
    }
    keep_out();
    if let Some(state) = state::existing().filter(|_| family::has_machine()) {
        state.machine.stop_threads();
        family::before_fork(state);
    }
}

extern "C" fn in_parent() {
    give_back(false);
    if NESTED.take() {
        return;
    }
    // A child's child leaves its parent as it is.
    if let Some(state) = state::existing().filter(|_| family::has_machine() && !FRESH.load(Ordering::Relaxed))
    {
        start_threads(state);
        family::in_parent(state);
    }
    let_in();
}

extern "C" fn in_child() {
    child_begins(false);
}

/// In the child, which may share its descriptors with its parent.
fn child_begins(shares_files: bool) {
    give_back(false);
    if NESTED.take() {
        return;
    }
    if let Some(state) = state::existing() {
        state.traps.forget_others();
        let has_family = family::in_child(shares_files);
        FRESH.store(!has_family, Ordering::Relaxed);
    }
    let_in_child();
}

/// After a call on the machine. The child's first one has its devices work again.
pub(crate) fn called() {
    if FRESH.load(Ordering::Relaxed)
        && FRESH.swap(false, Ordering::Relaxed)
        && let Some(state) = state::existing()
    {
        start_threads(state);
        state.used_by_child();
    }
}

pub(crate) fn start_threads(state: &State) {
    if let Err(error) = with_faults_let_in(|| state.machine.start_threads()) {
        state.settings.report.tell(Kind::Trouble, error);
    }
}

/// Makes a call that forks without libc's handlers, with these flags of `clone`.
pub(crate) fn forking(flags: usize, fork: impl FnOnce() -> Answer) -> Answer {
    before();
    let answer = fork();
    if answer == Ok(0) {
        child_begins(flags & libc::CLONE_FILES as usize != 0)
    } else {
        in_parent()
    }
    answer
}

/// Forks; the parent waits until the child has ended or started a program. It has memory of its own: what this library knows of descriptors is
/// not to change for both when the child closes its own.
pub(crate) fn fork_and_wait() -> Answer {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD as c_int;
    // SAFETY: the child gets copies of all that this thread has.
    forking(flags as usize, || unsafe { raw!(SYS_clone, flags, 0, 0, 0, 0) })
}
