//! A second process.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::outcome::Way;

/// A child of this process: a copy of it, as `fork(2)` makes it, that does nothing. It is ended on drop.
pub(crate) struct Child(Option<Pid>);

impl Child {
    pub(crate) fn new() -> Way<Child> {
        // SAFETY: the child does nothing but wait, which is allowed whatever other threads of the process held.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => loop {
                // SAFETY: it touches no memory.
                unsafe { libc::pause() };
            },
            pid => Ok(Child(Pid::from_raw(pid))),
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
