//! The HWPT: a page table of an IOAS.
//!
//! Without an IOMMU it translates nothing: while an IOAS has one, its memory is pinned, and its physical addresses
//! can be asked for.

use uapi::iommufd::{IOMMU_HWPT_DATA_NONE, IOMMU_HWPT_FAULT_ID_VALID, IommuHwptAlloc};

use super::call::Call;
use super::context::Context;
use super::objects::{Object, Objects};
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock};

/// A page table.
pub(super) struct Hwpt {
    /// The IOAS that it belongs to.
    pub(super) ioas: u32,
    pub(super) origin: Origin,
    /// How many devices are attached to it.
    pub(super) devices: u32,
    /// The fault queue that it names.
    fault_queue: Option<u32>,
}

/// How a page table came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By attaching a device to an IOAS; it goes with the last device.
    Attach,
    /// By `IOMMU_HWPT_ALLOC`; it stays until it is destroyed.
    Request,
}

impl<H: Host> Context<H> {
    /// Makes a page table for an IOAS, pinning all that is mapped there if it is the first one. Returns its id.
    pub(super) fn create_hwpt(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        ioas_id: u32,
        origin: Origin,
    ) -> Result<u32, Refusal> {
        let hwpt = Hwpt { ioas: ioas_id, origin, devices: 0, fault_queue: None };
        let id = objects.insert(host, Object::Hwpt(hwpt))?;
        let linked = objects
            .ioas(ioas_id)
            .and_then(|ioas| self.with_areas(host, ioas, |areas, linker| areas.add_page_table(linker)));
        if let Err(refusal) = linked {
            objects.remove(id);
            return Err(refusal);
        }
        if let Some(ioas) = objects.ioas_mut(ioas_id) {
            ioas.hwpts = ioas.hwpts.saturating_add(1);
            if origin == Origin::Attach {
                ioas.auto_hwpt = Some(id);
            }
        }
        Ok(id)
    }

    /// Takes away a page table that no device is attached to.
    pub(super) fn destroy_hwpt(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let Some(Object::Hwpt(hwpt)) = objects.remove(id) else { return };
        if let Some(queue) = hwpt.fault_queue.and_then(|queue| objects.fault_queue_mut(queue)) {
            queue.hwpts = queue.hwpts.saturating_sub(1);
        }
        let Some(ioas) = objects.ioas_mut(hwpt.ioas) else { return };
        ioas.hwpts = ioas.hwpts.saturating_sub(1);
        if ioas.auto_hwpt == Some(id) {
            ioas.auto_hwpt = None;
        }
        self.with_areas(host, ioas, |areas, linker| areas.remove_page_table(linker));
    }

    /// `IOMMU_HWPT_ALLOC`
    pub(super) fn hwpt_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuHwptAlloc>()?;
        let command = argument.value;
        if command.reserved != 0 {
            return Err(rule::HWPT_ALLOC_RESERVED);
        }
        if (command.data_type == IOMMU_HWPT_DATA_NONE) != (command.data_len == 0) {
            return Err(rule::HWPT_ALLOC_DATA);
        }
        self.objects.write(|objects| {
            objects.device(command.dev_id).ok_or(rule::HWPT_ALLOC_DEVICE)?;
            match objects.get(command.pt_id) {
                Some(Object::Ioas(_)) => {}
                Some(Object::Hwpt(_)) => return Err(rule::HWPT_ALLOC_NESTED),
                Some(Object::Device(_) | Object::FaultQueue(_)) | None => {
                    return Err(rule::HWPT_ALLOC_PARENT);
                }
            }
            if command.flags & !IOMMU_HWPT_FAULT_ID_VALID != 0 || command.data_len != 0 {
                return Err(rule::HWPT_ALLOC_FLAGS);
            }
            let id = self.create_hwpt(call.host, objects, command.pt_id, Origin::Request)?;
            argument.value.out_hwpt_id = id;
            let named = match command.flags & IOMMU_HWPT_FAULT_ID_VALID {
                0 => Ok(()),
                _ => name_fault_queue(objects, id, command.fault_id),
            };
            let done = named.and_then(|()| call.reply(&argument));
            if done.is_err() {
                self.destroy_hwpt(call.host, objects, id);
            }
            done
        })
    }
}

/// Has a page table name the fault queue that faults behind it would go to.
fn name_fault_queue<H: Host>(objects: &mut Objects<H>, id: u32, queue_id: u32) -> Result<(), Refusal> {
    let queue = objects.fault_queue_mut(queue_id).ok_or(rule::HWPT_ALLOC_FAULT_QUEUE)?;
    queue.hwpts = queue.hwpts.saturating_add(1);
    if let Some(hwpt) = objects.hwpt_mut(id) {
        hwpt.fault_queue = Some(queue_id);
    }
    Ok(())
}
