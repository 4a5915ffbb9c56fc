//! The interrupt line as `uio_pci_generic` tells of it (kernel document `driver-api/uio-howto.rst`).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sys::{Access, Readiness, Sys};

use crate::Errno;
use crate::calls::Calls;

/// A `/dev/uioN`: reading it tells how often the line has fired in all.
pub(crate) struct UioEvents<S: Sys> {
    sys: S,
    file: S::File,
    /// The number that was read last.
    seen: Mutex<u32>,
    /// Keeps the device from being opened anew: when `file` is closed, the kernel stops the device from mastering the bus.
    _lock: S::File,
}

impl<S: Sys> UioEvents<S> {
    pub(super) fn open(calls: &Calls<S>, node: &Path, lock: S::File) -> sys::Result<Self> {
        let file = calls.open(node, Access::ReadWrite)?;
        // What fired before counts for nobody here; the kernel tells only what comes from now on.
        let name = node.file_name().unwrap_or_default();
        let path = Path::new("/sys/class/uio").join(name).join("event");
        let text = String::from_utf8_lossy(&calls.sys.read(&path)?).trim().parse();
        let seen = text.map_err(|_| sys::Error::new("read", path.display(), Errno::EINVAL))?;
        Ok(UioEvents { sys: calls.sys.clone(), file, seen: Mutex::new(seen), _lock: lock })
    }

    /// How often it has fired since it was last asked; `None` if it has not.
    pub(crate) fn try_take(&self) -> sys::Result<Option<u64>> {
        // Reading waits where there is nothing: nobody else may read between the look and the reading.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.sys.poll(&self.file)?.contains(Readiness::IN) {
            return Ok(None);
        }
        let mut count = [0; 4];
        let length = self.sys.pread(&self.file, &mut count, 0)?;
        if length != count.len() {
            return Err(sys::Error::new("pread", self.sys.path_of(&self.file).display(), Errno::EIO));
        }
        let count = u32::from_ne_bytes(count);
        let fired = count.wrapping_sub(*seen);
        *seen = count;
        Ok((fired != 0).then_some(fired.into()))
    }
}

impl<S: Sys> AsFd for UioEvents<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
