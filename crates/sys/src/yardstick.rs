//! What programs under `ioasis run` are measured with: ioctls made by libc, as most programs make them, and a signal alone.

use std::ffi::{c_int, c_ulong, c_void};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::null_mut;

use libc::{siginfo_t, ucontext_t};
use uapi::SelfContained;

use crate::guarded;

/// A command that no file knows.
const UNKNOWN: c_ulong = 0x5aff;

/// `PR_SET_SYSCALL_USER_DISPATCH`, <linux/prctl.h>
const SET_SYSCALL_USER_DISPATCH: c_int = 59;

/// From now on this thread is as one of a program that makes no system calls by itself, which `ioasis run` does not catch then.
pub fn call_by_libc_alone() {
    // SAFETY: only where system calls of the program's own go is changed. Without such a thing this is refused.
    unsafe { libc::prctl(SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) };
}

/// Makes an ioctl of VFIO or IOMMUFD; whether it was done.
pub fn ioctl<T: SelfContained>(file: impl AsFd, argument: &mut T) -> bool {
    assert!(argument.stated_size() <= size_of::<T>(), "{} states more than it has", T::NAME);
    // SAFETY: `SelfContained` promises that the call touches nothing but the size that the argument states, which it has.
    unsafe { libc::ioctl(file.as_fd().as_raw_fd(), T::OPCODE.into(), std::ptr::from_mut(argument)) == 0 }
}

/// Makes one that the file refuses since it does not know it.
pub fn unknown_ioctl(file: impl AsFd) {
    // SAFETY: the number is nobody's, and there is no argument.
    unsafe { libc::ioctl(file.as_fd().as_raw_fd(), UNKNOWN, null_mut::<c_void>()) };
}

/// A page that nobody may read, and a handler that does no more than to go on behind the load.
#[derive(Debug)]
pub struct Fault(*const u32);

impl Fault {
    /// Maps the page, and handles SIGSEGV in this process.
    pub fn new() -> io::Result<Self> {
        // SAFETY: new memory.
        let page = unsafe {
            libc::mmap(null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: an action may be all zero; the handler takes three arguments.
        let set = unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = go_on as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &raw const action, null_mut())
        };
        if set == 0 { Ok(Fault(page.cast())) } else { Err(io::Error::last_os_error()) }
    }

    /// Loads from the page: one signal.
    pub fn load(&self) {
        // SAFETY: the handler recovers.
        let loaded = unsafe { guarded::load_u32(self.0) };
        assert_eq!(loaded, None, "a page without access was read");
    }
}

extern "C" fn go_on(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a context that is the handler's until it returns.
    if !guarded::recover(unsafe { &mut *context.cast::<ucontext_t>() }) {
        // A fault of somebody else's, which comes again and ends the process.
        // SAFETY: the default action has no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
