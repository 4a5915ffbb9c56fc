//! A second process.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::outcome::Way;

/// A child of this process: a copy of it, as `fork(2)` makes it, that does nothing. It is ended on drop.
pub(crate) struct Child(Option<Pid>);

impl Child {
    /// With descriptors of its own. Whatever this process closes meanwhile stays open in the child, in other threads too: it is
    /// not to be kept for long.
    pub(crate) fn new() -> Way<Child> {
        Child::made_with(0)
    }

    /// With memory of its own, and the descriptors of this process.
    pub(crate) fn sharing_descriptors() -> Way<Child> {
        Child::made_with(libc::CLONE_FILES)
    }

    fn made_with(flags: libc::c_int) -> Way<Child> {
        let flags = libc::c_long::from(flags | libc::SIGCHLD);
        // SAFETY: without CLONE_VM it is `fork`; the child does nothing but wait, which is allowed whatever other threads of the
        // process held.
        match unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => loop {
                // SAFETY: it touches no memory.
                unsafe { libc::pause() };
            },
            pid => Ok(Child(i32::try_from(pid).ok().and_then(Pid::from_raw))),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Neither fails while the child is there, and it is until it is waited for.
        let _ended = self.0.map(|pid| {
            kill_process(pid, Signal::KILL).and_then(|()| waitpid(Some(pid), WaitOptions::empty()))
        });
    }
}
