//! Handlers of signals, as far as some of them are ours.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libc::{sigaction as Sigaction, sighandler_t, sigset_t};

use super::next::next;
use crate::deferred;
use crate::inside::is_inside;
use crate::raw::{Answer, raw};
use crate::signals::{self, Action, SA_RESTORER};

/// An action as libc has it, as the kernel has it.
fn as_kernel(action: &Sigaction) -> Action {
    Action {
        handler: action.sa_sigaction,
        flags: action.sa_flags as u64,
        restorer: action.sa_restorer.map_or(0, |restorer| restorer as usize),
        // SAFETY: the first word of a set has the signals that there are.
        mask: unsafe { *(&raw const action.sa_mask).cast::<u64>() },
    }
}

/// As libc has it, in place of another one.
fn put(action: Action, into: &mut Sigaction) {
    into.sa_sigaction = action.handler;
    into.sa_flags = action.flags as c_int;
    // SAFETY: as above.
    unsafe { *(&raw mut into.sa_mask).cast::<u64>() = action.mask };
}

/// What the kernel is to be told where the program sets an action. None of ours may be blocked in a handler.
fn for_kernel(signal: c_int, wanted: Action) -> Action {
    deferred::instead_of(signal, Action { mask: wanted.mask & !signals::never_blocked(), ..wanted })
}

/// `sigaction(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sigaction(
    signal: c_int,
    new: *const Sigaction,
    old: *mut Sigaction,
) -> c_int {
    // SAFETY: the program has promised that they are there, or null.
    let (wanted, old) = unsafe { (new.as_ref(), old.as_mut()) };
    if !is_inside() && signals::is_ours(signal) {
        let before = signals::program_action(signal, wanted.map(as_kernel));
        if let Some(old) = old {
            // SAFETY: zeros are an action: the default one.
            *old = unsafe { std::mem::zeroed() };
            put(Action { flags: before.flags & !SA_RESTORER, ..before }, old);
        }
        return 0;
    }
    let told = wanted.filter(|_| !is_inside()).map(|wanted| {
        let mut told = *wanted;
        put(for_kernel(signal, as_kernel(wanted)), &mut told);
        told
    });
    let new = told.as_ref().map_or(new, std::ptr::from_ref);
    let mut before = MaybeUninit::<Sigaction>::zeroed();
    let answer = next!(
        c"sigaction",
        fn(c_int, *const Sigaction, *mut Sigaction) -> c_int,
        (signal, new, before.as_mut_ptr()),
        -1
    );
    if let Some(old) = old.filter(|_| answer == 0) {
        // SAFETY: libc has written it.
        *old = unsafe { before.assume_init() };
        put(deferred::behind(signal, as_kernel(old)), old);
    }
    answer
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
    // SAFETY: the program has promised that they are there, or null.
    let (wanted, old) = unsafe { (new.as_ref(), old.as_mut()) };
    let mut before = Action::DEFAULT;
    if !is_inside() && signals::is_ours(signal) {
        before = signals::program_action(signal, wanted.copied());
    } else {
        let told = wanted.map(|wanted| if is_inside() { *wanted } else { for_kernel(signal, *wanted) });
        let new = told.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: both are there, or null.
        unsafe { raw!(SYS_rt_sigaction, signal, new, &raw mut before, size) }?;
        before = deferred::behind(signal, before);
    }
    if let Some(old) = old {
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
pub unsafe extern "C-unwind" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    if is_inside() || !signals::is_ours(signal) {
        let before =
            next!(c"signal", fn(c_int, sighandler_t) -> sighandler_t, (signal, handler), libc::SIG_ERR);
        if before == libc::SIG_ERR || is_inside() {
            return before;
        }
        let before = deferred::behind(signal, Action { handler: before, ..Action::DEFAULT }).handler;
        // What libc has made of it goes behind ours. SAFETY: zeros are an action, and both calls get one.
        unsafe {
            let mut now: Sigaction = std::mem::zeroed();
            sigaction(signal, std::ptr::null(), &raw mut now);
            sigaction(signal, &raw const now, std::ptr::null_mut());
        }
        return before;
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
        pub unsafe extern "C-unwind" fn $name(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
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
