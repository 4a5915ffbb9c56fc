//! The system-call boundary as one trait.
//!
//! Everything above this crate speaks only [`Sys`]; below it is the kernel of the host ([`Linux`])
//! or a machine embedded in the process. A driver, a test or a benchmark is written once and runs
//! on both, so that a difference between the two is a finding.
//!
//! What a `Sys` offers is what a userspace driver asks of an operating system: files by path
//! (`/dev`, `/sys`, `/proc` alike), ioctls, device registers ([`Mmio`]), memory that a device may
//! reach ([`Memory`]) and waiting. Eventfds are real eventfds everywhere and are not part of it.

mod error;
pub mod guarded;
mod linux;
mod memory;
mod mmio;
pub mod shared;
mod suite;
mod tailed;
#[cfg(target_arch = "x86_64")]
pub mod yardstick;

pub use error::{Error, Result, Rule};
pub use linux::{Linux, LinuxFile, LinuxHandle};
pub use memory::{Memory, MemoryOptions, PageSize};
pub use mmio::{Mmio, MmioError, Registers, Width};
pub use suite::{Creds, Suite};
pub use tailed::Tailed;

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uapi::{Command, SelfContained};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY`
    Read,
    /// `O_WRONLY`
    Write,
    /// `O_RDWR`
    ReadWrite,
}

/// What kind of file a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, attributes of sysfs among them.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Anything else.
    Other,
}

/// What `stat` tells of a path; the last link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What kind of file it is.
    pub kind: FileKind,
    /// Permission bits, `0o000..=0o7777`.
    pub mode: u32,
    /// Size in bytes, of a regular file.
    pub size: u64,
}

bitflags::bitflags! {
    /// What `poll` reports of a file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u16 {
        /// `POLLIN`
        const IN = 1;
        /// `POLLOUT`
        const OUT = 4;
        /// `POLLERR`
        const ERROR = 8;
    }
}

/// How a region of a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Start in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: usize,
    /// `PROT_READ | PROT_WRITE` or `PROT_READ` alone.
    pub writable: bool,
    /// `PROT_EXEC` besides. Only the suite asks for it.
    pub executable: bool,
    /// `MAP_SHARED` or `MAP_PRIVATE`. Registers are mapped shared; only the suite asks otherwise.
    pub shared: bool,
}

impl Mapping {
    /// Registers to read and write: shared.
    #[must_use]
    pub const fn registers(offset: u64, length: usize) -> Self {
        Mapping { offset, length, writable: true, executable: false, shared: true }
    }
}

/// The system calls that a userspace driver makes.
///
/// Cloning gives another handle on the same system.
pub trait Sys: Clone + Send + Sync + 'static {
    /// An open file; dropping it closes it.
    ///
    /// Its descriptor is a real one: it can stand in a field of an ioctl argument, be duplicated and be
    /// passed on.
    type File: AsFd + Send + Sync + 'static;

    /// Names the system in messages, such as `Linux 7.3.4` or `embedded machine`.
    fn name(&self) -> String;

    /// `open(2)`, with `O_CLOEXEC`.
    fn open(&self, path: &Path, access: Access) -> Result<Self::File>;

    /// The path a file was opened by, for messages.
    fn path_of(&self, file: &Self::File) -> PathBuf;

    /// `fcntl(F_DUPFD_CLOEXEC)`: a second descriptor of the same open file.
    fn try_clone(&self, file: &Self::File) -> Result<Self::File>;

    /// Takes over a descriptor that somebody else opened. `path` names it in messages.
    fn adopt(&self, fd: std::os::fd::OwnedFd, path: &Path) -> Result<Self::File>;

    /// `lstat(2)`.
    fn stat(&self, path: &Path) -> Result<Stat>;

    /// `readlink(2)`.
    fn read_link(&self, path: &Path) -> Result<PathBuf>;

    /// The names in a directory, sorted, without `.` and `..`.
    fn read_dir(&self, path: &Path) -> Result<Vec<String>>;

    /// `pread(2)`: the number of bytes read.
    fn pread(&self, file: &Self::File, bytes: &mut [u8], offset: u64) -> Result<usize>;

    /// `pwrite(2)`: the number of bytes written.
    fn pwrite(&self, file: &Self::File, bytes: &[u8], offset: u64) -> Result<usize>;

    /// `poll(2)` without waiting, for both directions.
    fn poll(&self, file: &Self::File) -> Result<Readiness>;

    /// An ioctl whose argument is complete in itself. One that states a larger size than it has is EINVAL, before
    /// the system is asked.
    fn ioctl<T: SelfContained>(&self, file: &Self::File, argument: &mut T) -> Result<u32> {
        if argument.stated_size() > size_of::<T>() {
            return Err(Error::new(T::NAME, self.path_of(file).display(), uapi::Errno::EINVAL));
        }
        // SAFETY: `SelfContained` promises that the call touches nothing but the size that the argument states, and
        // that is no more than it has.
        unsafe { self.ioctl_typed(file, argument) }
    }

    /// The same for an argument with data behind it (capability chains, eventfds). Implementations begin with
    /// [`Tailed::check`].
    fn ioctl_tailed<T: SelfContained>(&self, file: &Self::File, argument: &mut Tailed<T>) -> Result<u32>;

    /// An ioctl whose argument holds addresses or hands memory to a device.
    ///
    /// # Safety
    ///
    /// Each address in the argument is what the call expects there, for as long as the call needs it,
    /// and whatever the call makes of the memory (such as letting a device write to it) happens to memory that the
    /// caller owns and treats as shared with the device.
    unsafe fn ioctl_typed<T: Command>(&self, file: &Self::File, argument: &mut T) -> Result<u32>;

    /// `ioctl(2)` itself, for calls that no type describes: `argument` is an address or a plain number.
    ///
    /// # Safety
    ///
    /// As for [`Sys::ioctl_typed`]. An address that cannot be read or written is no danger: the call
    /// answers `EFAULT`.
    unsafe fn ioctl_raw(&self, fd: BorrowedFd<'_>, command: u32, argument: *mut c_void) -> Result<u32>;

    /// `mmap(2)` of device registers.
    fn map_region(&self, file: &Self::File, mapping: Mapping) -> Result<Mmio>;

    /// Memory that a device can be given, zeroed.
    fn allocate(&self, options: &MemoryOptions) -> Result<Memory>;

    /// Waits until one of `fds` is readable or the time is over; answers which ones are readable.
    ///
    /// Device models that run inline get their turn here. `None` waits without end.
    fn wait(&self, fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>>;

    /// Reads a whole small file, such as an attribute of sysfs.
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            let count = self.pread(&file, &mut bytes[length..], length as u64)?;
            if count == 0 {
                bytes.truncate(length);
                return Ok(bytes);
            }
            length += count;
            if length == bytes.len() {
                bytes.resize(length * 2, 0);
            }
        }
    }

    /// Writes a small file in one call, as an attribute of sysfs or a module parameter demands.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let file = self.open(path, Access::Write)?;
        let count = self.pwrite(&file, bytes, 0)?;
        if count == bytes.len() { Ok(()) } else { Err(Error::new("write", path.display(), uapi::Errno::EIO)) }
    }
}
