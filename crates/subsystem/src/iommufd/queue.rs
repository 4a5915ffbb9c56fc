//! Queues that the kernel fills and a program reads: of page faults, and of events of a vIOMMU. Each has a file, whose
//! descriptor its caller gets.
//!
//! The file keeps the queue, and the context.

use uapi::Command;
use uapi::Errno;
use uapi::iommufd::IOMMU_FAULT_QUEUE_ALLOC;

use super::call::{Argument, Call};
use super::context::Context;
use super::event_queue::EventQueue;
use super::fault_queue::FaultQueue;
use super::objects::{Object, Objects};
use crate::rules::vfio::FILE_CLOSED;
use crate::rules::{guest, iommufd as rule};
use crate::vfio::FileId;
use crate::{CallCtx, Host, Polling, Ready, Refusal, RwLock, UserMemory};

/// The object of a queue.
pub(super) struct Queue {
    /// Whether its file is open.
    pub(super) open: bool,
    pub(super) kind: QueueKind,
}

/// What is queued.
pub(super) enum QueueKind {
    Faults(FaultQueue),
    Events(EventQueue),
}

/// Opens a file for the queue of this id, and passes it on to the second argument, which gives the caller a descriptor of it.
/// What is refused leaves no file.
pub(crate) type OpenFile<'a> =
    dyn FnMut(u32, &mut dyn FnMut(FileId) -> Result<(), Refusal>) -> Result<(), Refusal> + 'a;

/// How the caller is told of the descriptor of a queue.
pub(super) struct Reply<T> {
    pub(super) argument: Argument<T>,
    /// Puts the number in the argument.
    pub(super) descriptor: fn(&mut T, u32),
    pub(super) polling: Polling,
}

/// Where what is read goes to.
pub(crate) struct ReadTo<'a> {
    memory: &'a dyn UserMemory,
    address: u64,
    pub(super) length: u64,
    /// How many bytes are there already.
    pub(super) done: usize,
}

impl<'a> ReadTo<'a> {
    pub(crate) fn new(memory: &'a dyn UserMemory, address: u64, length: u64) -> Self {
        ReadTo { memory, address, length, done: 0 }
    }

    pub(super) fn left(&self) -> u64 {
        self.length.saturating_sub(self.done as u64)
    }

    /// Puts two parts one behind the other: both, or none.
    pub(super) fn put(&mut self, parts: [&[u8]; 2]) -> Result<(), Errno> {
        let mut done = self.done;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            self.memory.write(self.address.wrapping_add(done as u64), part)?;
            done = done.saturating_add(part.len());
        }
        self.done = done;
        Ok(())
    }

    /// The answer of a read that does not go on.
    pub(super) fn done_or(&self, refusal: Refusal) -> Result<usize, Refusal> {
        if self.done == 0 { Err(refusal) } else { Ok(self.done) }
    }
}

impl Queue {
    /// One whose file is about to be opened.
    pub(super) fn new(kind: QueueKind) -> Self {
        Queue { open: true, kind }
    }

    /// Why it cannot be destroyed.
    pub(super) fn check_unused(&self) -> Result<(), Refusal> {
        match &self.kind {
            _ if self.open => Err(rule::DESTROY_QUEUE_OPEN),
            QueueKind::Faults(faults) if faults.hwpts > 0 => Err(rule::DESTROY_FAULT_QUEUE_IN_USE),
            QueueKind::Faults(_) | QueueKind::Events(_) => Ok(()),
        }
    }
}

impl<H: Host> Context<H> {
    /// `IOMMU_FAULT_QUEUE_ALLOC` or `IOMMU_VEVENTQ_ALLOC`. No other call on the context is under way meanwhile.
    pub(crate) fn queue_alloc(
        &self,
        host: &H,
        caller: &CallCtx<'_, H>,
        (command, argument): (u32, u64),
        open: &mut OpenFile<'_>,
    ) -> Result<(), Refusal> {
        let call = Call { host, caller, exports: &|_| None, argument };
        match command {
            IOMMU_FAULT_QUEUE_ALLOC => self.fault_queue_alloc(&call, open),
            _ => self.event_queue_alloc(&call, open),
        }
    }

    /// Opens the file of a new queue, gives the caller a descriptor of it, and tells its number. What is refused leaves no
    /// queue.
    pub(super) fn open_queue<T: Command>(
        &self,
        call: &Call<'_, H>,
        id: u32,
        mut reply: Reply<T>,
        open: &mut OpenFile<'_>,
    ) -> Result<(), Refusal> {
        let opened = open(id, &mut |file| {
            let mut replied = Ok(());
            let installed = call.caller.files.install(file, reply.polling, &mut |fd| {
                (reply.descriptor)(&mut reply.argument.value, fd.cast_unsigned());
                replied = call.reply(&reply.argument);
                replied.map_err(Refusal::errno)
            });
            replied?;
            installed.map_err(|errno| match errno {
                Errno::EMFILE => rule::QUEUE_DESCRIPTOR,
                _ => rule::NO_MEMORY,
            })
        });
        opened.inspect_err(|_| self.objects.write(|objects| objects.remove_queue(id)))
    }

    /// The file of a queue is closed.
    pub(crate) fn queue_closed(&self, id: u32) {
        self.objects.write(|objects| {
            if let Some(queue) = objects.queue_mut(id) {
                queue.open = false;
            }
        });
    }

    /// `read(2)` of the file of a queue; the number of bytes that were read.
    pub(crate) fn queue_read(&self, host: &H, id: u32, to: ReadTo<'_>) -> Result<usize, Refusal> {
        self.objects.write(|objects| match &mut objects.queue_mut(id).ok_or(FILE_CLOSED)?.kind {
            QueueKind::Faults(faults) => faults.read(host, to),
            QueueKind::Events(events) => events.read(to),
        })
    }

    /// `write(2)` to the file of a queue; the number of bytes that were written.
    pub(crate) fn queue_write(&self, id: u32, bytes: &[u8]) -> Result<usize, Refusal> {
        self.objects.write(|objects| match &mut objects.queue_mut(id).ok_or(FILE_CLOSED)?.kind {
            QueueKind::Faults(faults) => faults.respond(bytes),
            QueueKind::Events(_) => Err(guest::EVENT_QUEUE_WRITE),
        })
    }

    /// `poll(2)` of the file of a queue.
    pub(crate) fn queue_ready(&self, id: u32) -> Ready {
        self.objects.read(|objects| match objects.get(id) {
            Some(Object::Queue(Queue { kind: QueueKind::Faults(faults), .. })) => {
                Ready { read: faults.has_unread(), write: true }
            }
            Some(Object::Queue(Queue { kind: QueueKind::Events(events), .. })) => {
                Ready { read: events.has_unread(), write: false }
            }
            _ => Ready { read: false, write: false },
        })
    }
}

impl<H: Host> Objects<H> {
    fn queue_mut(&mut self, id: u32) -> Option<&mut Queue> {
        match self.get_mut(id) {
            Some(Object::Queue(queue)) => Some(queue),
            _ => None,
        }
    }

    pub(super) fn fault_queue_mut(&mut self, id: u32) -> Option<&mut FaultQueue> {
        match self.queue_mut(id) {
            Some(Queue { kind: QueueKind::Faults(faults), .. }) => Some(faults),
            _ => None,
        }
    }

    /// The queue for events of a type that a vIOMMU has.
    pub(super) fn event_queue_mut(&mut self, viommu: u32, kind: u32) -> Option<&mut EventQueue> {
        let id = self.ids().find(|id| match self.get(*id) {
            Some(Object::Queue(Queue { kind: QueueKind::Events(events), .. })) => events.is_for(viommu, kind),
            _ => false,
        })?;
        match self.queue_mut(id) {
            Some(Queue { kind: QueueKind::Events(events), .. }) => Some(events),
            _ => None,
        }
    }

    /// Takes a queue away that is in no use.
    pub(super) fn remove_queue(&mut self, id: u32) {
        if let Some(Object::Queue(Queue { kind: QueueKind::Events(events), .. })) = self.remove(id) {
            self.put_viommu(events.viommu());
        }
    }
}
