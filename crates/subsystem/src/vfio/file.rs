//! What an open file is.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::host::Function;
use crate::mem::Key;

/// A file of the subsystem, as the host's descriptors and mappings refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(pub(crate) Key<File>);

/// How a file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

impl Access {
    /// `O_RDWR`
    pub const READ_WRITE: Access = Access { read: true, write: true };
}

/// What `poll(2)` finds a file ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

/// A part of a BAR that may be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRegion {
    /// The function.
    pub function: Function,
    /// The BAR, 0 to 5.
    pub index: u8,
    /// Where it starts in the BAR, a multiple of the page size.
    pub offset: u64,
    /// Length in bytes; rounded up to pages it may exceed a BAR that is smaller than a page.
    pub length: u64,
}

/// An open file.
pub(crate) struct File {
    /// How it was opened.
    pub(crate) access: Access,
    /// Of what.
    pub(crate) kind: FileKind,
}

/// What a file is open of.
pub(crate) enum FileKind {
    /// `/dev/iommu`: the context's number.
    Iommufd(u32),
    /// A device node.
    Device(DeviceFile),
    /// A fault queue. It keeps its context.
    FaultQueue {
        /// The context's number.
        context: u32,
        /// The queue's identifier there.
        queue: u32,
    },
}

/// An open device node. It keeps the device registered.
pub(crate) struct DeviceFile {
    /// The device's index.
    pub(crate) device: u32,
    granted: AtomicBool,
}

impl DeviceFile {
    /// A file that is not bound yet.
    pub(crate) fn new(device: u32) -> Self {
        DeviceFile { device, granted: AtomicBool::new(false) }
    }

    /// Whether the file was bound: everything but BIND waits for that.
    pub(crate) fn granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }

    /// The file is bound, and whatever binding it prepared can be seen by whoever sees this.
    pub(crate) fn grant(&self) {
        self.granted.store(true, Ordering::Release);
    }
}
