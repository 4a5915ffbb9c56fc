//! The fault queue: from its file a program reads page faults of devices, and answers them there.
//!
//! A fault goes to the queue that the page table names which the device is attached to. The answer is for the device; none
//! here waits for it, so nothing follows from it but that the fault is over.

use uapi::iommufd::{
    IOMMUFD_PAGE_RESP_INVALID, IOMMUFD_PAGE_RESP_SUCCESS, IommuFaultAlloc, IommuHwptPageResponse,
    IommuHwptPgfault,
};
use zerocopy::{FromBytes, IntoBytes};

use super::call::Call;
use super::context::Context;
use super::objects::{Object, Objects};
use super::queue::{OpenFile, Queue, QueueKind, ReadTo, Reply};
use super::unit::Group;
use crate::mem::{IdMap, List, OutOfMemory};
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Polling, Refusal, RwLock};

/// The faults that wait to be read, and those that wait for a response.
pub(super) struct FaultQueue {
    /// How many page tables name it.
    pub(super) hwpts: u32,
    unread: List<Fault>,
    /// By cookie.
    unanswered: IdMap<Fault>,
}

/// By which attachment a fault came: the iommu_group, and the PASID under which that is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Via {
    pub(super) group: Group,
    pub(super) pasid: u32,
}

/// A page fault. Each is the last one of its group, which it is alone in.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    pub(super) via: Via,
    /// What the program reads, without the cookie.
    pub(super) message: IommuHwptPgfault,
}

impl FaultQueue {
    const fn new() -> Self {
        FaultQueue { hwpts: 0, unread: List::new(), unanswered: IdMap::new(1, u32::MAX) }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Queues a fault.
    pub(super) fn push(&mut self, host: &impl Host, fault: Fault) -> Result<(), OutOfMemory> {
        self.unread.push(host, fault)
    }

    /// Forgets the faults that came by an attachment, which is over.
    fn forget(&mut self, via: Via) {
        while let Some(at) = self.unread.iter().position(|fault| fault.via == via) {
            self.unread.remove(at);
        }
        let first = |faults: &IdMap<Fault>| {
            faults.iter().find(|(_, fault)| fault.via == via).map(|(cookie, _)| cookie)
        };
        while let Some(cookie) = first(&self.unanswered) {
            self.unanswered.remove(cookie);
        }
    }

    /// Reads as many faults as are queued and fit. One that cannot be copied stays queued.
    pub(super) fn read(&mut self, host: &impl Host, mut to: ReadTo<'_>) -> Result<usize, Refusal> {
        if !to.length.is_multiple_of(size_of::<IommuHwptPgfault>() as u64) {
            return Err(rule::FAULT_QUEUE_READ_SIZE);
        }
        while let Some(fault) = self.unread.get(0).copied() {
            if to.left() == 0 {
                return to.done_or(guest::FAULT_QUEUE_READ_ROOM);
            }
            let Ok(cookie) = self.unanswered.insert(host, fault) else {
                return to.done_or(rule::NO_MEMORY);
            };
            let message = IommuHwptPgfault { cookie, ..fault.message };
            if to.put([message.as_bytes(), &[]]).is_err() {
                self.unanswered.remove(cookie);
                return to.done_or(guest::QUEUE_READ_MEMORY);
            }
            self.unread.remove(0);
        }
        Ok(to.done)
    }

    /// Takes responses, of which the first that is wrong is refused.
    pub(super) fn respond(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        const SIZE: usize = size_of::<IommuHwptPageResponse>();
        if !bytes.len().is_multiple_of(SIZE) {
            return Err(rule::FAULT_QUEUE_WRITE_SIZE);
        }
        let mut done = 0_usize;
        for response in bytes.chunks_exact(SIZE) {
            if let Err(refusal) = self.answer(response) {
                return if done == 0 { Err(refusal) } else { Ok(done) };
            }
            done = done.saturating_add(SIZE);
        }
        Ok(done)
    }

    fn answer(&mut self, response: &[u8]) -> Result<(), Refusal> {
        let response =
            IommuHwptPageResponse::read_from_bytes(response).map_err(|_| rule::FAULT_QUEUE_WRITE_SIZE)?;
        if !matches!(response.code, IOMMUFD_PAGE_RESP_SUCCESS | IOMMUFD_PAGE_RESP_INVALID) {
            return Err(rule::FAULT_QUEUE_CODE);
        }
        self.unanswered.remove(response.cookie).map(|_| ()).ok_or(rule::FAULT_QUEUE_COOKIE)
    }
}

impl<H: Host> Context<H> {
    /// `IOMMU_FAULT_QUEUE_ALLOC`
    pub(super) fn fault_queue_alloc(
        &self,
        call: &Call<'_, H>,
        open: &mut OpenFile<'_>,
    ) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuFaultAlloc>()?;
        if argument.value.flags != 0 {
            return Err(rule::FAULT_QUEUE_FLAGS);
        }
        let queue = Queue::new(QueueKind::Faults(FaultQueue::new()));
        let id = self.objects.write(|objects| objects.insert(call.host, Object::Queue(queue)))?;
        argument.value.out_fault_id = id;
        let descriptor = |argument: &mut IommuFaultAlloc, fd| argument.out_fault_fd = fd;
        let polling = Polling::State { writable: true };
        self.open_queue(call, id, Reply { argument, descriptor, polling }, open)
    }
}

impl<H: Host> Objects<H> {
    /// An attachment to a page table is over, and so are the faults that came by it.
    pub(super) fn forget_faults(&mut self, via: Via, table: u32) {
        let queue = self.head(table).and_then(|head| head.fault_queue);
        if let Some(queue) = queue.and_then(|queue| self.fault_queue_mut(queue)) {
            queue.forget(via);
        }
    }
}
