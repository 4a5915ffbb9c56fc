//! Devices of the unit.

use uapi::iommufd_test::{
    IommuTestCheckDevCache, IommuTestCmd, IommuTestMockDomainFlags, IommuTestMockDomainReplace,
    MOCK_FLAGS_DEVICE_NO_DIRTY, MOCK_FLAGS_DEVICE_PASID,
};

use crate::iommufd::call::{Argument, Call};
use crate::iommufd::context::Context;
use crate::iommufd::device::{Device, NO_PASID, Served};
use crate::iommufd::objects::{Object, Objects};
use crate::iommufd::unit::Unit;
use crate::rules::selftest as test_rule;
use crate::{Host, Mutex, Refusal, RwLock};

/// What a test has to destroy to be rid of a device.
pub(in crate::iommufd) struct Selftest {
    /// The device, bound.
    pub(in crate::iommufd) device: u32,
}

impl<H: Host> Context<H> {
    /// `MOCK_DOMAIN` and `MOCK_DOMAIN_FLAGS`: makes a device, binds it, and attaches it to what the command names.
    pub(super) fn mock_domain(
        &self,
        call: &Call<'_, H>,
        argument: &mut Argument<IommuTestCmd>,
        flags: u32,
    ) -> Result<(), Refusal> {
        if flags & !(MOCK_FLAGS_DEVICE_NO_DIRTY | MOCK_FLAGS_DEVICE_PASID) != 0 {
            return Err(test_rule::DEVICE_FLAGS);
        }
        let pt_id = argument.value.id;
        self.objects.write(|objects| {
            let (stdev, device) = self.new_device(call.host, objects, flags)?;
            let attached = self.attach_locked(call.host, objects, device, NO_PASID, pt_id);
            let replied = attached.and_then(|hwpt| {
                let mut operand = argument.value.get::<IommuTestMockDomainFlags>();
                operand.out_stdev_id = stdev;
                operand.out_hwpt_id = hwpt;
                operand.out_idev_id = device;
                argument.value.put(&operand);
                call.reply(argument)
            });
            replied.inspect_err(|_| self.destroy_selftest(call.host, objects, stdev))
        })
    }

    /// The ids of what stands for a new device, and of the device.
    fn new_device(&self, host: &H, objects: &mut Objects<H>, flags: u32) -> Result<(u32, u32), Refusal> {
        let mock = self.mock.with(|mock| mock.device_new(host, flags))?;
        // What stands for it has the lower id, as in Linux.
        let stdev = objects.insert(host, Object::Selftest(Selftest { device: 0 }));
        let made = stdev.and_then(|stdev| {
            let device = Device::new(Served::By(Unit::Mock(mock)));
            let device = objects.insert(host, Object::Device(device)).inspect_err(|_| {
                objects.remove(stdev);
            })?;
            if let Some(Object::Selftest(selftest)) = objects.get_mut(stdev) {
                selftest.device = device;
            }
            Ok((stdev, device))
        });
        made.inspect_err(|_| self.mock.with(|unit| unit.device_free(mock)))
    }

    /// Takes away what stands for a device, and the device with it.
    pub(in crate::iommufd) fn destroy_selftest(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        if let Some(Object::Selftest(Selftest { device })) = objects.remove(id) {
            self.unbind_locked(host, objects, device);
        }
    }

    /// `MOCK_DOMAIN_REPLACE`: attaches a device to something else.
    pub(super) fn mock_domain_replace(
        &self,
        call: &Call<'_, H>,
        argument: &mut Argument<IommuTestCmd>,
    ) -> Result<(), Refusal> {
        let IommuTestMockDomainReplace { pt_id } = argument.value.get();
        self.objects.write(|objects| {
            let device = objects.selftest(argument.value.id)?.device;
            let pt_id = self.attach_locked(call.host, objects, device, NO_PASID, pt_id)?;
            argument.value.put(&IommuTestMockDomainReplace { pt_id });
            call.reply(argument)
        })
    }

    /// `DEV_CHECK_CACHE`
    pub(super) fn check_device_cache(&self, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestCheckDevCache { id, cache } = command.get();
        self.objects.read(|objects| {
            let device = objects.device(command.id).ok_or(test_rule::DEVICE)?;
            let Some(Unit::Mock(device)) = device.unit() else { return Err(test_rule::UNIT) };
            let held =
                self.mock.with(|mock| mock.devices.get(device.number)?.cache.get(id as usize).copied());
            if held == Some(cache) { Ok(()) } else { Err(test_rule::CACHE) }
        })
    }
}

impl<H: Host> Objects<H> {
    /// What stands for a device.
    pub(super) fn selftest(&self, id: u32) -> Result<&Selftest, Refusal> {
        match self.get(id) {
            Some(Object::Selftest(selftest)) => Ok(selftest),
            _ => Err(test_rule::SELFTEST),
        }
    }
}
