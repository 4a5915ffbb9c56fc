//! Devices: bound to a context, attached to a page table.

use super::context::Context;
use super::hwpt::Origin;
use super::objects::{Object, Objects};
use crate::rules::iommufd as rule;
use crate::{Function, Host, Refusal, RwLock};

/// The object of a device that is bound.
pub(super) struct Device {
    function: Function,
    /// The page table that it is attached to.
    attached: Option<u32>,
}

/// A device that is bound to a context. Only the object that stands for it in the context can give one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceObject {
    id: u32,
}

impl DeviceObject {
    /// The identifier of the object in its context.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }
}

impl<H: Host> Context<H> {
    /// Binds a device: makes an object for it. From now on it may reach what is mapped in this context.
    ///
    /// Refused if there is no memory for the object, or if the device is behind an IOMMU.
    pub fn bind(&self, host: &H, function: Function, noiommu: bool) -> Result<DeviceObject, Refusal> {
        if !noiommu {
            return Err(rule::BIND_IOMMU);
        }
        let device = Device { function, attached: None };
        let id = self.objects.write(|objects| objects.insert(host, Object::Device(device)))?;
        host.device_view(function, Some(self.view));
        Ok(DeviceObject { id })
    }

    /// Takes a device's object away, detaching it if it is attached. The device may reach nothing from now on.
    pub fn unbind(&self, host: &H, device: DeviceObject) {
        self.objects.write(|objects| self.unbind_locked(host, objects, device.id));
    }

    pub(super) fn unbind_locked(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let Some(function) = objects.device(id).map(|device| device.function) else { return };
        self.detach_locked(host, objects, id);
        host.device_view(function, None);
        objects.remove(id);
    }

    /// Attaches a device to the page table of this id, or to one of the IOAS of this id; a device that is attached
    /// changes over. Returns the id of the page table.
    ///
    /// Refused if there is no such object, or if what is mapped there cannot be pinned. The device stays attached
    /// as it was then.
    pub fn attach(&self, host: &H, device: DeviceObject, pt_id: u32) -> Result<u32, Refusal> {
        self.objects.write(|objects| {
            let before = objects.device(device.id).ok_or(rule::DEVICE_GONE)?.attached;
            let hwpt_id = match objects.get(pt_id).ok_or(rule::ATTACH_UNKNOWN)? {
                Object::Hwpt(_) => pt_id,
                Object::Ioas(ioas) => match ioas.auto_hwpt {
                    Some(id) => id,
                    None => self.create_hwpt(host, objects, pt_id, Origin::Attach)?,
                },
                Object::Device(_) | Object::FaultQueue(_) => return Err(rule::ATTACH_TYPE),
            };
            if before == Some(hwpt_id) {
                return Ok(hwpt_id);
            }
            // The new page table is taken before the old one is left: the device is never without one.
            if let Some(hwpt) = objects.hwpt_mut(hwpt_id) {
                hwpt.devices = hwpt.devices.saturating_add(1);
            }
            self.detach_locked(host, objects, device.id);
            if let Some(device) = objects.device_mut(device.id) {
                device.attached = Some(hwpt_id);
            }
            Ok(hwpt_id)
        })
    }

    /// Checks that an id is one that a device can be attached to.
    ///
    /// Refused as [`Context::attach`] refuses it.
    pub fn page_table(&self, pt_id: u32) -> Result<(), Refusal> {
        self.objects.read(|objects| match objects.get(pt_id).ok_or(rule::ATTACH_UNKNOWN)? {
            Object::Hwpt(_) | Object::Ioas(_) => Ok(()),
            Object::Device(_) | Object::FaultQueue(_) => Err(rule::ATTACH_TYPE),
        })
    }

    /// Detaches a device if it is attached.
    pub fn detach(&self, host: &H, device: DeviceObject) {
        self.objects.write(|objects| self.detach_locked(host, objects, device.id));
    }

    fn detach_locked(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let Some(hwpt_id) = objects.device_mut(id).and_then(|device| device.attached.take()) else { return };
        let Some(hwpt) = objects.hwpt_mut(hwpt_id) else { return };
        hwpt.devices = hwpt.devices.saturating_sub(1);
        if hwpt.devices == 0 && hwpt.origin == Origin::Attach {
            self.destroy_hwpt(host, objects, hwpt_id);
        }
    }
}
