//! Forks that libc's handlers of `fork` are not called for, and ends that those of `exit` are not.

use std::ffi::c_int;

use libc::pid_t;

use super::next::next;
use crate::fork::{fork_and_wait, forking};
use crate::raw::{Answer, raw, reply_int};
use crate::{bypass, family};

/// The child has its own calls caught, as after `fork`.
fn returned(answer: Answer) -> pid_t {
    if answer == Ok(0) {
        bypass::after_fork();
    }
    reply_int(answer)
}

/// `_Fork(3)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _Fork() -> pid_t {
    returned(forking(0, || -> Answer {
        let child = next!(c"_Fork", fn() -> pid_t, (), -1);
        // SAFETY: it points to the calling thread's own errno.
        usize::try_from(child).map_err(|_| unsafe { *libc::__errno_location() })
    }))
}

/// `vfork(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn vfork() -> pid_t {
    returned(fork_and_wait())
}

/// `vfork(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __vfork() -> pid_t {
    vfork()
}

/// `_exit(2)`
#[unsafe(no_mangle)]
pub extern "C" fn _exit(status: c_int) -> ! {
    family::leave();
    loop {
        // SAFETY: the process ends.
        let _ended: Answer = unsafe { raw!(SYS_exit_group, status) };
    }
}

/// `_Exit(3)`
#[unsafe(no_mangle)]
pub extern "C" fn _Exit(status: c_int) -> ! {
    _exit(status)
}
