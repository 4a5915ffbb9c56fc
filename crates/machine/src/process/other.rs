//! Another process that makes calls on the machine, or whose memory devices reach. The kernel is asked for everything: it refuses what is
//! not there any more.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use subsystem::UserMemory;
use uapi::Errno;

use super::{errno, vectors};
use crate::kept::Kept;

/// A process by its number, held so that another one with this number is not taken for it.
#[derive(Debug)]
pub(crate) struct OtherProcess {
    pid: Pid,
    handle: Kept<OwnedFd>,
}

impl OtherProcess {
    pub(crate) fn open(pid: Pid) -> rustix::io::Result<Self> {
        Ok(OtherProcess { pid, handle: Kept::new(pidfd_open(pid, PidfdFlags::empty())?) })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&*self.handle, PollFlags::IN)], Some(&now)) != Ok(0)
    }

    /// A descriptor of what is open there under a number. EBADF if nothing is.
    pub(crate) fn duplicate(&self, number: i32) -> Result<OwnedFd, Errno> {
        pidfd_getfd(&*self.handle, number, PidfdGetfdFlags::empty()).map_err(errno)
    }

    /// Whether all its pages of `step` bytes in a range are there, to be read. They are brought in if need be.
    pub(crate) fn touch(&self, range: &Range<u64>, step: u64) -> bool {
        // What one call takes.
        const PAGES: usize = 1024;
        let mut addresses = range.clone().step_by(step as usize).peekable();
        while addresses.peek().is_some() && !self.is_over() {
            let mut bytes = [0; PAGES];
            let remote: Vec<_> = addresses
                .by_ref()
                .take(PAGES)
                .map(|address| vectors(address, ptr::null_mut(), 1).1)
                .collect();
            let local = vectors(0, bytes.as_mut_ptr(), remote.len()).0;
            let (pid, count) = (self.pid.as_raw_nonzero().get(), remote.len() as libc::c_ulong);
            // SAFETY: the local buffer has a byte for each page, and the other process's memory is only read.
            let touched = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), count, 0) };
            if usize::try_from(touched) != Ok(remote.len()) {
                return false;
            }
        }
        addresses.peek().is_none()
    }

    /// `RLIMIT_MEMLOCK` in bytes, `None` for no limit. Of one that has ended it is none.
    pub(crate) fn memlock(&self) -> Option<u64> {
        let limits = io::read_to_string(self.proc_file(format_args!("limits")).ok()?).ok()?;
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        soft.split_whitespace().next()?.parse().ok()
    }

    /// A file about it in `/proc`.
    pub(crate) fn proc_file(&self, name: fmt::Arguments<'_>) -> io::Result<File> {
        let file = File::open(format!("/proc/{}/{name}", self.pid))?;
        if self.is_over() { Err(io::ErrorKind::NotFound.into()) } else { Ok(file) }
    }
}

impl UserMemory for OtherProcess {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::EFAULT);
        }
        let (local, remote) = vectors(address, bytes.as_mut_ptr(), bytes.len());
        // SAFETY: the local buffer is a live, exclusive slice; the other process's memory is only read.
        let count =
            unsafe { libc::process_vm_readv(self.pid.as_raw_nonzero().get(), &local, 1, &remote, 1, 0) };
        if usize::try_from(count) == Ok(bytes.len()) { Ok(()) } else { Err(Errno::EFAULT) }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::EFAULT);
        }
        let (local, remote) = vectors(address, bytes.as_ptr().cast_mut(), bytes.len());
        // SAFETY: the local buffer is only read, and nothing of this process is at the remote address.
        let count =
            unsafe { libc::process_vm_writev(self.pid.as_raw_nonzero().get(), &local, 1, &remote, 1, 0) };
        if usize::try_from(count) == Ok(bytes.len()) { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// A thread of another process, as the kernel's log names it: `comm:pid`.
pub(crate) struct OtherThread<'a>(pub(crate) &'a OtherProcess, pub(crate) i32);

impl fmt::Display for OtherThread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OtherThread(process, thread) = self;
        let comm = process.proc_file(format_args!("task/{thread}/comm"));
        let name = comm.and_then(io::read_to_string).unwrap_or_default();
        write!(f, "{}:{thread}", name.trim_end())
    }
}
