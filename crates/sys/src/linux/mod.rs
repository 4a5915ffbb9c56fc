//! The kernel of the host. `unsafe` is in `ioctl` and `memory`, and in the calls of them here.

mod child;
mod ioctl;
mod memory;
mod suite;
mod touch;

pub use suite::LinuxHandle;

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use uapi::{Command, Errno, SelfContained};

use crate::{
    Access, Error, FileKind, Mapping, Memory, MemoryOptions, Mmio, Readiness, Result, Stat, Sys, Tailed,
};

/// The kernel of the host, spoken to with plain system calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// A file of the host's kernel.
#[derive(Debug)]
pub struct LinuxFile {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for LinuxFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl LinuxFile {
    fn refused(&self, call: &'static str, errno: rustix::io::Errno) -> Error {
        refused(call, &self.path, errno)
    }
}

/// The kernel's error number as ours.
fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error()).unwrap_or(Errno::EIO)
}

/// What is open under a descriptor, as `/proc` tells it.
fn describe(fd: BorrowedFd<'_>) -> String {
    let number = fd.as_raw_fd();
    match std::fs::read_link(format!("/proc/self/fd/{number}")) {
        Ok(file) => format!("{} (descriptor {number})", file.display()),
        Err(_) => format!("descriptor {number}"),
    }
}

fn refused(call: &'static str, path: &Path, answer: rustix::io::Errno) -> Error {
    Error::new(call, path.display(), errno(answer))
}

impl Sys for Linux {
    type File = LinuxFile;

    fn name(&self) -> String {
        format!("Linux {}", rustix::system::uname().release().to_string_lossy())
    }

    fn open(&self, path: &Path, access: Access) -> Result<LinuxFile> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let fd = rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| refused("open", path, errno))?;
        Ok(LinuxFile { fd, path: path.to_path_buf() })
    }

    fn path_of(&self, file: &LinuxFile) -> PathBuf {
        file.path.clone()
    }

    fn try_clone(&self, file: &LinuxFile) -> Result<LinuxFile> {
        let fd = rustix::io::fcntl_dupfd_cloexec(file, 0).map_err(|errno| file.refused("fcntl", errno))?;
        Ok(LinuxFile { fd, path: file.path.clone() })
    }

    fn adopt(&self, fd: OwnedFd, path: &Path) -> Result<LinuxFile> {
        Ok(LinuxFile { fd, path: path.to_path_buf() })
    }

    fn stat(&self, path: &Path) -> Result<Stat> {
        let stat = rustix::fs::lstat(path).map_err(|errno| refused("lstat", path, errno))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Link,
            FileType::CharacterDevice => FileKind::CharDevice {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            _ => FileKind::Other,
        };
        let size = if kind == FileKind::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        Ok(Stat { kind, mode: stat.st_mode & 0o7777, size })
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf> {
        std::fs::read_link(path).map_err(|error| refused("readlink", path, from_std(&error)))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<String>> {
        let refused = |error: std::io::Error| refused("readdir", path, from_std(&error));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(refused)? {
            names.push(entry.map_err(refused)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn pread(&self, file: &LinuxFile, bytes: &mut [u8], offset: u64) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *bytes, offset))
            .map_err(|errno| file.refused("pread", errno))
    }

    fn pwrite(&self, file: &LinuxFile, bytes: &[u8], offset: u64) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))
            .map_err(|errno| file.refused("pwrite", errno))
    }

    fn poll(&self, file: &LinuxFile) -> Result<Readiness> {
        let mut polled = [PollFd::new(file, PollFlags::IN | PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&now)))
            .map_err(|errno| file.refused("poll", errno))?;
        Ok(Readiness::from_bits_truncate(polled[0].revents().bits()))
    }

    fn ioctl_tailed<T: SelfContained>(&self, file: &LinuxFile, argument: &mut Tailed<T>) -> Result<u32> {
        argument.check(file.path.display())?;
        let start = argument.bytes_mut().as_mut_ptr().cast();
        // SAFETY: `SelfContained` promises that the call touches nothing but the size that the argument states, and
        // `check` has shown that it has as much.
        unsafe { ioctl::call(file.as_fd(), T::OPCODE, start) }.map_err(|errno| file.refused(T::NAME, errno))
    }

    unsafe fn ioctl_typed<T: Command>(&self, file: &LinuxFile, argument: &mut T) -> Result<u32> {
        let start = std::ptr::from_mut(argument).cast();
        // SAFETY: `start` is the argument that this command takes; the rest is the caller's promise.
        unsafe { ioctl::call(file.as_fd(), T::OPCODE, start) }.map_err(|errno| file.refused(T::NAME, errno))
    }

    unsafe fn ioctl_raw(&self, fd: BorrowedFd<'_>, command: u32, argument: *mut c_void) -> Result<u32> {
        // SAFETY: the caller's promise.
        unsafe { ioctl::call(fd, command, argument) }.map_err(|answer| {
            let object = format_args!("{}, command {command:#x}", describe(fd)).to_string();
            Error::new("ioctl", object, errno(answer))
        })
    }

    fn map_region(&self, file: &LinuxFile, mapping: Mapping) -> Result<Mmio> {
        memory::map_file(file.as_fd(), mapping).map(Mmio::memory).map_err(|errno| file.refused("mmap", errno))
    }

    fn allocate(&self, options: &MemoryOptions) -> Result<Memory> {
        memory::allocate(options)
    }

    fn wait(&self, fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>> {
        // A timeout too long to be counted is one without end.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        loop {
            let left = deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now()))
                .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            match rustix::event::poll(&mut polled, left.as_ref()) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(answer) => {
                    return Err(Error::new("poll", format_args!("{} descriptors", fds.len()), errno(answer)));
                }
            }
        }
        Ok(polled.iter().map(|fd| fd.revents().intersects(PollFlags::IN)).collect())
    }
}

fn from_std(error: &std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::IO)
}
