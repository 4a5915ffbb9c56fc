//! A load that may raise a signal.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use uapi::Errno;

use crate::guarded;

/// Loads the number at an address: `EFAULT` where that raises SIGBUS.
pub(super) fn touch(address: *const u32) -> Result<(), Errno> {
    // The handler is one of the process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = MaybeUninit::uninit();
    // SAFETY: all zeros are an action without flags that blocks nothing.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction =
        handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler is one of this form, and sound at any time.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr()) } != 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: a fault is recovered from.
    let loaded = unsafe { guarded::load_u32(address) };
    // SAFETY: what was there before is there again.
    unsafe { libc::sigaction(libc::SIGBUS, before.as_ptr(), ptr::null_mut()) };
    loaded.map(drop).ok_or(Errno::EFAULT)
}

/// Ends the load. Any other access does again what it did, and that is the end of the process, as it would have been.
extern "C" fn handle(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the context of the thread to a handler of this form.
    let recovered = guarded::recover(unsafe { &mut *context.cast::<libc::ucontext_t>() });
    if !recovered {
        // SAFETY: the default action of a signal is always sound.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
