//! What an open file is.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::host::Function;
use crate::iommufd::selftest::buffer::Buffer;
use crate::mem::Key;
use crate::vfio::pci::dma_buf::Export;

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

/// From where `lseek(2)` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_SET`
    Start,
    /// `SEEK_CUR`
    Current,
    /// `SEEK_END`
    End,
}

/// What `mmap(2)` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// `MAP_SHARED`, not `MAP_PRIVATE`.
    pub shared: bool,
    /// `PROT_WRITE` besides `PROT_READ`.
    pub writable: bool,
    /// `PROT_EXEC` besides.
    pub executable: bool,
}

impl MapRequest {
    /// One that is shared, and to be read and written.
    #[must_use]
    pub const fn shared(offset: u64, length: u64) -> Self {
        MapRequest { offset, length, shared: true, writable: true, executable: false }
    }
}

/// What may be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// A part of a BAR.
    Region(MappedRegion),
    /// Memory of an object of IOMMUFD.
    Memory(MappedMemory),
}

/// Memory of an object of an iommufd context. Who has it mapped says so with
/// [`Subsystem::set_mapped`](crate::Subsystem::set_mapped), and keeps the file of the context open meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MappedMemory {
    /// The context's number.
    pub context: u32,
    /// The object's identifier there.
    pub object: u32,
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

/// What a dma-buf is of.
#[derive(Clone, Copy)]
pub(crate) enum Exported {
    /// A part of a BAR.
    Bar(Export),
    /// Memory of a self-test of IOMMUFD.
    Test(Buffer),
}

impl Exported {
    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Exported::Bar(export) => export.length,
            Exported::Test(buffer) => buffer.length,
        }
    }
}

/// What a file is open of.
pub(crate) enum FileKind {
    /// `/dev/iommu`: the context's number.
    Iommufd(u32),
    /// A device.
    Device(DeviceFile),
    /// A group: the minor number of its node.
    Group(u32),
    /// A native container: its number.
    Container(u32),
    /// A dma-buf.
    DmaBuf(Exported),
    /// An access of a self-test of IOMMUFD. It keeps its context.
    TestAccess {
        /// The context's number.
        context: u32,
        /// The access's identifier there.
        access: u32,
    },
    /// A queue of faults or events. It keeps its context.
    Queue {
        /// The context's number.
        context: u32,
        /// The queue's identifier there.
        queue: u32,
    },
}

/// A file of a device. It keeps the device registered.
pub(crate) struct DeviceFile {
    /// The device's index.
    pub(crate) device: u32,
    /// Whether its group gave it out; else its node was opened.
    pub(crate) from_group: bool,
    granted: AtomicBool,
}

impl DeviceFile {
    /// A file that is not bound yet.
    pub(crate) fn of_node(device: u32) -> Self {
        DeviceFile { device, from_group: false, granted: AtomicBool::new(false) }
    }

    /// A file that a group is about to give out.
    pub(crate) fn of_group(device: u32) -> Self {
        DeviceFile { from_group: true, ..Self::of_node(device) }
    }

    /// Whether the file was bound, or given out by a group: everything but BIND waits for that.
    pub(crate) fn granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }

    /// The file is bound or given out, and whatever binding it prepared can be seen by whoever sees this.
    pub(crate) fn grant(&self) {
        self.granted.store(true, Ordering::Release);
    }
}
