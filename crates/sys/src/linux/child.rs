//! A child process that answers a number or an errno.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::UnshareFlags;
use uapi::Errno;

use super::{errno, from_std};
use crate::{Error, Result};

/// What comes back of a child.
pub(super) type Answer = std::result::Result<u64, Errno>;

/// What the first of the two numbers that a child sends says of the second.
mod tag {
    pub(super) const NUMBER: u64 = 0;
    pub(super) const ERRNO: u64 = 1;
    pub(super) const NOT_READY: u64 = 2;
}

/// Runs `f` in a child of this process, once the child has made itself `ready`.
///
/// A process with other threads is refused (`EBUSY`): what they hold, the child would wait for in vain.
pub(super) fn run(
    ready: impl FnOnce() -> rustix::io::Result<()>,
    f: impl FnOnce() -> Answer,
) -> Result<Answer> {
    let refused = |error: std::io::Error| Error::new("fork", "this process", errno(from_std(&error)));
    if std::fs::read_dir("/proc/self/task").map_err(refused)?.count() != 1 {
        return Err(Error::new("fork", "a process that has other threads", Errno::EBUSY));
    }
    let (mut reader, mut writer) = std::io::pipe().map_err(refused)?;
    // SAFETY: this thread is the only one, so that the child is a whole copy of the process, and no lock in it is held
    // by a thread that it does not have.
    match unsafe { libc::fork() } {
        -1 => Err(refused(std::io::Error::last_os_error())),
        0 => {
            let numbers = catch_unwind(AssertUnwindSafe(|| match ready().map(|()| f()) {
                Ok(Ok(number)) => [tag::NUMBER, number],
                Ok(Err(errno)) => [tag::ERRNO, errno.raw() as u64],
                Err(answer) => [tag::NOT_READY, errno(answer).raw() as u64],
            }));
            // A child that panicked has said so on the standard error, and tells its parent nothing.
            let _sent = numbers
                .map(|[tag, value]| writer.write_all(&[tag.to_ne_bytes(), value.to_ne_bytes()].concat()));
            // SAFETY: the process ends here; what it owns goes back to the kernel, as at any end.
            unsafe { libc::_exit(0) }
        }
        pid => {
            drop(writer);
            let mut numbers = [[0; 8]; 2];
            let received = reader.read_exact(numbers.as_flattened_mut());
            let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty());
            let [tag, value] = numbers.map(u64::from_ne_bytes);
            let answer = Errno::from_raw(value as i32).unwrap_or(Errno::EIO);
            match (received.and(ended.map_err(Into::into)), tag) {
                (Ok(_), tag::NUMBER) => Ok(Ok(value)),
                (Ok(_), tag::ERRNO) => Ok(Err(answer)),
                (Ok(_), _) => Err(Error::new("unshare", "a child process", answer)),
                (Err(_), _) => Err(Error::new("fork", "a child that ended without an answer", Errno::EIO)),
            }
        }
    }
}

/// Makes this process root of a user namespace of its own.
pub(super) fn enter_user_namespace() -> rustix::io::Result<()> {
    // SAFETY: descriptors stay shared with nobody else: a child of `run` has a table and a thread of its own.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }
}
