//! Calls of other processes: those that a program has made by `fork` have one machine with it, which some process keeps for them all.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Uid};
use subsystem::{Descriptors, FileId, Polling, Task};
use uapi::Errno;

use super::{Caller, Machine, Shared};
use crate::bus::Event;
use crate::process::{self, OtherProcess};
use crate::ram::{Fate, PinCounts};
use crate::world::World;

/// A process whose calls are made on a machine that another one keeps.
#[derive(Clone, Debug)]
pub struct Process {
    pub(super) task: Task,
    effective: Arc<AtomicU64>,
    pub(super) other: Arc<OtherProcess>,
}

/// Gives a process a descriptor, while it waits for the answer of its call.
pub trait GiveDescriptor: Send + Sync + RefUnwindSafe {
    /// Its number there.
    fn give(&self, descriptor: OwnedFd) -> Result<i32, Errno>;
    /// The process closes it again.
    fn take_back(&self, number: i32);
}

/// Who makes calls from another process.
#[derive(Clone)]
pub(super) struct Elsewhere {
    pub(super) process: Arc<OtherProcess>,
    /// Which thread of it.
    pub(super) thread: i32,
    giver: Arc<dyn GiveDescriptor>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} of {:?}", self.thread, self.process)
    }
}

impl Machine {
    /// The process that had this machine so far is another one now: this one was made by `fork` to keep the machine for it and its
    /// children. Called while nothing else of the machine is under way. From now on all of them find in `counts` what is pinned of
    /// their memory.
    pub fn keep_for(&self, pid: Pid, counts: PinCounts) -> rustix::io::Result<Process> {
        let other = Arc::new(OtherProcess::open(pid)?);
        let task = self.caller.task;
        self.world().ram().leave(task, &other, counts);
        self.world().regions().set(None, Vec::new());
        self.shared.set_mapped(None, BTreeSet::new());
        Ok(Process { task, effective: Arc::clone(&self.caller.effective), other })
    }

    /// A process that has no calls made yet.
    pub fn admit(&self, pid: Pid, uid: Uid) -> rustix::io::Result<Process> {
        let other = Arc::new(OtherProcess::open(pid)?);
        let ram = self.world().ram();
        let task = ram.accounts().task(uid.as_raw(), self.caller.memlock);
        ram.admit(task, &other);
        // What a child of `fork` has from the beginning.
        let effective = Arc::new(AtomicU64::new(self.caller.effective.load(Ordering::Relaxed)));
        Ok(Process { task, effective, other })
    }

    /// The machine as a thread of another process has it.
    #[must_use]
    pub fn on_behalf_of(&self, process: &Process, thread: i32, giver: Arc<dyn GiveDescriptor>) -> Machine {
        let elsewhere = Elsewhere { process: Arc::clone(&process.other), thread, giver };
        let effective = Arc::clone(&process.effective);
        let caller =
            Caller { task: process.task, effective, elsewhere: Some(elsewhere), ..self.caller.clone() };
        Machine { shared: Arc::clone(&self.shared), caller }
    }

    /// A process has ended, or started another program: its memory is gone, but for what devices have of it.
    pub fn leave(&self, process: &Process) {
        self.world().regions().set(Some(process.task), Vec::new());
        self.shared.set_mapped(Some(process.task), BTreeSet::new());
        // Nothing of another process is refused.
        let _copied = self.world().domains().set_aside(process.task, &(0..u64::MAX), Fate::Unmapped);
        self.world().ram().forget(process.task);
        self.shared.release_closed();
    }
}

impl Process {
    /// Its number in [`PinCounts`].
    #[must_use]
    pub fn number(&self) -> u32 {
        self.task.0
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.other.is_over()
    }
}

/// The descriptor table of another process.
pub(super) struct OtherDescriptors<'a> {
    pub(super) shared: &'a Shared,
    pub(super) elsewhere: &'a Elsewhere,
}

impl Descriptors<World> for OtherDescriptors<'_> {
    fn ours(&self, fd: i32) -> Result<Option<FileId>, Errno> {
        self.shared.ours_behind(&self.elsewhere.process.duplicate(fd)?)
    }

    fn event(&self, fd: i32) -> Result<Event, Errno> {
        process::eventfd(self.elsewhere.process.duplicate(fd)?).map(Event::new)
    }

    fn backing(&self, fd: i32) -> Result<subsystem::Backing, Errno> {
        self.shared.backing_behind(&self.elsewhere.process.duplicate(fd)?)
    }

    fn install(
        &self,
        file: FileId,
        polling: Polling,
        reply: &mut dyn FnMut(i32) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let giver = &self.elsewhere.giver;
        self.shared.files().install(file, polling, &mut |placeholder| {
            let number = giver.give(placeholder)?;
            reply(number).inspect_err(|_| giver.take_back(number))
        })
    }
}
