//! Forks that libc's handlers of `fork` are not called for.

use libc::pid_t;

use super::next::next;
use crate::bypass;
use crate::fork::{fork_and_wait, forking};
use crate::raw::{Answer, reply_int};

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
    returned(forking(|| -> Answer {
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
