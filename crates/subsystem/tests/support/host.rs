//! The host itself: who calls it, and what it makes fail.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use subsystem::{Alloc, Backing, CallCtx, Caps, Descriptors, FileId, Host, Polling, Task, UserMemory};
use uapi::Errno;

use super::bus::Event;
use super::bus::Functions;
use super::iommu::Iommus;
use super::memory::Ram;

/// A simulated host.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) ram: Mutex<Ram>,
    pub(crate) functions: Mutex<Functions>,
    pub(crate) iommus: Mutex<Iommus>,
    allocations: Countdown,
    pub(crate) pins: Countdown,
}

impl Host for TestHost {}

impl TestHost {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes the `n`-th allocation from now on fail, the first being 0; `None`: none.
    pub(crate) fn fail_allocation(&self, n: Option<u64>) {
        self.allocations.arm(n);
    }

    /// Makes the `n`-th pin from now on fail, the first being 0; `None`: none.
    pub(crate) fn fail_pin(&self, n: Option<u64>) {
        self.pins.arm(n);
    }

    /// Whether what was to fail has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.allocations.is_over() || self.pins.is_over()
    }

    /// Works on the memory.
    pub(crate) fn ram<R>(&self, f: impl FnOnce(&mut Ram) -> R) -> R {
        f(&mut self.ram.lock().unwrap())
    }
}

impl Alloc for TestHost {
    fn permit(&self) -> bool {
        self.allocations.next()
    }
}

/// Says no once, after having said yes so many times.
pub(crate) struct Countdown(AtomicU64);

impl Countdown {
    const NEVER: u64 = u64::MAX;
    const OVER: u64 = u64::MAX - 1;

    fn arm(&self, n: Option<u64>) {
        self.0.store(n.unwrap_or(Self::NEVER), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::OVER
    }

    pub(crate) fn next(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            Self::NEVER | Self::OVER => true,
            0 => {
                self.0.store(Self::OVER, Ordering::Relaxed);
                false
            }
            left => {
                self.0.store(left - 1, Ordering::Relaxed);
                true
            }
        }
    }
}

impl Default for Countdown {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NEVER))
    }
}

/// What a descriptor of a caller stands for.
#[derive(Clone)]
pub(crate) enum Descriptor {
    /// A file of the subsystem.
    Ours(FileId),
    /// An eventfd.
    Event(Event),
    /// A file whose memory can, or cannot, be mapped: its number in [`Ram`].
    File(usize),
}

/// A process that makes calls.
pub(crate) struct Caller<'a> {
    pub(crate) host: &'a TestHost,
    pub(crate) task: Task,
    pub(crate) caps: Caps,
    /// By number.
    descriptors: RefCell<Vec<Descriptor>>,
    /// How many it may have.
    pub(crate) descriptor_limit: usize,
}

impl<'a> Caller<'a> {
    /// A process with every capability, and a page at 4 KiB in which the arguments of its calls are.
    pub(crate) fn root(host: &'a TestHost) -> Self {
        let task = host.ram(Ram::new_task);
        host.ram(|ram| ram.map(task, ARGUMENT, 1, super::memory::Layout::Scattered, true));
        let caps = Caps { sys_rawio: true, ipc_lock: true, sys_resource: true };
        Self { host, task, caps, descriptors: RefCell::default(), descriptor_limit: 1024 }
    }

    /// What is passed with each call.
    pub(crate) fn ctx(&self) -> CallCtx<'_, TestHost> {
        CallCtx { memory: self, files: self, thread: &"test:1", task: self.task, caps: self.caps }
    }

    /// Opens a descriptor.
    pub(crate) fn install(&self, descriptor: Descriptor) -> i32 {
        let mut descriptors = self.descriptors.borrow_mut();
        descriptors.push(descriptor);
        i32::try_from(descriptors.len() - 1).unwrap()
    }

    fn descriptor(&self, fd: i32) -> Result<Descriptor, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.descriptors.borrow().get(index).cloned().ok_or(Errno::EBADF)
    }

    /// The file of the subsystem that a descriptor stands for.
    pub(crate) fn file(&self, fd: i32) -> Option<FileId> {
        self.ours(fd).ok().flatten()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        self.descriptors.borrow().len()
    }
}

/// Where a caller has the arguments of its calls: one page.
pub(crate) const ARGUMENT: u64 = 0x1000;

impl UserMemory for Caller<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.host.ram(|ram| ram.read(self.task, address, bytes))
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.host.ram(|ram| ram.write(self.task, address, bytes))
    }
}

impl Descriptors<TestHost> for Caller<'_> {
    fn ours(&self, fd: i32) -> Result<Option<FileId>, Errno> {
        match self.descriptor(fd)? {
            Descriptor::Ours(file) => Ok(Some(file)),
            _ => Ok(None),
        }
    }

    fn event(&self, fd: i32) -> Result<Event, Errno> {
        match self.descriptor(fd)? {
            Descriptor::Event(event) => Ok(event),
            _ => Err(Errno::EINVAL),
        }
    }

    fn backing(&self, fd: i32) -> Result<Backing, Errno> {
        let file = match self.descriptor(fd)? {
            Descriptor::File(file) => Some(file),
            _ => None,
        };
        Ok(self.host.ram(|ram| ram.hold_file(file)))
    }

    fn install(
        &self,
        file: FileId,
        _: Polling,
        reply: &mut dyn FnMut(i32) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.descriptors() >= self.descriptor_limit {
            return Err(Errno::EMFILE);
        }
        if !self.host.permit() {
            return Err(Errno::ENOMEM);
        }
        reply(self.descriptors() as i32)?;
        self.install(Descriptor::Ours(file));
        Ok(())
    }
}
