//! The hardware queue: memory of a guest in which its IOMMU works by itself, as on a queue of commands.
//!
//! The hardware finds it by its physical address. So the memory is pinned, has to be in one piece, and is not unmapped while
//! the queue is there: an access of the kernel's own keeps it.

use uapi::iommufd::IommuHwQueueAlloc;

use super::PAGE;
use super::access::{Access, Owner};
use super::call::Call;
use super::context::Context;
use super::objects::{Object, Objects};
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Refusal, RwLock};

/// A hardware queue.
pub(super) struct HwQueue {
    viommu: u32,
    /// Which queue of the vIOMMU it is.
    index: u32,
    /// The access that keeps its memory. `None` while it is being made.
    access: Option<u32>,
    /// The queue that has to be there as long as this one.
    before: Option<u32>,
    /// How many queues have to go before this one.
    pub(super) users: u32,
}

impl<H: Host> Context<H> {
    /// `IOMMU_HW_QUEUE_ALLOC`
    pub(super) fn hw_queue_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwQueueAlloc>()?;
        let command = argument.value;
        if command.flags != 0 || command.type_ == 0 {
            return Err(rule::HW_QUEUE_FIELDS);
        }
        let rest = command.length.checked_sub(1).ok_or(rule::HW_QUEUE_LENGTH)?;
        let last = command.nesting_parent_iova.checked_add(rest).ok_or(rule::HW_QUEUE_WRAPS)?;
        self.objects.write(|objects| {
            let viommu = objects.viommu(command.viommu_id)?;
            if !viommu.driver.has_queue(command.type_) {
                return Err(guest::HW_QUEUE_UNSUPPORTED);
            }
            let parent = objects.hwpt(viommu.parent).ok_or(rule::HWPT_UNKNOWN)?;
            let (ioas, viommu, index) = (parent.ioas, command.viommu_id, command.index);
            let queue = HwQueue { viommu, index, access: None, before: None, users: 0 };
            let id = objects.insert(call.host, Object::HwQueue(queue))?;
            objects.hold_viommu(viommu);
            let made = self
                .keep_memory(call.host, objects, (id, ioas), (command.nesting_parent_iova, last))
                .and_then(|()| objects.start_queue(id))
                .and_then(|()| {
                    argument.value.out_hw_queue_id = id;
                    call.reply(&argument)
                });
            made.inspect_err(|_| self.destroy_hw_queue(call.host, objects, id))
        })
    }

    /// Has the memory of a queue kept in place, in whole pages.
    fn keep_memory(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        (queue, ioas): (u32, u32),
        (first, last): (u64, u64),
    ) -> Result<(), Refusal> {
        let pages = (first & PAGE.wrapping_neg(), last | PAGE.saturating_sub(1));
        if pages.1.wrapping_sub(pages.0) == u64::MAX {
            return Err(guest::HW_QUEUE_TOO_LONG);
        }
        let access = objects.insert(host, Object::Access(Access::new(Owner::Kernel)))?;
        if let Some(queue) = objects.hw_queue_mut(queue) {
            queue.access = Some(access);
        }
        self.attach_access(host, objects, access, ioas)?;
        self.keep_pages(host, objects, access, pages)
    }

    /// Takes away a hardware queue that no other one needs, as far as it was made.
    pub(super) fn destroy_hw_queue(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let Some(Object::HwQueue(queue)) = objects.remove(id) else { return };
        if let Some(viommu) = objects.viommu_mut(queue.viommu) {
            viommu.driver.stop_queue(queue.index, id);
        }
        if let Some(before) = queue.before.and_then(|before| objects.hw_queue_mut(before)) {
            before.users = before.users.saturating_sub(1);
        }
        if let Some(access) = queue.access {
            self.detach_access(host, objects, access);
            objects.remove(access);
        }
        objects.put_viommu(queue.viommu);
    }
}

impl<H: Host> Objects<H> {
    fn hw_queue_mut(&mut self, id: u32) -> Option<&mut HwQueue> {
        match self.get_mut(id) {
            Some(Object::HwQueue(queue)) => Some(queue),
            _ => None,
        }
    }

    /// Has the hardware work on a queue.
    fn start_queue(&mut self, id: u32) -> Result<(), Refusal> {
        let Some(HwQueue { viommu, index, .. }) = self.hw_queue_mut(id) else { return Ok(()) };
        let (viommu, index) = (*viommu, *index);
        let viommu = self.viommu_mut(viommu).ok_or(rule::VIOMMU_UNKNOWN)?;
        let before = viommu.driver.start_queue(index, id)?;
        if let Some(before) = before.and_then(|before| self.hw_queue_mut(before)) {
            before.users = before.users.saturating_add(1);
        }
        if let Some(queue) = self.hw_queue_mut(id) {
            queue.before = before;
        }
        Ok(())
    }
}
