//! The virtual device: what a guest calls a device that it has behind its vIOMMU.

use uapi::iommufd::IommuVdeviceAlloc;

use super::call::Call;
use super::context::Context;
use super::objects::{Object, Objects};
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Refusal, RwLock};

/// A virtual device. It goes with its device at the latest.
pub(super) struct Vdevice {
    pub(super) viommu: u32,
    /// The id of the device.
    pub(super) device: u32,
    /// What the guest's IOMMU calls it.
    pub(super) virt_id: u64,
}

impl<H: Host> Context<H> {
    /// `IOMMU_VDEVICE_ALLOC`
    pub(super) fn vdevice_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuVdeviceAlloc>()?;
        let IommuVdeviceAlloc { viommu_id: viommu, dev_id, virt_id, .. } = argument.value;
        self.objects.write(|objects| {
            let kind = objects.viommu(viommu)?.kind;
            let device = objects.device(dev_id).ok_or(rule::VIOMMU_DEVICE)?;
            device.check_viommu(kind)?;
            if objects.vdevices().any(|(_, other)| other.device == dev_id) {
                return Err(guest::VDEVICE_TWICE);
            }
            if objects.vdevices().any(|(_, other)| other.viommu == viommu && other.virt_id == virt_id) {
                return Err(guest::VDEVICE_NAME);
            }
            let vdevice = Vdevice { viommu, device: dev_id, virt_id };
            let id = objects.insert(call.host, Object::Vdevice(vdevice))?;
            objects.hold_viommu(viommu);
            argument.value.out_vdevice_id = id;
            call.reply(&argument).inspect_err(|_| objects.remove_vdevice(id))
        })
    }
}

impl<H: Host> Objects<H> {
    /// The virtual devices.
    fn vdevices(&self) -> impl Iterator<Item = (u32, &Vdevice)> {
        self.all().filter_map(|(id, object)| match object {
            Object::Vdevice(vdevice) => Some((id, vdevice)),
            _ => None,
        })
    }

    /// The device that a guest calls so behind its vIOMMU.
    pub(super) fn device_called(&self, viommu: u32, virt_id: u64) -> Option<u32> {
        let mut vdevices = self.vdevices().map(|(_, vdevice)| vdevice);
        vdevices.find(|it| it.viommu == viommu && it.virt_id == virt_id).map(|it| it.device)
    }

    /// What a guest calls a device behind its vIOMMU.
    pub(super) fn virt_id(&self, viommu: u32, device: u32) -> Option<u64> {
        let mut vdevices = self.vdevices().map(|(_, vdevice)| vdevice);
        vdevices.find(|it| it.viommu == viommu && it.device == device).map(|it| it.virt_id)
    }

    /// Takes a virtual device away.
    pub(super) fn remove_vdevice(&mut self, id: u32) {
        if let Some(Object::Vdevice(vdevice)) = self.remove(id) {
            self.put_viommu(vdevice.viommu);
        }
    }

    /// A device goes. Its virtual device, if it has one, goes with it; so that a program which still knows its id does not
    /// destroy something else, that stays taken until the context is closed.
    pub(super) fn bury_vdevice(&mut self, device: u32) {
        let Some((id, viommu)) =
            self.vdevices().find(|(_, it)| it.device == device).map(|(id, it)| (id, it.viommu))
        else {
            return;
        };
        if let Some(object) = self.get_mut(id) {
            *object = Object::Tombstone;
        }
        self.put_viommu(viommu);
    }
}
