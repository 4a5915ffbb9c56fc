//! The objects of a context.

use uapi::iommufd::IommuDestroy;

use super::access::Access;
use super::call::Call;
use super::context::Context;
use super::device::Device;
use super::hw_queue::HwQueue;
use super::hwpt::Hwpt;
use super::ioas::Ioas;
use super::nested::Nested;
use super::queue::Queue;
use super::selftest::Selftest;
use super::vdevice::Vdevice;
use super::viommu::Viommu;
use crate::mem::{IdError, IdMap};
use crate::rules::{guest, iommufd as rule};
use crate::{Account, Host, Refusal, RwLock};

/// The highest identifier of an object.
const LAST_ID: u32 = i32::MAX as u32;

/// An object of a context.
pub(super) enum Object<H: Host> {
    Device(Device),
    Access(Access),
    Ioas(Ioas<H>),
    Hwpt(Hwpt<H>),
    Nested(Nested),
    Queue(Queue),
    Viommu(Viommu),
    Vdevice(Vdevice),
    HwQueue(HwQueue),
    Selftest(Selftest),
    /// What only keeps an id from being given out again.
    Tombstone,
}

/// The objects of a context by identifier, and what belongs to the context as a whole.
pub(super) struct Objects<H: Host> {
    table: IdMap<Object<H>>,
    /// Against which counter memory is charged that is mapped without CAP_IPC_LOCK.
    pub(super) account: Account,
    /// The IOAS that container ioctls work on.
    pub(super) compat_ioas: Option<u32>,
    /// Whether a group without an IOMMU has ever joined it: then it is a container without an IOMMU for good.
    pub(super) noiommu_mode: bool,
}

impl<H: Host> Objects<H> {
    pub(super) const fn new(account: Account) -> Self {
        Self { table: IdMap::new(1, LAST_ID), account, compat_ioas: None, noiommu_mode: false }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Adds an object under the lowest identifier that is free.
    pub(super) fn insert(&mut self, host: &H, object: Object<H>) -> Result<u32, Refusal> {
        self.table.insert(host, object).map_err(|error| match error {
            IdError::OutOfMemory => rule::NO_MEMORY,
            IdError::Exhausted => rule::OBJECTS_EXHAUSTED,
        })
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, id: u32) -> Option<Object<H>> {
        if self.compat_ioas == Some(id) {
            self.compat_ioas = None;
        }
        self.table.remove(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Object<H>> {
        self.table.get(id).filter(|object| !matches!(object, Object::Tombstone))
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Object<H>> {
        self.table.get_mut(id).filter(|object| !matches!(object, Object::Tombstone))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Object<H>)> {
        self.table.iter()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.table.iter().map(|(id, _)| id)
    }

    pub(super) fn all_ioas(&self) -> impl Iterator<Item = &Ioas<H>> {
        self.table.iter().filter_map(|(_, object)| match object {
            Object::Ioas(ioas) => Some(ioas),
            _ => None,
        })
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = (u32, &Device)> {
        self.table.iter().filter_map(|(id, object)| match object {
            Object::Device(device) => Some((id, device)),
            _ => None,
        })
    }

    pub(super) fn device(&self, id: u32) -> Option<&Device> {
        match self.table.get(id) {
            Some(Object::Device(device)) => Some(device),
            _ => None,
        }
    }

    pub(super) fn device_mut(&mut self, id: u32) -> Option<&mut Device> {
        match self.table.get_mut(id) {
            Some(Object::Device(device)) => Some(device),
            _ => None,
        }
    }

    pub(super) fn ioas(&self, id: u32) -> Result<&Ioas<H>, Refusal> {
        match self.table.get(id) {
            Some(Object::Ioas(ioas)) => Ok(ioas),
            _ => Err(rule::IOAS_UNKNOWN),
        }
    }

    /// The IOAS that container ioctls work on.
    pub(super) fn compat(&self) -> Result<&Ioas<H>, Refusal> {
        self.ioas(self.compat_ioas.ok_or(rule::VFIO_IOAS_NONE)?)
    }

    pub(super) fn ioas_mut(&mut self, id: u32) -> Option<&mut Ioas<H>> {
        match self.table.get_mut(id) {
            Some(Object::Ioas(ioas)) => Some(ioas),
            _ => None,
        }
    }

    pub(super) fn hwpt(&self, id: u32) -> Option<&Hwpt<H>> {
        match self.table.get(id) {
            Some(Object::Hwpt(hwpt)) => Some(hwpt),
            _ => None,
        }
    }
}

impl<H: Host> Object<H> {
    /// Why a program cannot destroy it.
    fn check_unused(&self) -> Result<(), Refusal> {
        match self {
            Object::Device(_) | Object::Access(_) => Err(rule::DESTROY_DEVICE),
            Object::Ioas(ioas) if ioas.is_in_use() => Err(rule::DESTROY_IOAS_IN_USE),
            Object::Hwpt(Hwpt { head, .. }) | Object::Nested(Nested { head, .. }) if head.users > 0 => {
                Err(rule::DESTROY_HWPT_IN_USE)
            }
            Object::Viommu(viommu) if viommu.users > 0 => Err(guest::DESTROY_VIOMMU_IN_USE),
            Object::HwQueue(queue) if queue.users > 0 => Err(guest::DESTROY_HW_QUEUE_IN_USE),
            Object::Queue(queue) => queue.check_unused(),
            _ => Ok(()),
        }
    }
}

impl<H: Host> Context<H> {
    /// `IOMMU_DESTROY`
    pub(super) fn destroy(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let id = call.take::<IommuDestroy>()?.value.id;
        self.objects.write(|objects| {
            objects.get(id).ok_or(rule::DESTROY_UNKNOWN)?.check_unused()?;
            self.destroy_locked(call.host, objects, id);
            Ok(())
        })
    }

    /// Destroys every object, what uses others first.
    pub(super) fn destroy_all(&self, host: &H, objects: &mut Objects<H>) {
        while let Some(last) = objects.ids().last() {
            let before = objects.len();
            for id in 1..=last {
                match objects.get(id) {
                    Some(Object::Device(_) | Object::Access(_)) => self.unbind_locked(host, objects, id),
                    Some(object) if object.check_unused().is_err() => {}
                    _ => self.destroy_locked(host, objects, id),
                }
            }
            debug_assert!(objects.len() < before, "objects use each other in a circle");
            if objects.len() == before {
                return;
            }
        }
    }

    /// Takes away an object that nothing uses.
    fn destroy_locked(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        match objects.get(id) {
            Some(Object::Ioas(_)) => self.destroy_ioas(host, objects, id),
            Some(Object::Hwpt(_)) => self.destroy_hwpt(host, objects, id),
            Some(Object::Nested(_)) => objects.remove_nested(id),
            Some(Object::Queue(_)) => objects.remove_queue(id),
            Some(Object::Viommu(_)) => objects.remove_viommu(id),
            Some(Object::Vdevice(_)) => objects.remove_vdevice(id),
            Some(Object::HwQueue(_)) => self.destroy_hw_queue(host, objects, id),
            Some(Object::Selftest(_)) => self.destroy_selftest(host, objects, id),
            Some(Object::Device(_) | Object::Access(_) | Object::Tombstone) | None => {
                objects.remove(id);
            }
        }
    }

    /// Takes away an IOAS without page tables, with everything that is mapped in it.
    pub(super) fn destroy_ioas(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        if let Some(Object::Ioas(ioas)) = objects.remove(id) {
            let unmapped = self.with_areas(host, &ioas, |areas, linker| areas.unmap_all(linker, &mut 0));
            debug_assert!(unmapped.is_ok(), "an IOAS that is in use was destroyed");
        }
    }
}
