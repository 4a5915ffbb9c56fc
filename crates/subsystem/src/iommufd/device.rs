//! Devices of a context: bound to it, and who is in one iommu_group with whom.

use super::access::{Access, Owner};
use super::context::Context;
use super::objects::{Object, Objects};
use super::unit::{Group, Unit};
use crate::mem::List;
use crate::rules::iommufd as rule;
use crate::{DmaOwner, Function, Host, IommuInfo, Level, Mutex, Refusal, RwLock};

/// The PASID of DMA that has none.
pub(crate) const NO_PASID: u32 = 0;

/// The object of a device that is bound.
pub(super) struct Device {
    served: Served,
    pub(super) attached: List<Attachment>,
}

/// What stands between a device and memory.
#[derive(Clone, Copy)]
pub(super) enum Served {
    /// Nothing: this function reaches all that is kept in place.
    Not(Function),
    /// A unit that translates.
    By(Unit),
}

/// That a device is attached to a page table.
pub(super) struct Attachment {
    /// The PASID of the DMA that goes through it.
    pub(super) pasid: u32,
    pub(super) hwpt: u32,
    /// The vIOMMU that the page table is of, if any, and what the guest called the device when it was attached.
    pub(super) guest: Option<(u32, u64)>,
}

/// A device that is bound to a context. Only the object that stands for it in the context can give one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceObject {
    pub(super) id: u32,
}

/// How a device is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It counts as one without an IOMMU.
    Noiommu,
    /// Its driver emulates it: as an access.
    Emulated,
    /// An IOMMU serves it.
    Iommu {
        /// In whose name the DMA of its iommu_group is claimed.
        owner: DmaOwner,
        /// The module parameter `allow_unsafe_interrupts` of iommufd.
        unsafe_interrupts: bool,
    },
}

impl DeviceObject {
    /// The identifier of the object in its context.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }
}

impl Device {
    /// The page table that it is attached to under a PASID.
    pub(super) fn table(&self, pasid: u32) -> Option<u32> {
        self.attached.iter().find(|attachment| attachment.pasid == pasid).map(|attachment| attachment.hwpt)
    }

    /// The vIOMMU behind which it is, and what its guest calls it.
    pub(super) fn guest(&self) -> Option<(u32, u64)> {
        self.attached.iter().find(|attachment| attachment.pasid == NO_PASID)?.guest
    }

    pub(super) fn new(served: Served) -> Self {
        Self { served, attached: List::new() }
    }

    /// What serves it; `None`: it is without an IOMMU.
    pub(super) fn unit(&self) -> Option<Unit> {
        match self.served {
            Served::Not(_) => None,
            Served::By(unit) => Some(unit),
        }
    }

    /// Its iommu_group; those of devices without an IOMMU do not bind them together.
    fn group(&self) -> Option<Group> {
        self.unit().map(Unit::group)
    }

    fn is_in(&self, group: Option<Group>) -> bool {
        group.is_some() && self.group() == group
    }
}

impl<H: Host> Objects<H> {
    /// The devices of an iommu_group that are bound here, given one of them.
    pub(super) fn siblings(&self, id: u32) -> impl Iterator<Item = (u32, &Device)> {
        let group = self.device(id).and_then(Device::group);
        self.devices().filter(move |(other, device)| *other == id || device.is_in(group))
    }

    /// Calls `f` for each of [`Objects::siblings`].
    pub(super) fn for_each_sibling(&mut self, id: u32, mut f: impl FnMut(&mut Device)) {
        let group = self.device(id).and_then(Device::group);
        for other in 1..=self.ids().last().unwrap_or(0) {
            if let Some(device) = self.device_mut(other).filter(|device| other == id || device.is_in(group)) {
                f(device);
            }
        }
    }
}

impl<H: Host> Context<H> {
    /// Binds a device: makes an object for it. Without an IOMMU, it may reach from now on what is kept in place in this
    /// context; behind one, nothing until it is attached.
    ///
    /// Refused if there is no memory for the object; behind an IOMMU also if the DMA of its iommu_group belongs to
    /// somebody else, or its interrupts cannot be isolated.
    pub fn bind(&self, host: &H, function: Function, binding: Binding) -> Result<DeviceObject, Refusal> {
        self.objects.write(|objects| {
            let iommu = match binding {
                Binding::Emulated => {
                    let id = objects.insert(host, Object::Access(Access::new(Owner::Driver(function))))?;
                    return Ok(DeviceObject { id });
                }
                Binding::Noiommu => None,
                Binding::Iommu { .. } => host.iommu(function),
            };
            let served = iommu.map_or(Served::Not(function), |iommu| Served::By(Unit::Host(iommu)));
            let id = objects.insert(host, Object::Device(Device::new(served)))?;
            let claimed = match (binding, iommu) {
                (Binding::Iommu { owner, unsafe_interrupts }, Some(iommu)) => {
                    claim(host, function, iommu, owner, unsafe_interrupts)
                }
                _ => {
                    host.domain_attach(function, Some(self.physical));
                    Ok(())
                }
            };
            claimed.map(|()| DeviceObject { id }).inspect_err(|_| {
                objects.remove(id);
            })
        })
    }

    /// Takes a device's object away, detaching it from everything. The device may reach nothing from now on.
    pub fn unbind(&self, host: &H, device: DeviceObject) {
        self.objects.write(|objects| self.unbind_locked(host, objects, device.id));
    }

    pub(super) fn unbind_locked(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        if let Some(Object::Access(_)) = objects.get(id) {
            self.detach_access(host, objects, id);
            objects.remove(id);
            return;
        }
        let first = |device: &Device| device.attached.get(0).map(|attachment| attachment.pasid);
        while let Some(pasid) = objects.device(id).and_then(first) {
            self.detach_locked(host, objects, id, pasid);
        }
        objects.bury_vdevice(id);
        let Some(device) = objects.device(id) else { return };
        match device.served {
            Served::Not(function) => host.domain_attach(function, None),
            Served::By(Unit::Host(iommu)) => host.dma_release(iommu.group),
            Served::By(Unit::Mock(device)) => self.mock.with(|mock| mock.device_free(device)),
        }
        objects.remove(id);
    }
}

/// Takes the DMA of a device's iommu_group.
fn claim<H: Host>(
    host: &H,
    function: Function,
    iommu: IommuInfo,
    owner: DmaOwner,
    unsafe_interrupts: bool,
) -> Result<(), Refusal> {
    if !iommu.isolated_msi {
        if !unsafe_interrupts {
            return Err(rule::BIND_INTERRUPTS);
        }
        let line = format_args!(
            "MSI interrupts are not secure, they cannot be isolated by the platform. Check that platform features \
             like interrupt remapping are enabled. Use the \"allow_unsafe_interrupts\" module parameter to override"
        );
        host.log(Level::Warn, Some(function), line);
    }
    if host.dma_claim(iommu.group, owner) { Ok(()) } else { Err(rule::BIND_OWNER) }
}
