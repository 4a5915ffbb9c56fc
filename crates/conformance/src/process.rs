//! A second process.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::outcome::Way;

/// A child of this process: a copy of it, as `fork(2)` makes it, that does nothing. It is ended on drop.
pub(crate) struct Child(Option<Pid>);

impl Child {
    /// With memory of its own, and with descriptors of its own if this thread is the only one.
    ///
    /// Beside other threads the child shares their descriptors. A copy would keep open what they close meanwhile, and so keep
    /// groups and devices in use that they believe to be free. The child cannot help it: it gets to close its copies only
    /// when it runs for the first time, and `CLOSE_RANGE_UNSHARE` copies the first 64 descriptors before it closes them.
    pub(crate) fn new() -> Way<Child> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        let flags = libc::SIGCHLD | if threads == 1 { 0 } else { libc::CLONE_FILES };
        // SAFETY: without CLONE_VM it is `fork`; the child does nothing but wait, which is allowed whatever other threads of the
        // process held.
        match unsafe {
            libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0_usize, 0_usize, 0_usize, 0_usize)
        } {
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

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pipe::pipe;

    use super::Child;

    /// Tests run on threads of their own, so there is always another one.
    #[test]
    fn beside_other_threads_a_child_keeps_nothing_open() -> Result<(), Box<dyn std::error::Error>> {
        let (reader, writer) = pipe()?;
        let child = Child::new().map_err(|stop| format!("{stop:?}"))?;
        drop(writer);
        let mut polled = [PollFd::new(&reader, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        assert_eq!(polled[0].revents(), PollFlags::HUP);
        drop(child);
        Ok(())
    }
}
