//! The fault queue: from its file a program reads page faults of devices, and answers them there.
//!
//! A device without an IOMMU has no page faults: nothing is ever queued, and no response finds a fault. What remains is
//! the life of the queue. Its file and the page tables that name it keep it; its file keeps the context.

use uapi::Errno;
use uapi::iommufd::{
    IOMMUFD_PAGE_RESP_INVALID, IOMMUFD_PAGE_RESP_SUCCESS, IommuFaultAlloc, IommuHwptPageResponse,
    IommuHwptPgfault,
};
use zerocopy::FromBytes;

use super::call::{Argument, Call};
use super::context::Context;
use super::objects::{Object, Objects};
use crate::rules::iommufd as rule;
use crate::vfio::FileId;
use crate::{CallCtx, Host, Polling, Refusal, RwLock};

/// A fault queue.
pub(super) struct FaultQueue {
    /// Whether its file is open.
    pub(super) open: bool,
    /// How many page tables name it.
    pub(super) hwpts: u32,
}

impl<H: Host> Context<H> {
    /// `IOMMU_FAULT_QUEUE_ALLOC`
    ///
    /// `open` opens a file for the queue of this id, and passes it on to its second argument, which gives the caller a
    /// descriptor of it. What is refused leaves no queue. No other call on the context is under way meanwhile.
    pub(crate) fn fault_queue_alloc(
        &self,
        host: &H,
        caller: &CallCtx<'_, H>,
        argument: u64,
        open: impl FnOnce(u32, &mut dyn FnMut(FileId) -> Result<(), Refusal>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let call = Call { host, caller, exports: &|_| None, argument };
        let mut argument = call.take::<IommuFaultAlloc>()?;
        if argument.value.flags != 0 {
            return Err(rule::FAULT_QUEUE_FLAGS);
        }
        let queue = FaultQueue { open: true, hwpts: 0 };
        let id = self.objects.write(|objects| objects.insert(host, Object::FaultQueue(queue)))?;
        argument.value.out_fault_id = id;
        open(id, &mut |file| give_descriptor(&call, &mut argument, file)).inspect_err(|_| {
            self.objects.write(|objects| objects.remove(id));
        })
    }

    /// The file of a fault queue is closed.
    pub(crate) fn fault_queue_closed(&self, id: u32) {
        self.objects.write(|objects| {
            if let Some(queue) = objects.fault_queue_mut(id) {
                queue.open = false;
            }
        });
    }
}

impl<H: Host> Objects<H> {
    pub(super) fn fault_queue_mut(&mut self, id: u32) -> Option<&mut FaultQueue> {
        match self.get_mut(id) {
            Some(Object::FaultQueue(queue)) => Some(queue),
            _ => None,
        }
    }
}

/// Gives the caller a descriptor of the queue's file, and tells its number and the queue's id. All or nothing.
fn give_descriptor<H: Host>(
    call: &Call<'_, H>,
    argument: &mut Argument<IommuFaultAlloc>,
    file: FileId,
) -> Result<(), Refusal> {
    let mut replied = Ok(());
    let installed = call.caller.files.install(file, Polling::State, &mut |fd| {
        argument.value.out_fault_fd = fd.cast_unsigned();
        replied = call.reply(argument);
        replied.map_err(Refusal::errno)
    });
    replied?;
    installed.map_err(|errno| match errno {
        Errno::EMFILE => rule::FAULT_QUEUE_DESCRIPTOR,
        _ => rule::NO_MEMORY,
    })
}

/// `read(2)` of a fault queue's file: as many faults as are queued and fit.
pub(crate) fn read(bytes: &[u8]) -> Result<usize, Refusal> {
    match bytes.len().is_multiple_of(size_of::<IommuHwptPgfault>()) {
        true => Ok(0),
        false => Err(rule::FAULT_QUEUE_READ_SIZE),
    }
}

/// `write(2)` to a fault queue's file: responses, of which the first that is wrong is refused.
pub(crate) fn write(bytes: &[u8]) -> Result<usize, Refusal> {
    if !bytes.len().is_multiple_of(size_of::<IommuHwptPageResponse>()) {
        return Err(rule::FAULT_QUEUE_WRITE_SIZE);
    }
    match IommuHwptPageResponse::read_from_prefix(bytes) {
        Err(_) => Ok(0),
        Ok((response, _)) => match response.code {
            IOMMUFD_PAGE_RESP_SUCCESS | IOMMUFD_PAGE_RESP_INVALID => Err(rule::FAULT_QUEUE_COOKIE),
            _ => Err(rule::FAULT_QUEUE_CODE),
        },
    }
}
