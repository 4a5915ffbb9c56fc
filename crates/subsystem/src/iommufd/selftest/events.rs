//! What tests have devices do of which guests learn: page faults, and events of a vIOMMU.

use uapi::iommufd::{IOMMU_PGFAULT_FLAGS_LAST_PAGE, IOMMU_PGFAULT_FLAGS_PASID_VALID, IommuHwptPgfault};
use uapi::iommufd_test::{
    IOMMU_VEVENTQ_TYPE_SELFTEST, IommuTestCheckIotlb, IommuTestCmd, IommuTestTriggerIopf,
    IommuTestTriggerVevent, IommuViommuEventSelftest,
};
use zerocopy::IntoBytes;

use crate::iommufd::call::Call;
use crate::iommufd::context::Context;
use crate::iommufd::device::NO_PASID;
use crate::iommufd::fault_queue::{Fault, Via};
use crate::iommufd::objects::{Object, Objects};
use crate::iommufd::unit::Unit;
use crate::rules::selftest as test_rule;
use crate::{Host, Refusal, RwLock};

impl<H: Host> Context<H> {
    /// `TRIGGER_IOPF`: a page fault. One that nobody handles is over at once.
    pub(super) fn trigger_iopf(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestTriggerIopf { dev_id, pasid, grpid, perm, addr } = command.get();
        let valid = if pasid == NO_PASID { 0 } else { IOMMU_PGFAULT_FLAGS_PASID_VALID };
        let flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE | valid;
        let message =
            IommuHwptPgfault { flags, dev_id, pasid, grpid, perm, addr, ..IommuHwptPgfault::default() };
        self.objects.write(|objects| {
            let unit = objects.device(dev_id).ok_or(test_rule::DEVICE)?.unit();
            let unit = unit.filter(|unit| matches!(unit, Unit::Mock(_))).ok_or(test_rule::UNIT)?;
            let Some((slot, queue)) = handler(objects, dev_id, pasid) else { return Ok(()) };
            if let Some(queue) = objects.fault_queue_mut(queue) {
                let via = Via { group: unit.group(), pasid: slot };
                // A fault that cannot be kept is over, too.
                let _lost = queue.push(call.host, Fault { via, message });
            }
            Ok(())
        })
    }

    /// `TRIGGER_VEVENT`: something of a device that its guest has to know.
    pub(super) fn trigger_vevent(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestTriggerVevent { dev_id } = command.get();
        self.objects.write(|objects| {
            let device = objects.device(dev_id).ok_or(test_rule::DEVICE)?;
            let (viommu, virt_id) =
                device.guest().filter(|(_, id)| *id != 0).ok_or(test_rule::EVENT_GUEST)?;
            let queue = objects.event_queue_mut(viommu, IOMMU_VEVENTQ_TYPE_SELFTEST);
            // As wide as the field is.
            let event = IommuViommuEventSelftest { virt_id: virt_id as u32 };
            queue.ok_or(test_rule::EVENT_QUEUE)?.report(call.host, event.as_bytes())
        })
    }

    /// `MD_CHECK_IOTLB`
    pub(super) fn check_iotlb(&self, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestCheckIotlb { id, iotlb } = command.get();
        self.objects.read(|objects| {
            let Some(Object::Nested(nested)) = objects.get(command.id) else {
                return Err(test_rule::NESTED);
            };
            let held = nested.driver.iotlb.get(id as usize).copied();
            if held == Some(iotlb) { Ok(()) } else { Err(test_rule::IOTLB) }
        })
    }
}

/// Where a fault of a device goes: the PASID of the attachment that handles it, and the queue. A guest has all PASIDs of a
/// device that is attached to a nested page table; so that one takes those that no other one does.
fn handler<H: Host>(objects: &Objects<H>, device: u32, pasid: u32) -> Option<(u32, u32)> {
    let device = objects.device(device)?;
    let (slot, table) = match device.table(pasid) {
        Some(table) => (pasid, table),
        None => {
            let table = device.table(NO_PASID)?;
            (matches!(objects.get(table)?, Object::Nested(_))).then_some((NO_PASID, table))?
        }
    };
    Some((slot, objects.head(table)?.fault_queue?))
}
