//! What the subsystem asks of its surroundings.

use core::fmt;

use uapi::Errno;

mod emulated;
mod iommu;

pub use emulated::{Emulated, Transfer};
pub use iommu::{DmaOwner, DomainKind, Iommu, IommuInfo, Mapping, Rights};

/// Everything that the subsystem asks of its surroundings, by subject.
///
/// A kernel has these; so has a machine that is embedded in a process.
pub trait Host: Alloc + Locks + Iommu + Bus + Emulated + Nodes + Sync + Sized {}

/// Whether the next allocation may be made.
///
/// Asked before each allocation of the subsystem, so that a host can make the n-th one fail.
pub trait Alloc {
    /// False: this allocation fails.
    fn permit(&self) -> bool;
}

/// Mutual exclusion.
pub trait Locks {
    /// A lock with one holder.
    type Mutex<T: Send>: Mutex<T>;
    /// A lock with many readers or one writer. It is not taken twice by one caller, not even for reading.
    type RwLock<T: Send + Sync>: RwLock<T>;
}

/// A lock with one holder.
pub trait Mutex<T>: Send + Sync {
    /// A lock around a value.
    fn new(value: T) -> Self;
    /// Runs `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// A lock with many readers or one writer.
pub trait RwLock<T>: Send + Sync {
    /// A lock around a value.
    fn new(value: T) -> Self;
    /// Runs `f` while nobody writes.
    fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R;
    /// Runs `f` alone.
    fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// A process as memory is accounted to it: its address space, its user, its limit. The host hands these out and
/// keeps them valid while the subsystem holds memory in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task(pub u32);

/// A file whose memory can be mapped for a device (memfd and its kin, or any file that turns out not to be one).
/// The subsystem gives it back with [`Memory::put_backing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backing(pub u32);

/// Where the memory of a mapping comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The address space of a process, from this page-aligned address on.
    User {
        /// Whose address space.
        task: Task,
        /// Virtual address, a multiple of the page size.
        address: u64,
    },
    /// A file, from this offset on.
    File {
        /// The file.
        backing: Backing,
        /// Offset in bytes, a multiple of the page size.
        offset: u64,
    },
}

/// A piece of physically contiguous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Physical address of the page that was asked for.
    pub address: u64,
    /// How many pages from there on are contiguous, at least 1; never more than the pin has left.
    pub pages: u64,
}

/// Against which counter pinned memory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// No limit (the mapping was made with CAP_IPC_LOCK).
    None,
    /// The user's `locked_vm` (mode 0 of `IOMMU_OPTION_RLIMIT_MODE`).
    User,
    /// The address space's `locked_vm` (mode 1).
    Space,
    /// The address space's `locked_vm` too, but not as pinned memory (type1); without a limit if the mapping was made with
    /// CAP_IPC_LOCK.
    Locked {
        /// It was.
        capable: bool,
    },
}

/// Why memory was not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinError {
    /// A page is not there or not accessible in the way that was asked for: EFAULT.
    Fault,
    /// The host has no memory: ENOMEM.
    NoMemory,
    /// The file is not one whose memory can be pinned, or ends before the range: EINVAL.
    Unsuitable,
}

/// Memory that devices reach. Counts are in pages of [`Memory::PAGE`] bytes.
pub trait Memory {
    /// The page size of the CPU in bytes.
    const PAGE: u64 = 4096;
    /// What auto-placed mappings are aligned to at most: the size of a transparent huge page.
    const HUGE: u64 = 2 << 20;

    /// Pinned memory: a handle as small as a word, given back piecewise with [`Memory::unpin`]. Equal pins stand for
    /// the same memory.
    type Pin: Copy + Send + Sync + fmt::Debug + PartialEq;

    /// Pins `pages` pages from page `first` of `source` on. May sleep. All or nothing.
    fn pin(&self, source: Source, first: u64, pages: u64, write: bool) -> Result<Self::Pin, PinError>;
    /// Whether these pages of a process are a BAR that it has mapped, that answers, and that it may write if `write`.
    fn is_region(&self, task: Task, address: u64, pages: u64, write: bool) -> bool;
    /// Gives back `pages` pages from page `first` of a pin on. Each page is given back once.
    fn unpin(&self, pin: Self::Pin, first: u64, pages: u64);
    /// The physical run at a page of a pin; `left` says how many pages of it are of interest.
    fn run(&self, pin: Self::Pin, page: u64, left: u64) -> Run;
    /// How many pins hold a page of a pin, this one included.
    fn pins(&self, pin: Self::Pin, page: u64) -> u64;
    /// Copies to or from pinned memory, from byte `at` of the pin on.
    fn copy(&self, pin: Self::Pin, at: u64, bytes: Transfer<'_>);

    /// Adds pages to an account; false if the limit is reached, and nothing is added then.
    fn charge(&self, task: Task, account: Account, pages: u64) -> bool;
    /// How many more pages the task may lock, and its limit (`RLIMIT_MEMLOCK`), in pages; `u64::MAX` for none.
    fn lockable(&self, task: Task) -> (u64, u64);
    /// Takes pages from an account.
    fn uncharge(&self, task: Task, account: Account, pages: u64);
    /// One more holder of a task (a mapping was made in its name).
    fn hold_task(&self, task: Task);
    /// One holder less.
    fn put_task(&self, task: Task);
    /// The subsystem no longer needs a file.
    fn put_backing(&self, backing: Backing);
}

/// A device, by the host's own numbering: a PCI function, unless it is an emulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function(pub u32);

/// The address of a function: segment (domain), bus, and device and function in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// PCI segment.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device in the upper 5 bits, function in the lower 3.
    pub devfn: u8,
}

/// What of a function waits for an eventfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The INTx line, to be unmasked.
    Unmask,
    /// A write to a register, of this number.
    Write(u32),
}

/// What a function is with regard to SR-IOV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sriov {
    /// Neither of the two.
    None,
    /// A physical function.
    Physical {
        /// How many virtual functions of it are enabled.
        enabled: u16,
    },
    /// A virtual function of this physical one.
    Virtual(Function),
}

/// What kind of addresses a region decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Memory space.
    Memory {
        /// A 64-bit BAR: the next one is its upper half.
        wide: bool,
        /// Prefetchable.
        prefetchable: bool,
    },
    /// I/O ports.
    Io,
}

/// A BAR or the expansion ROM of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// What it decodes.
    pub kind: RegionKind,
    /// Length in bytes, a power of two.
    pub size: u64,
    /// The address that it was given on the bus, 0 if none.
    pub address: u64,
}

/// How a device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqKind {
    /// The INTx line, level-triggered.
    Line,
    /// Message-signalled, up to 32 vectors.
    Msi,
    /// Message-signalled with a table.
    MsiX,
}

/// The weight of a line in the kernel log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `KERN_WARNING`
    Warn,
    /// `KERN_NOTICE`
    Notice,
    /// `KERN_INFO`
    Info,
}

/// The PCI bus, and what a driver core knows of a function.
///
/// None of these calls the subsystem back. What a device does meanwhile (an interrupt line that rises) waits in the
/// host's outbox until the subsystem has returned.
pub trait Bus {
    /// A reference to an eventfd; dropping it gives it back.
    type Event: Clone + Send + Sync;

    /// Adds 1 to an eventfd.
    fn signal(&self, event: &Self::Event);

    /// The function's name on the bus, such as `0000:00:03.0`; of a mediated device its UUID.
    fn name(&self, function: Function, write: &mut dyn FnMut(&str));
    /// Reads 1, 2 or 4 bytes of the real configuration space, naturally aligned.
    fn config_read(&self, function: Function, offset: u16, width: u8) -> u32;
    /// Writes 1, 2 or 4 bytes of the real configuration space, naturally aligned.
    fn config_write(&self, function: Function, offset: u16, width: u8, value: u32);
    /// 256 or 4096.
    fn config_size(&self, function: Function) -> u16;
    /// BAR `index` (0 to 5) or the ROM (6); `None` if absent, or the upper half of a 64-bit BAR.
    fn region(&self, function: Function, index: u8) -> Option<Region>;
    /// Reads 1, 2, 4 or 8 bytes of a BAR, naturally aligned and in bounds. Region 8 of a VGA device are its legacy addresses, of
    /// which up to 4 bytes are read, and which the host makes it decode: memory from 0xa0000 to 0xbffff, I/O ports from 0x3b0
    /// to 0x3bb and from 0x3c0 to 0x3df.
    fn region_read(&self, function: Function, index: u8, offset: u64, width: u8) -> u64;
    /// Writes 1, 2, 4 or 8 bytes of a BAR, naturally aligned and in bounds, or up to 4 of region 8.
    fn region_write(&self, function: Function, index: u8, offset: u64, width: u8, value: u64);
    /// Whether mappings of the BARs answer. Off: an access faults, and existing mappings are revoked first.
    fn regions_enable(&self, function: Function, enabled: bool);
    /// How often they were told not to answer.
    fn revocations(&self, function: Function) -> u32;
    /// Whether the function can be reset on its own.
    fn can_reset(&self, function: Function) -> bool;
    /// Resets the function. Configuration space is as after power-on then, but for BARs and what the host restores.
    fn reset(&self, function: Function) -> Result<(), Errno>;
    /// Whether the function has an INTx line that is wired.
    fn has_line(&self, function: Function) -> bool;
    /// Enables a kind with `count` vectors, and answers `count`; if fewer can be had, answers how many, and enables
    /// nothing.
    fn vectors_enable(&self, function: Function, kind: IrqKind, count: u32) -> u32;
    /// Who is signalled when the vector fires. For the line: asked by the subsystem itself, see `vfio::pci`.
    fn vector_set(&self, function: Function, kind: IrqKind, vector: u32, event: Option<Self::Event>);
    /// Disables the kind; no vector fires afterwards.
    fn vectors_disable(&self, function: Function, kind: IrqKind);
    /// The level of the INTx line, from the status register.
    fn line_level(&self, function: Function) -> bool;
    /// The eventfd that something of the function waits for, if any: when it is signalled, or was before, the host sets it
    /// back to zero and calls [`Subsystem::watch_event`](crate::Subsystem::watch_event).
    fn watch(&self, function: Function, watch: Watch, event: Option<Self::Event>);

    /// Where the function is.
    fn place(&self, function: Function) -> Place;
    /// Tells `f` each function that is reset when the bus of this one is, itself among them, by ascending address. None if
    /// that bus cannot be reset, as a root bus cannot.
    fn each_on_bus(&self, function: Function, f: &mut dyn FnMut(Function));
    /// Resets all of them, each as [`Bus::reset`] does.
    fn reset_bus(&self, function: Function) -> Result<(), Errno>;
    /// What a function is with regard to SR-IOV, which stays the same while the driver is bound, but for the number of its
    /// virtual functions.
    fn sriov(&self, function: Function) -> Sriov;

    /// A line in the kernel log, prefixed with the driver's and the function's name as `dev_warn` does.
    fn log(&self, level: Level, function: Option<Function>, line: fmt::Arguments<'_>);
    /// Sets taint flags.
    fn taint(&self, flags: u64);
    /// The function's directory below `/sys`, for `fdinfo`.
    fn sysfs_path(&self, function: Function, write: &mut dyn FnMut(&str));
}

/// What a node under `/dev` opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// `/dev/vfio/devices/[noiommu-]vfioN`, with its `vfio-dev` class device.
    Device {
        /// The function behind it.
        function: Function,
        /// N: the index, also the minor number.
        index: u32,
        /// Whether the name has the prefix.
        noiommu: bool,
    },
    /// No node: only the class device `vfioN` of a device that is not opened by a node of its own.
    ClassDevice {
        /// The function behind it.
        function: Function,
        /// N: the index.
        index: u32,
    },
    /// `/dev/vfio/[noiommu-]G`, with its `vfio` class device.
    Group {
        /// The minor number of the node.
        minor: u32,
        /// G: the number of the iommu_group.
        group: u32,
        /// Whether the name has the prefix.
        noiommu: bool,
    },
    /// `/dev/iommu`
    Iommufd,
    /// `/dev/vfio/vfio`
    Container,
}

/// A node that the subsystem offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it opens.
    pub kind: NodeKind,
    /// Permission bits that it is made with.
    pub mode: u16,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// Woken, or the time is over.
    Over,
    /// A signal came for the sleeper. Reported once; it cannot be interrupted afterwards.
    Interrupted,
}

/// The nodes under `/dev` with their class devices, and waiting for their users.
pub trait Nodes {
    /// Makes a node and its class device appear, with their uevents.
    fn node_add(&self, node: Node) -> Result<(), Errno>;
    /// Takes a node away.
    fn node_remove(&self, node: Node);
    /// Puts a function that no IOMMU serves, or an emulated device, in an iommu_group of its own, named `vfio-noiommu`; the
    /// group's number, one that no other iommu_group has.
    fn iommu_group_add(&self, function: Function) -> Result<u32, Errno>;
    /// The function is in no iommu_group any more, and the one that was made for it is gone.
    fn iommu_group_remove(&self, function: Function, group: u32);
    /// Sleeps until [`Nodes::wake`] is called for the function, or the time is over (seconds). Returns at once if it was
    /// called since the last sleep. Called without locks.
    fn sleep(&self, function: Function, seconds: u32) -> Slept;
    /// Wakes whoever sleeps for the function.
    fn wake(&self, function: Function);
}
