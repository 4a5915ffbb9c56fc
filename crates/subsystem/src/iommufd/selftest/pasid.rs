//! Devices with PASIDs.

use uapi::iommufd_test::{
    IOMMU_TEST_PASID_RESERVED, IommuTestCmd, IommuTestPasidAttach, IommuTestPasidCheck,
};

use super::{Mock, MockDevice};
use crate::iommufd::call::{Argument, Call};
use crate::iommufd::context::Context;
use crate::rules::{iommufd as rule, selftest as test_rule};
use crate::{Host, Refusal, RwLock};

/// Whether a device is attached already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It must not be.
    Attach,
    /// It has to be.
    Replace,
}

impl<H: Host> Mock<H> {
    /// A device is attached under a PASID, or to nothing any more. The first attachment under the reserved PASID has the
    /// second one fail, so that a test sees what the kernel does then.
    pub(in crate::iommufd) fn set_pasid(
        &mut self,
        device: MockDevice,
        pasid: u32,
        attached: bool,
    ) -> Result<(), Refusal> {
        let Some(state) = self.devices.get_mut(device.number).filter(|_| pasid == IOMMU_TEST_PASID_RESERVED)
        else {
            return Ok(());
        };
        let fails = attached && state.pasid_fails;
        state.pasid_fails = attached && !fails;
        if fails { Err(test_rule::PASID_RESERVED) } else { Ok(()) }
    }
}

impl<H: Host> Context<H> {
    /// `PASID_ATTACH` and `PASID_REPLACE`
    pub(super) fn pasid_attach(
        &self,
        call: &Call<'_, H>,
        argument: &mut Argument<IommuTestCmd>,
        change: Change,
    ) -> Result<(), Refusal> {
        let IommuTestPasidAttach { pasid, pt_id } = argument.value.get();
        self.objects.write(|objects| {
            let device = objects.selftest(argument.value.id)?.device;
            objects.check_page_table(pt_id)?;
            let attached = objects.device(device).is_some_and(|device| device.table(pasid).is_some());
            match (change, attached) {
                (Change::Attach, true) => return Err(test_rule::PASID_ATTACHED),
                (Change::Replace, false) => return Err(test_rule::PASID_DETACHED),
                (Change::Attach, false) | (Change::Replace, true) => {}
            }
            let pt_id = self.attach_locked(call.host, objects, device, pasid, pt_id)?;
            argument.value.put(&IommuTestPasidAttach { pasid, pt_id });
            let replied = call.reply(argument);
            if replied.is_err() && change == Change::Attach {
                self.detach_locked(call.host, objects, device, pasid);
            }
            replied
        })
    }

    /// `PASID_DETACH`
    pub(super) fn pasid_detach(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestPasidAttach { pasid, .. } = command.get();
        self.objects.write(|objects| {
            let device = objects.selftest(command.id)?.device;
            self.detach_locked(call.host, objects, device, pasid);
            Ok(())
        })
    }

    /// `PASID_CHECK_HWPT`
    pub(super) fn check_pasid(&self, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestPasidCheck { pasid, hwpt_id } = command.get();
        self.objects.read(|objects| {
            let device = objects.selftest(command.id)?.device;
            let table = objects.device(device).and_then(|device| device.table(pasid));
            if hwpt_id != 0 {
                objects.get(hwpt_id).ok_or(rule::HWPT_UNKNOWN)?;
            }
            if table.unwrap_or(0) == hwpt_id { Ok(()) } else { Err(test_rule::PASID_TABLE) }
        })
    }
}
