//! Files whose memory may be mapped for a device.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs;
use subsystem::{Backing, PinError};
use uapi::Errno;

use super::{FRAME, Ram};
use crate::kept::Kept;
use crate::lock::lock;

/// `TMPFS_MAGIC` and `HUGETLBFS_MAGIC`: the file systems whose files are memory, memfds among them.
const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x9584_58f6];

/// The files that are held, by number, and the last number.
#[derive(Debug, Default)]
pub(super) struct Backings(Mutex<(u32, Files)>);

type Files = HashMap<u32, Arc<Kept<OwnedFd>>>;

impl Ram {
    /// Takes a reference to a file, whatever it is, to be asked for memory later. The errno is that of `dup(2)`.
    pub(crate) fn hold_backing(&self, file: BorrowedFd<'_>) -> Result<Backing, Errno> {
        let file = rustix::io::fcntl_dupfd_cloexec(file, 0)
            .map_err(|error| Errno::from_raw(error.raw_os_error()).unwrap_or(Errno::EBADF))?;
        let (last, files) = &mut *lock(&self.backings.0);
        *last += 1;
        files.insert(*last, Arc::new(Kept::new(file)));
        Ok(Backing(*last))
    }

    /// The file is no longer needed. Memory of it that is pinned stays.
    pub(crate) fn put_backing(&self, backing: Backing) {
        // Closed without the lock: the last reference to a file may take a while.
        let file = lock(&self.backings.0).1.remove(&backing.0);
        drop(file);
    }
}

impl Backings {
    pub(super) fn get(&self, backing: Backing) -> Option<Arc<Kept<OwnedFd>>> {
        lock(&self.0).1.get(&backing.0).map(Arc::clone)
    }
}

/// Says whether `length` bytes of a file from `offset` on can be pinned: memory that the file has.
///
/// Answers device and inode, which identify its pages.
pub(super) fn check(file: impl AsFd, offset: u64, length: u64) -> Result<(u64, u64), PinError> {
    let file_system = fs::fstatfs(&file).map_err(|_| PinError::Unsuitable)?;
    let stat = fs::fstat(&file).map_err(|_| PinError::Unsuitable)?;
    let is_memory = fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile
        && MEMORY_FILE_SYSTEMS.contains(&(file_system.f_type as u32));
    let end = offset.checked_add(length).and_then(|end| end.checked_next_multiple_of(FRAME));
    if is_memory && end.is_some_and(|end| end <= stat.st_size as u64) {
        Ok((stat.st_dev, stat.st_ino))
    } else {
        Err(PinError::Unsuitable)
    }
}
