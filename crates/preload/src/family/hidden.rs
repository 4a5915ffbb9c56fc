//! A fork that the program does not see: its child is none that the program's `wait` finds, and sends no SIGCHLD.
//!
//! It is libc's `fork` nevertheless, after which libc can be used in the child although there are other threads. The system call in it is the
//! kernel's to give back (Syscall User Dispatch): our handler makes it without the signal at the end.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use libc::ucontext_t;

use crate::raw::{Answer, call, raw};
use crate::signals;

// <linux/prctl.h>
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_OFF: c_int = 0;
const PR_SYS_DISPATCH_ON: c_int = 1;

/// What the flags of `clone` have for the signal at the end.
const SIGNAL_AT_END: usize = 0xff;

thread_local! {
    static FORKS: Cell<bool> = const { Cell::new(false) };
}

/// Whether calls are given back: `SYSCALL_DISPATCH_FILTER_ALLOW` or `_BLOCK`.
static GIVEN_BACK: AtomicU8 = AtomicU8::new(0);
/// What puts the handler of SIGSYS in its place.
static HANDLER: OnceLock<fn() -> bool> = OnceLock::new();

/// Says what puts the handler of SIGSYS in its place, which is to begin with [`handle`].
pub(crate) fn set_up(handler: fn() -> bool) {
    let _first = HANDLER.set(handler);
}

/// Forks: the number of the child, or 0 in the child. By one thread at a time, which counts as inside.
pub(super) fn fork() -> Answer {
    if !HANDLER.get().is_some_and(|put_in_place| put_in_place()) {
        return Err(libc::ENOSYS);
    }
    let selector = GIVEN_BACK.as_ptr();
    // What ends the handler is exempt; of the rest the byte says when it is on.
    let (exempt, length) = signals::end_of_handlers();
    // SAFETY: the handler is there, and the byte stays.
    unsafe { raw!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, exempt, length, selector) }?;
    FORKS.set(true);
    // SAFETY: it forks. What the child may do is the caller's matter.
    let child = unsafe { libc::fork() };
    give_back(false);
    FORKS.set(false);
    // SAFETY: it points to the calling thread's own errno.
    let answer = usize::try_from(child).map_err(|_| unsafe { *libc::__errno_location() });
    // SAFETY: nothing but numbers is passed. A child has it off already.
    unsafe { raw!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0) }?;
    answer
}

/// Between libc's preparations and its system call, and after that: the handlers of `fork` of this library. They are the last before it, and
/// the first after it.
pub(crate) fn give_back(begins: bool) {
    if FORKS.get() {
        GIVEN_BACK.store(u8::from(begins), Ordering::Relaxed);
    }
}

/// A call was given back: makes it if it is of this fork.
pub(crate) fn handle(context: &mut ucontext_t) -> bool {
    if !FORKS.get() {
        return false;
    }
    // Our own calls are none that are given back, nor is the end of the handler.
    GIVEN_BACK.store(0, Ordering::Relaxed);
    let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as usize;
    let number = register(libc::REG_RAX) as i64;
    let mut arguments =
        [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9]
            .map(register);
    let answer = match number {
        libc::SYS_rt_sigprocmask => signals::change_mask(arguments, context),
        libc::SYS_clone => {
            arguments[0] &= !SIGNAL_AT_END;
            // SAFETY: with memory of its own, the child returns as this process does.
            unsafe { call(number, arguments) }
        }
        // SAFETY: as libc makes it.
        _ => unsafe { call(number, arguments) },
    };
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = match answer {
        Ok(value) => value as i64,
        Err(errno) => -i64::from(errno),
    };
    // It was the last but for the child's, which are none that are given back.
    if number != libc::SYS_clone {
        GIVEN_BACK.store(1, Ordering::Relaxed);
    }
    true
}
