//! Open files of a machine, behind real descriptors.
//!
//! The descriptor of an open file is a placeholder: a memfd, whose inode finds the open file again wherever its number
//! turns up, after `dup` too. Like the kernel's VFIO files it is always ready for `poll`, and refused by `epoll`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{MemfdFlags, fstat, memfd_create};
use subsystem::FileId;
use sys::Access;

use crate::machine::Shared;
use crate::tree::Live;

/// An open file of a [`Machine`](crate::Machine).
///
/// It is closed when the last `File` that was cloned from it, or adopted from a descriptor of it, is dropped, and the last
/// mapping. A bare descriptor does not keep it open.
pub struct File {
    // The descriptor goes before the open file does: whoever sees the number sees the file behind it.
    descriptor: OwnedFd,
    open: Arc<Open>,
    path: PathBuf,
}

/// What was opened.
#[derive(Clone, Debug)]
pub(crate) enum Opened {
    /// A node: a file of the subsystem.
    Node(FileId),
    /// An attribute with a fixed text.
    Text(Arc<str>),
    /// An attribute that answers for itself.
    Live(Live),
}

/// An open file, however many descriptors and mappings it has. The last one gone, it is released.
pub(crate) struct Open {
    inode: Inode,
    opened: Opened,
    access: Access,
    shared: Arc<Shared>,
}

/// A file of the host: its file system and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inode(u64, u64);

/// The open files of a machine by the inode of their placeholder.
#[derive(Default)]
pub(crate) struct Files(Mutex<HashMap<Inode, Known>>);

/// An open file, as its inode finds it.
struct Known {
    opened: Opened,
    open: Weak<Open>,
}

impl Files {
    /// The open file that a descriptor stands for; `None` if it is none of this machine.
    pub(crate) fn find(&self, descriptor: impl AsFd) -> rustix::io::Result<Option<Arc<Open>>> {
        let inode = Inode::of(descriptor)?;
        Ok(self.lock().get(&inode).and_then(|known| known.open.upgrade()))
    }

    /// What was opened there; `None` if it is no file of this machine. Does not keep it open, and so never closes it: for
    /// callers that hold locks.
    pub(crate) fn peek(&self, descriptor: impl AsFd) -> rustix::io::Result<Option<Opened>> {
        let inode = Inode::of(descriptor)?;
        Ok(self.lock().get(&inode).map(|known| known.opened.clone()))
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Inode, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    fn of(descriptor: impl AsFd) -> rustix::io::Result<Self> {
        let stat = fstat(descriptor)?;
        Ok(Inode(stat.st_dev, stat.st_ino))
    }
}

impl Open {
    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether it was opened for reading.
    pub(crate) fn readable(&self) -> bool {
        self.access != Access::Write
    }

    /// Whether it was opened for writing.
    pub(crate) fn writable(&self) -> bool {
        self.access != Access::Read
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A new file cannot have this inode yet unless the placeholder is gone and its number was given out again; then
        // the entry is that file's, which is alive.
        let mut files = self.shared.files().lock();
        if files.get(&self.inode).is_some_and(|known| known.open.strong_count() == 0) {
            files.remove(&self.inode);
        }
        drop(files);
        if let Opened::Node(file) = self.opened {
            self.shared.release(file);
        }
    }
}

impl File {
    /// A descriptor for what `open` opens. Nothing is opened if the host has none.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        path: &Path,
        access: Access,
        open: impl FnOnce() -> sys::Result<Opened>,
    ) -> sys::Result<Self> {
        let refused = |error| sys::Error::new("open", path.display(), crate::process::errno(error));
        let descriptor = memfd_create("ioasis", MemfdFlags::CLOEXEC).map_err(refused)?;
        let inode = Inode::of(&descriptor).map_err(refused)?;
        let opened = open()?;
        let open = Arc::new(Open { inode, opened: opened.clone(), access, shared: Arc::clone(shared) });
        shared.files().lock().insert(inode, Known { opened, open: Arc::downgrade(&open) });
        Ok(File { descriptor, open, path: path.to_path_buf() })
    }

    /// Another descriptor of an open file.
    pub(crate) fn with_descriptor(descriptor: OwnedFd, open: Arc<Open>, path: &Path) -> Self {
        File { descriptor, open, path: path.to_path_buf() }
    }

    pub(crate) fn try_clone(&self) -> sys::Result<Self> {
        let descriptor = rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)
            .map_err(|error| sys::Error::new("dup", self.path.display(), crate::process::errno(error)))?;
        Ok(File::with_descriptor(descriptor, Arc::clone(&self.open), &self.path))
    }

    pub(crate) fn opened(&self) -> &Arc<Open> {
        &self.open
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({}, {})", self.descriptor.as_raw_fd(), self.path.display())
    }
}
