//! Open files of a machine, behind real descriptors.
//!
//! The descriptor of an open file is a placeholder, whose inode finds the open file again wherever its number turns up, after
//! `dup` too. For a file that was opened by path it is a memfd: like the kernel's VFIO files always ready for `poll`, and
//! refused by `epoll`.
//!
//! A call can also answer with the number of a new descriptor (`IOMMU_FAULT_QUEUE_ALLOC`, `VFIO_GROUP_GET_DEVICE_FD`). It is the
//! program's from then on, who may close it without a word to the machine; with the next call the file is released.
//! [`Sys::adopt`](sys::Sys::adopt) makes a [`File`] of it. A program that makes its system calls by itself has nothing but such
//! descriptors ([`Machine::open_bare`](crate::Machine::open_bare)). What the machine keeps tells it when the last duplicate is
//! gone, in whatever process:
//!
//! * The placeholder of a file that programs wait for is the reading end of a pipe, which the other end learns of then. While the
//!   file has something to read there is a byte in it, for `poll` and `epoll`; one that is always ready for writing is open for
//!   that, too.
//! * Any other one is a memfd, with a lock that goes with the last duplicate.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, flock, fstat, memfd_create,
};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use subsystem::{FileId, Polling};
use sys::Access;
use uapi::Errno;

use crate::kept::Kept;
use crate::lock::lock;
use crate::machine::Shared;
use crate::tree::Live;

/// An open file of a [`Machine`](crate::Machine).
///
/// It is closed when the last `File` that was cloned from it, or adopted from a descriptor of it, is dropped, and the last
/// mapping. A bare descriptor does not keep it open, but for those that a call answered with, such as a fault queue's: those
/// files are open as long as the program has a descriptor of them, in a `File` or bare.
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
    /// A file of the subsystem of which the program has bare descriptors.
    Installed(FileId),
    /// An attribute with a fixed text.
    Text(Arc<str>),
    /// An attribute that answers for itself.
    Live(Live),
    /// The log, with the record that is read next.
    Log(Arc<Mutex<u64>>),
}

/// An open file, however many descriptors and mappings it has. The last one gone, it is released; an installed one only
/// if the program has no bare descriptor of it either.
pub(crate) struct Open {
    key: FileKey,
    opened: Opened,
    /// Where it was opened; `None`: by a call.
    path: Option<Arc<Path>>,
    access: Access,
    shared: Arc<Shared>,
    /// Whether it goes with a descriptor, which may be the last.
    has_descriptor: bool,
}

/// What tells a placeholder from all other files, in whatever process: its file system and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileKey(u64, u64);

/// An open file of which the program has bare descriptors, for the time of a call.
pub struct BareFile(pub(crate) Arc<Open>);

/// The open files of a machine by the inode of their placeholder.
#[derive(Default)]
pub(crate) struct Files {
    known: Mutex<HashMap<FileKey, Known>>,
    /// How many of them have bare descriptors. Mostly none: then nobody has to look whether one was closed.
    bare: AtomicUsize,
    /// How many of these programs wait for.
    waited: AtomicUsize,
    /// Held while it is shown what files have to read; taken before any other lock.
    showing: Mutex<()>,
}

/// An open file, as its inode finds it.
enum Known {
    /// Opened by path.
    Opened { opened: Opened, open: Weak<Open> },
    /// Of which the program has bare descriptors.
    Bare { opened: Opened, access: Access, path: Option<Arc<Path>>, watch: Watch },
}

/// What the machine keeps of the placeholder of such a file, to see that the program has closed it.
enum Watch {
    /// The writing end of a pipe, and whether there is a byte in it.
    Pipe { end: Kept<OwnedFd>, filled: bool },
    /// The same memfd, opened once more.
    Locked(Kept<OwnedFd>),
}

impl Opened {
    /// Whether it is the same open file, of those that programs wait for.
    fn is(&self, other: &Opened) -> bool {
        match (self, other) {
            (Opened::Installed(file), Opened::Installed(other)) => file == other,
            (Opened::Log(next), Opened::Log(other)) => Arc::ptr_eq(next, other),
            _ => false,
        }
    }
}

impl Files {
    /// The open file that a placeholder stands for; `None` if it is none of this machine. The caller has a descriptor of it to
    /// close, or not.
    pub(crate) fn find(shared: &Arc<Shared>, key: FileKey, has_descriptor: bool) -> Option<Arc<Open>> {
        match shared.files().lock().get(&key)? {
            Known::Opened { open, .. } => open.upgrade(),
            Known::Bare { opened, access, path, .. } => {
                let (opened, path, shared) = (opened.clone(), path.clone(), Arc::clone(shared));
                Some(Arc::new(Open { key, opened, path, access: *access, shared, has_descriptor }))
            }
        }
    }

    /// What was opened there; `None` if it is no file of this machine. Does not keep it open, and so never closes it: for
    /// callers that hold locks.
    pub(crate) fn peek(&self, descriptor: impl AsFd) -> rustix::io::Result<Option<Opened>> {
        let key = FileKey::of(descriptor)?;
        Ok(self.lock().get(&key).map(|known| match known {
            Known::Opened { opened, .. } | Known::Bare { opened, .. } => opened.clone(),
        }))
    }

    /// Makes a descriptor of a file, and has `give` give it to the program. If that is refused there is none.
    pub(crate) fn install(
        &self,
        file: FileId,
        polling: Polling,
        give: &mut dyn FnMut(OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (placeholder, watch) = match polling {
            Polling::State { writable } => Watch::pipe(writable),
            Polling::None => Watch::locked(),
        }
        .map_err(errno)?;
        let key = FileKey::of(&placeholder).map_err(crate::process::errno)?;
        give(placeholder)?;
        self.add(key, Opened::Installed(file), Access::ReadWrite, None, watch);
        Ok(())
    }

    /// A descriptor for what was opened at a path, which is the program's alone.
    pub(crate) fn give_bare(&self, opened: Opened, access: Access, path: &Path) -> Result<OwnedFd, Errno> {
        let (placeholder, watch) = match opened {
            Opened::Log(_) => Watch::pipe(true),
            _ => Watch::locked(),
        }
        .map_err(errno)?;
        let key = FileKey::of(&placeholder).map_err(crate::process::errno)?;
        self.add(key, opened, access, Some(path.into()), watch);
        Ok(placeholder)
    }

    fn add(&self, key: FileKey, opened: Opened, access: Access, path: Option<Arc<Path>>, watch: Watch) {
        if let Watch::Pipe { .. } = watch {
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
        self.lock().insert(key, Known::Bare { opened, access, path, watch });
        self.bare.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there are any that the program may close without a word.
    pub(crate) fn are_installed(&self) -> bool {
        self.bare.load(Ordering::Relaxed) > 0
    }

    /// Shows of each file that programs wait for whether it has something to read, as `is_readable` says. Called with no lock
    /// held.
    pub(crate) fn show_readable(&self, is_readable: impl Fn(&Opened) -> bool) {
        if self.waited.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Whoever shows what is so now has asked after whoever showed something before.
        let _order = lock(&self.showing);
        let waited_for = |known: &Known| match known {
            Known::Bare { opened, watch: Watch::Pipe { .. }, .. } => Some(opened.clone()),
            Known::Bare { .. } | Known::Opened { .. } => None,
        };
        let files: Vec<_> =
            self.lock().iter().filter_map(|(inode, known)| Some((*inode, waited_for(known)?))).collect();
        for (inode, file) in files {
            let readable = is_readable(&file);
            if let Some(Known::Bare { opened: now, watch, .. }) = self.lock().get_mut(&inode)
                && now.is(&file)
            {
                watch.show(readable);
            }
        }
    }

    /// Forgets the files of which the program has closed the last bare descriptor; those of the subsystem are to be released.
    pub(crate) fn take_closed(&self) -> Vec<FileId> {
        let mut closed = Vec::new();
        if self.are_installed() {
            let mut known = self.lock();
            let before = known.len();
            known.retain(|_, known| match known {
                Known::Bare { opened, watch, .. } if watch.is_over() => {
                    if let Opened::Installed(file) = opened {
                        closed.push(*file);
                    }
                    if let Watch::Pipe { .. } = watch {
                        self.waited.fetch_sub(1, Ordering::Relaxed);
                    }
                    false
                }
                Known::Bare { .. } | Known::Opened { .. } => true,
            });
            self.bare.fetch_sub(before - known.len(), Ordering::Relaxed);
        }
        closed
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<FileKey, Known>> {
        lock(&self.known)
    }
}

/// What stands for the path of a file that a call has opened.
const ANONYMOUS: &str = "anon_inode";

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO)
}

impl Watch {
    /// A placeholder that programs can wait for, and what tells that it is closed.
    fn pipe(writable: bool) -> std::io::Result<(OwnedFd, Self)> {
        let (placeholder, end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let watch = Watch::Pipe { end: Kept::new(end), filled: false };
        if !writable {
            return Ok((placeholder, watch));
        }
        Ok((again(&placeholder, OFlags::RDWR | OFlags::NONBLOCK)?, watch))
    }

    /// Shows whether the file has something to read.
    fn show(&mut self, readable: bool) {
        let Watch::Pipe { end, filled } = self else { return };
        if *filled == readable {
            return;
        }
        // An end that reads and writes: one that writes alone sends the program SIGPIPE if it has closed its own.
        let both = again(end, OFlags::RDWR | OFlags::NONBLOCK);
        let done = both.and_then(|both| match readable {
            true => rustix::io::write(both, &[0]),
            false => rustix::io::read(both, &mut [0]),
        });
        // If the host has no descriptor left, the next call tries again.
        if done.is_ok() {
            *filled = readable;
        }
    }

    /// A placeholder that they cannot wait for, and what tells that it is closed.
    fn locked() -> std::io::Result<(OwnedFd, Self)> {
        let placeholder = memfd_create("ioasis", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        // Who writes to it past the machine (an io_uring) is refused, and does not believe that a device was told.
        fcntl_add_seals(&placeholder, SealFlags::GROW)?;
        let again = again(&placeholder, OFlags::RDWR)?;
        flock(&placeholder, FlockOperation::LockExclusive)?;
        Ok((placeholder, Watch::Locked(Kept::new(again))))
    }

    /// Whether the program has no descriptor of the placeholder any more.
    fn is_over(&self) -> bool {
        match self {
            Watch::Pipe { end, .. } => {
                let mut polled = [PollFd::new(&**end, PollFlags::empty())];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
            }
            Watch::Locked(file) => flock(file, FlockOperation::NonBlockingLockExclusive).is_ok(),
        }
    }
}

/// Opens what a descriptor stands for once more.
fn again(descriptor: impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

impl FileKey {
    /// Of a descriptor.
    pub fn of(descriptor: impl AsFd) -> rustix::io::Result<Self> {
        let stat = fstat(descriptor)?;
        Ok(FileKey(stat.st_dev, stat.st_ino))
    }
}

impl BareFile {
    pub(crate) fn opened(&self) -> &Open {
        &self.0
    }

    /// The path that it was opened at; a relative one where a call has opened it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path().unwrap_or(Path::new(ANONYMOUS))
    }
}

impl Open {
    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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
        if let Opened::Installed(_) = self.opened {
            if self.has_descriptor {
                self.shared.release_closed();
            }
            return;
        }
        // A new file cannot have this inode yet unless the placeholder is gone and its number was given out again; then
        // the entry is that file's, which is alive.
        let mut files = self.shared.files().lock();
        if matches!(files.get(&self.key), Some(Known::Opened { open, .. }) if open.strong_count() == 0) {
            files.remove(&self.key);
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
        let key = FileKey::of(&descriptor).map_err(refused)?;
        let opened = open()?;
        let (path, shared_by) = (path.to_path_buf(), Arc::clone(shared));
        let open = Open {
            key,
            opened: opened.clone(),
            path: Some(path.as_path().into()),
            access,
            shared: shared_by,
            has_descriptor: true,
        };
        let open = Arc::new(open);
        let known = Known::Opened { opened, open: Arc::downgrade(&open) };
        shared.files().lock().insert(key, known);
        Ok(File { descriptor, open, path })
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

    /// The path that it was opened at; a relative one where a call has opened it.
    #[must_use]
    pub fn path(&self) -> &Path {
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
