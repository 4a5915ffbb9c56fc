//! Handlers of signals, as far as some of them are ours.

use std::ffi::c_int;

use libc::{sigaction as Sigaction, sighandler_t, sigset_t};

use super::next::next;
use crate::inside::is_inside;
use crate::raw::{Answer, raw};
use crate::signals::{self, Action};

/// `sigaction(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const Sigaction, old: *mut Sigaction) -> c_int {
    if is_inside() || !signals::is_ours(signal) {
        // SAFETY: the program has promised that it is there, or null.
        let open = unsafe { new.as_ref() }.map(|new| {
            let mut open = *new;
            // SAFETY: the first word of a set has the signals that there are.
            unsafe { *(&raw mut open.sa_mask).cast::<u64>() &= !signals::never_blocked() };
            open
        });
        let new = open.as_ref().map_or(new, std::ptr::from_ref);
        return next!(
            c"sigaction",
            fn(c_int, *const Sigaction, *mut Sigaction) -> c_int,
            (signal, new, old),
            -1
        );
    }
    let wanted = if new.is_null() {
        None
    } else {
        // SAFETY: the program has promised that it is there.
        let new = unsafe { &*new };
        // SAFETY: the first word of a set has the signals that there are.
        let mask = unsafe { *(&raw const new.sa_mask).cast::<u64>() };
        Some(Action { handler: new.sa_sigaction, flags: new.sa_flags as u64, restorer: 0, mask })
    };
    let before = signals::program_action(signal, wanted);
    if !old.is_null() {
        // SAFETY: the program has promised that it may be written to.
        unsafe {
            (*old).sa_sigaction = before.handler;
            (*old).sa_flags = before.flags as c_int & !0x0400_0000;
            (*old).sa_restorer = None;
            libc::sigemptyset(&raw mut (*old).sa_mask);
            *(&raw mut (*old).sa_mask).cast::<u64>() = before.mask;
        }
    }
    0
}

/// `rt_sigaction(2)`, as the kernel has it.
///
/// # Safety
///
/// As for the system call.
pub(super) unsafe fn kernel_sigaction(
    signal: c_int,
    new: *const Action,
    old: *mut Action,
    size: usize,
) -> Answer {
    // SAFETY: the program has promised that it is there, or null.
    let wanted =
        unsafe { new.as_ref() }.map(|new| Action { mask: new.mask & !signals::never_blocked(), ..*new });
    if is_inside() || !signals::is_ours(signal) {
        let new = wanted.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: as the caller has promised.
        return unsafe { raw!(SYS_rt_sigaction, signal, new, old, size) };
    }
    let before = signals::program_action(signal, wanted);
    // SAFETY: the program has promised that it may be written to, if it is not null.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = before;
    }
    Ok(0)
}

/// `rt_sigprocmask(2)`, as the kernel has it.
///
/// # Safety
///
/// As for the system call.
pub(super) unsafe fn kernel_sigprocmask(how: c_int, set: *const u64, old: *mut u64, size: usize) -> Answer {
    // SAFETY: the program has promised that it is there, or null.
    let open = unsafe { set.as_ref() }
        .filter(|_| how != libc::SIG_UNBLOCK && !is_inside())
        .map(|set| set & !signals::never_blocked());
    let set = open.as_ref().map_or(set, std::ptr::from_ref);
    // SAFETY: as the caller has promised.
    unsafe { raw!(SYS_rt_sigprocmask, how, set, old, size) }
}

/// `signal(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    if is_inside() || !signals::is_ours(signal) {
        return next!(c"signal", fn(c_int, sighandler_t) -> sighandler_t, (signal, handler), libc::SIG_ERR);
    }
    let action = Action { handler, flags: libc::SA_RESTART as u64, restorer: 0, mask: 0 };
    signals::program_action(signal, Some(action)).handler
}

/// The set without the signals that have to come through.
fn without_ours(how: c_int, set: *const sigset_t) -> Option<sigset_t> {
    if set.is_null() || how == libc::SIG_UNBLOCK || is_inside() || signals::never_blocked() == 0 {
        return None;
    }
    // SAFETY: the program has promised that it is there.
    let mut open = unsafe { *set };
    // SAFETY: the first word of a set has the signals that there are.
    unsafe { *(&raw mut open).cast::<u64>() &= !signals::never_blocked() };
    Some(open)
}

macro_rules! masks {
    ($($(#[$doc:meta])* $name:ident, $next:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
            let open = without_ours(how, set);
            let set = open.as_ref().map_or(set, std::ptr::from_ref);
            next!($next, fn(c_int, *const sigset_t, *mut sigset_t) -> c_int, (how, set, old), libc::ENOSYS)
        }
    )*};
}

masks! {
    /// `sigprocmask(2)`
    sigprocmask, c"sigprocmask";
    /// `pthread_sigmask(3)`
    pthread_sigmask, c"pthread_sigmask";
}
