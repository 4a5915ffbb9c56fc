//! A machine: the subsystem, the world around it, and the process that calls it.

mod bare;
mod build;
mod calls;
mod driver;
mod family;
mod hotplug;
mod live;
mod mediated;
mod proc;
mod registers;
mod sriov;
mod suite;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use subsystem::{
    CallCtx, Caps, Descriptors, FileId, MappedMemory, Polling, Refusal, Subsystem, Task, Usage, UserMemory,
};
use uapi::Errno;

use crate::bus::{Event, PciFunction, Runner};
use crate::dma::Finding;
use crate::file::{Files, Opened};
use crate::lock::lock;
use crate::model::Work;
use crate::process;
use crate::ram::Memlock;
use crate::spec::PciAddress;
use crate::world::{Upward, World};

pub use bare::{BareRegion, TreeEntry};
pub use build::CustomDevice;
use driver::{Binding, Drivers};
use family::{Elsewhere, OtherDescriptors};
pub use family::{GiveDescriptor, Process};
pub use suite::Handle;

/// How often inline devices get their turn before a call returns without them. Devices have less to do than that, unless they
/// never come to an end.
const TURNS: u32 = 1024;

/// A machine without hardware: VFIO and IOMMUFD as Linux has them, over device models in this process.
///
/// It is a handle: clones are the same machine. The last one gone, and every file and mapping with it, its devices stop and
/// write out what they hold. It implements `sys::Sys`; its calls are safe to make from any thread.
///
/// ```
/// use machine::{Machine, MachineSpec};
/// use sys::Sys;
///
/// let spec: MachineSpec = "[[device]]\naddress = '0000:01:00.0'\nmodel = 'edu'".parse()?;
/// let machine = Machine::from_spec(spec)?;
/// assert_eq!(machine.read_dir("/dev/vfio/devices".as_ref())?, ["noiommu-vfio0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
    caller: Caller,
}

/// Who the calls through a handle are made as.
#[derive(Clone, Debug)]
struct Caller {
    task: Task,
    caps: Caps,
    /// CAP_SYS_ADMIN, of which only sysfs asks.
    admin: bool,
    /// What of these is in effect: capabilities by their bits.
    effective: Arc<AtomicU64>,
    memlock: Memlock,
    /// The process that they come from; `None` for this one.
    elsewhere: Option<Elsewhere>,
}

/// What all handles, files and mappings of a machine have in common.
pub(crate) struct Shared {
    runners: Mutex<Vec<Runner>>,
    subsystem: Subsystem<World>,
    /// The functions whose models run on threads.
    threaded: Vec<Arc<PciFunction>>,
    /// The functions whose models run inline.
    inline: Vec<Arc<PciFunction>>,
    drivers: Drivers,
    /// What driver each function has, by number.
    bindings: Vec<Binding>,
    files: Files,
    /// Held while files are released that the program has closed by itself.
    releasing: Mutex<()>,
    /// What of the subsystem's own memory processes have mapped (`None`: this one), where they map it by bare descriptors.
    mapped: Mutex<BTreeMap<Option<Task>, BTreeSet<MappedMemory>>>,
    /// The module parameter `enable_sriov` of vfio-pci.
    enable_sriov: AtomicBool,
    /// The process that built the machine.
    task: Task,
}

impl Machine {
    /// What devices did that they were not entitled to, oldest first. A run with findings has failed.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.world().domains().checker().findings()
    }

    /// How many findings there were, those that are no longer kept included.
    #[must_use]
    pub fn finding_count(&self) -> u64 {
        self.world().domains().checker().count()
    }

    /// How many memory accesses of a device the IOMMU has blocked. `None` if there is no such device; 0 if it is not behind
    /// an IOMMU.
    #[must_use]
    pub fn fault_count(&self, address: PciAddress) -> Option<u64> {
        Some(self.world().bus().at(address)?.dma().fault_count())
    }

    /// The `n`-th allocation of the subsystem from now on fails, counted from 1; `None` cancels. Answers what was left of
    /// the order before: `None` if that failure has happened.
    pub fn fail_allocation(&self, n: Option<u64>) -> Option<u64> {
        self.world().faults().allocations.order(n)
    }

    /// The `n`-th pinning of memory from now on fails with ENOMEM, counted from 1; otherwise as
    /// [`Machine::fail_allocation`].
    pub fn fail_pin(&self, n: Option<u64>) -> Option<u64> {
        self.world().faults().pins.order(n)
    }

    /// What the subsystem holds at the moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.shared.release_closed();
        self.shared.subsystem.usage()
    }

    /// Runs `f` on what a device stores in memory (a namespace without an image), while the device does nothing else.
    /// `None` if there is no such device, or it stores nothing in memory.
    pub fn with_storage<R>(&self, address: PciAddress, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.world().bus().at(address)?.with_storage(f)
    }

    /// The machine's log from its start on, as far as it is kept: the newest few thousand lines.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.world().log().since(0)
    }

    /// Capabilities come into effect for the process, and others go out of it, by their bits in Linux. What the machine does not
    /// take it to hold it does not get.
    pub fn change_capabilities(&self, raised: u64, dropped: u64) {
        self.caller.effective.fetch_or(raised, Ordering::Relaxed);
        self.caller.effective.fetch_and(!dropped, Ordering::Relaxed);
    }

    /// The process has the limit of locked memory that the host says it has, whatever that is at the moment, and so have those that it
    /// shares the machine with.
    pub fn follow_limits_of_host(&mut self) {
        self.caller.memlock = Memlock::OfHost;
        self.world().ram().accounts().set_memlock(self.caller.task, Memlock::OfHost);
    }

    fn world(&self) -> &World {
        self.shared.world()
    }

    /// Makes a call on the subsystem, and lets happen what follows from it. Files that were closed unseen are released by the caller before.
    fn call<R>(
        &self,
        memory: &dyn UserMemory,
        f: impl FnOnce(&Subsystem<World>, &CallCtx<'_, World>) -> R,
    ) -> R {
        let shared = &*self.shared;
        self.world().domains().checker().call();
        shared.settle();
        let (task, caps) = (self.caller.task, self.caller.effective_caps());
        let answer = match &self.caller.elsewhere {
            None => {
                let thread = &process::ThisThread;
                f(&shared.subsystem, &CallCtx { memory, files: shared, thread, task, caps })
            }
            Some(elsewhere) => {
                let thread = &process::OtherThread(&elsewhere.process, elsewhere.thread);
                let files = &OtherDescriptors { shared, elsewhere };
                f(&shared.subsystem, &CallCtx { memory, files, thread, task, caps })
            }
        };
        shared.settle();
        shared.show_readable();
        answer
    }
}

impl Caller {
    /// The process that makes the calls.
    fn process(&self) -> u32 {
        self.elsewhere.as_ref().map_or_else(std::process::id, |elsewhere| elsewhere.process.pid())
    }

    /// Whether a capability is in effect, by its bit in Linux.
    fn in_effect(&self, held: bool, bit: u32) -> bool {
        held && self.effective.load(Ordering::Relaxed) >> bit & 1 != 0
    }

    fn effective_caps(&self) -> Caps {
        let Caps { sys_rawio, ipc_lock, sys_resource } = self.caps;
        Caps {
            ipc_lock: self.in_effect(ipc_lock, 14),
            sys_rawio: self.in_effect(sys_rawio, 17),
            sys_resource: self.in_effect(sys_resource, 24),
        }
    }

    fn is_admin(&self) -> bool {
        self.in_effect(self.admin, 21)
    }
}

impl Shared {
    pub(crate) fn world(&self) -> &World {
        self.subsystem.host()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The last descriptor and mapping of a file of the subsystem are gone.
    pub(crate) fn release(&self, file: FileId) {
        self.subsystem.release(file);
        self.settle();
    }

    /// Shows of the files that programs wait for which have something to read.
    fn show_readable(&self) {
        self.files.show_readable(|opened| match opened {
            Opened::Node(file) | Opened::Installed(file) => self.subsystem.poll(*file).read,
            Opened::Log(next) => *lock(next) < self.world().log().mark(),
            Opened::Text(_) | Opened::Live(_) => true,
        });
    }

    /// Releases the files of which the program has closed the last descriptor by itself.
    pub(crate) fn release_closed(&self) {
        // One at a time: who finds none that is closed must not find one that another thread has found and not released yet.
        let releasing = lock(&self.releasing);
        let closed = self.files.take_closed();
        closed.iter().for_each(|file| self.subsystem.release(*file));
        drop(releasing);
        if !closed.is_empty() {
            self.settle();
        }
    }

    /// Inline devices do the work that is waiting, and what devices have to say is told to the subsystem. Called with no
    /// lock held, after everything that may have given a device something to do. `More` if a device does not come to an end:
    /// it goes on when it is called next.
    #[inline]
    fn settle(&self) -> Work {
        for _ in 0..TURNS {
            let turns = self.inline.iter().map(|function| function.turn());
            let busy = turns.fold(false, |busy, work| busy | (work == Work::More));
            self.serve_mediated();
            let Upward { risen, signalled } = self.world().upward();
            if !busy && risen.is_empty() && signalled.is_empty() {
                return Work::Idle;
            }
            risen.into_iter().for_each(|function| self.subsystem.line_event(function));
            signalled.into_iter().for_each(|(function, watch)| self.subsystem.watch_event(function, watch));
        }
        Work::More
    }
}

impl Shared {
    /// The file of the subsystem that a descriptor stands for.
    fn ours_behind(&self, descriptor: &OwnedFd) -> Result<Option<FileId>, Errno> {
        Ok(match self.files.peek(descriptor).map_err(process::errno)? {
            Some(Opened::Node(file) | Opened::Installed(file)) => Some(file),
            Some(Opened::Text(_) | Opened::Live(_) | Opened::Log(_)) | None => None,
        })
    }

    /// The file behind a descriptor, to be asked for memory later.
    fn backing_behind(&self, descriptor: &OwnedFd) -> Result<subsystem::Backing, Errno> {
        let ram = self.world().ram();
        if self.files.peek(descriptor).map_err(process::errno)?.is_some() {
            // The placeholder of one of our files is a memory file, and what it stands for is not: a file that is none
            // either stands in for it.
            let none = Event::create().map_err(process::errno)?;
            return ram.hold_backing(none.as_fd());
        }
        ram.hold_backing(descriptor.as_fd())
    }
}

impl Descriptors<World> for Shared {
    fn ours(&self, fd: i32) -> Result<Option<FileId>, Errno> {
        self.ours_behind(&process::duplicate(fd)?)
    }

    fn event(&self, fd: i32) -> Result<Event, Errno> {
        process::eventfd(process::duplicate(fd)?).map(Event::new)
    }

    fn backing(&self, fd: i32) -> Result<subsystem::Backing, Errno> {
        self.backing_behind(&process::duplicate(fd)?)
    }

    fn install(
        &self,
        file: FileId,
        polling: Polling,
        reply: &mut dyn FnMut(i32) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.files.install(file, polling, &mut |placeholder| {
            reply(placeholder.as_raw_fd())?;
            // The program has it now.
            let _number = placeholder.into_raw_fd();
            Ok(())
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The device threads end before anything that they use goes.
        self.runners.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.world().ram().accounts().exit(self.task);
    }
}

/// A refusal of the subsystem as an error of the system-call boundary.
fn refused(call: &'static str, object: impl std::fmt::Display, refusal: Refusal) -> sys::Error {
    let rule = refusal.rule();
    sys::Error::new(call, object, refusal.errno())
        .with_rule(sys::Rule { name: rule.name, sentence: rule.sentence })
}
