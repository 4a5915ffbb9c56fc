//! Handlers of signals that the program has set, kept out of calls on the machine.
//!
//! A handler may do what it likes: call the machine, or leave by `siglongjmp`. In the middle of a call it would find locks taken, and leave them
//! so. What stands before each is [`deliver`]: while the thread is inside the library, the signal is kept, the others are blocked, and it is
//! sent again when the thread comes out.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use libc::{SA_SIGINFO, SIG_DFL, SIG_IGN, siginfo_t, ucontext_t};

use crate::inside::is_inside;
use crate::raw::raw;
use crate::signals::{self, Action};

/// The number of the last signal.
const LAST: usize = 64;
/// What an instruction raises. It would raise it again.
const RAISED: [c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The program's handlers, by signal.
static HANDLERS: [AtomicUsize; LAST + 1] = [const { AtomicUsize::new(0) }; LAST + 1];
/// Those that are told the signal's number alone.
static PLAIN: AtomicU64 = AtomicU64::new(0);

/// A signal that came for a thread inside.
#[derive(Clone, Copy)]
struct Kept {
    signal: c_int,
    info: siginfo_t,
    /// What the thread blocked.
    mask: u64,
}

thread_local! {
    // Without a destructor it is a plain thread-local variable, in signal handlers too.
    static KEPT: Cell<Option<Kept>> = const { Cell::new(None) };
}

/// What the kernel is to be told where the program sets an action: [`deliver`] for a handler.
pub(crate) fn instead_of(signal: c_int, action: Action) -> Action {
    let Some(slot) = slot(signal).filter(|_| ![SIG_DFL, SIG_IGN].contains(&action.handler)) else {
        return action;
    };
    slot.store(action.handler, Ordering::Relaxed);
    let set = signals::set_of(&[signal]);
    if action.flags & SA_SIGINFO as u64 == 0 {
        PLAIN.fetch_or(set, Ordering::Relaxed);
    } else {
        PLAIN.fetch_and(!set, Ordering::Relaxed);
    }
    Action { handler: deliver as *const () as usize, flags: action.flags | SA_SIGINFO as u64, ..action }
}

/// What the program has set where the kernel says this.
pub(crate) fn behind(signal: c_int, action: Action) -> Action {
    match slot(signal) {
        Some(slot) if action.handler == deliver as *const () as usize => {
            let plain = PLAIN.load(Ordering::Relaxed) & signals::set_of(&[signal]) != 0;
            let flags = if plain { action.flags & !(SA_SIGINFO as u64) } else { action.flags };
            Action { handler: slot.load(Ordering::Relaxed), flags, ..action }
        }
        _ => action,
    }
}

fn slot(signal: c_int) -> Option<&'static AtomicUsize> {
    HANDLERS.get(usize::try_from(signal).ok()?).filter(|_| signal > 0)
}

/// Stands before the handlers of the program.
// The program's may end by unwinding: `pthread_exit`, an exception of C++.
unsafe extern "C-unwind" fn deliver(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if is_inside() {
        // SAFETY: the kernel passes both to a handler of this form.
        return unsafe { keep(signal, &*info, &mut *context.cast::<ucontext_t>()) };
    }
    let Some(slot) = slot(signal) else { return };
    // SAFETY: the program has set it as a handler; one that takes the number alone does not look at the others.
    let handler = unsafe {
        transmute::<usize, unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void)>(
            slot.load(Ordering::Relaxed),
        )
    };
    // SAFETY: as above.
    unsafe { handler(signal, info, context) };
}

/// Keeps a signal until the thread comes out of the library.
fn keep(signal: c_int, info: &siginfo_t, context: &mut ucontext_t) {
    // Sent ones have a code of 0 or less.
    if RAISED.contains(&signal) && info.si_code > 0 {
        signals::die(signal);
        return;
    }
    // SAFETY: the first word of a set has the signals that there are.
    let mask = unsafe { &mut *(&raw mut context.uc_sigmask).cast::<u64>() };
    KEPT.set(Some(Kept { signal, info: *info, mask: *mask }));
    *mask = !signals::set_of(&RAISED);
}

/// The thread has come out of the library: what was kept is sent again.
pub(crate) fn release() {
    let Some(Kept { signal, info, mask }) = KEPT.take() else { return };
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    // SAFETY: it is alive; the kernel looks at it during the call.
    let _sent = unsafe { raw!(SYS_rt_tgsigqueueinfo, process, thread, signal, &raw const info) };
    block(mask);
}

/// The child after a fork has come out: signals that wait are its parent's.
pub(crate) fn forget() {
    if let Some(Kept { mask, .. }) = KEPT.take() {
        block(mask);
    }
}

fn block(mask: u64) {
    // SAFETY: a set of the size that the kernel has.
    let _blocked =
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0_usize, size_of::<u64>()) };
}
