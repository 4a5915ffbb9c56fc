//! The HWPT: a page table of an IOAS.
//!
//! For a device behind an IOMMU it is a domain that translates. For one without it translates nothing: while an IOAS has one,
//! its memory is pinned, and its physical addresses can be asked for.

use uapi::iommufd::{
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_HWPT_ALLOC_PASID,
    IOMMU_HWPT_DATA_NONE, IOMMU_HWPT_FAULT_ID_VALID, IommuHwptAlloc,
};

use super::call::Call;
use super::context::Context;
use super::domain::{Domain, Geometry};
use super::link::Table;
use super::nested::Nested;
use super::objects::{Object, Objects};
use super::unit::Unit;
use super::user_data::UserData;
use crate::mem::OutOfMemory;
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Refusal, RwLock};

/// What page tables of all kinds have in common.
pub(super) struct Head {
    /// Whether devices can be attached to it under a PASID.
    pub(super) pasid: bool,
    /// How many devices are attached to it, each once for every PASID, and what else needs it.
    pub(super) users: u32,
    /// The fault queue that it names.
    pub(super) fault_queue: Option<u32>,
}

/// A page table of an IOAS.
pub(super) struct Hwpt<H: Host> {
    pub(super) head: Head,
    /// The IOAS that it belongs to.
    pub(super) ioas: u32,
    pub(super) origin: Origin,
    pub(super) domain: Domain<H>,
    pub(super) geometry: Geometry,
    /// Whether the IOMMU keeps DMA through it coherent.
    pub(super) enforces_coherency: bool,
    /// Whether it can tell which pages were written.
    pub(super) tracks_dirty: bool,
    /// Whether page tables can be nested in it.
    pub(super) nest_parent: bool,
}

/// How a page table came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By attaching a device to an IOAS; it goes with the last device.
    Attach,
    /// By `IOMMU_HWPT_ALLOC`; it stays until it is destroyed.
    Request,
}

/// What a page table is made from.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) ioas: u32,
    /// The id of the device that it is made for.
    pub(super) device: u32,
    pub(super) origin: Origin,
    /// `IOMMU_HWPT_*`
    pub(super) flags: u32,
    pub(super) geometry: Geometry,
}

impl Head {
    /// That of a new page table, by its flags.
    pub(super) fn new(flags: u32) -> Self {
        Head { pasid: flags & IOMMU_HWPT_ALLOC_PASID != 0, users: 0, fault_queue: None }
    }
}

impl<H: Host> Context<H> {
    /// Makes a page table, which is not filled and not linked to its IOAS yet.
    pub(super) fn new_hwpt(&self, host: &H, objects: &mut Objects<H>, plan: Plan) -> Result<u32, Refusal> {
        let device = objects.device(plan.device).ok_or(rule::HWPT_ALLOC_DEVICE)?;
        let unit = device.unit();
        let ioas = objects.ioas_mut(plan.ioas).ok_or(rule::IOAS_UNKNOWN)?;
        ioas.hwpts.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let geometry = plan.geometry;
        let domain = self.domain_new(host, unit, geometry)?;
        let has = |flag| plan.flags & flag != 0;
        let hwpt = Hwpt {
            head: Head::new(plan.flags),
            ioas: plan.ioas,
            origin: plan.origin,
            domain,
            geometry,
            enforces_coherency: unit.is_some_and(Unit::enforces_coherency),
            tracks_dirty: has(IOMMU_HWPT_ALLOC_DIRTY_TRACKING),
            nest_parent: has(IOMMU_HWPT_ALLOC_NEST_PARENT),
        };
        let id = objects
            .insert(host, Object::Hwpt(hwpt))
            .inspect_err(|_| self.domain_free(host, domain, geometry))?;
        if let Some(ioas) = objects.ioas_mut(plan.ioas) {
            ioas.hwpts.push_reserved(id);
        }
        Ok(id)
    }

    /// Fills a page table with all that is mapped in its IOAS, and what will be; with the first one, it is pinned.
    pub(super) fn link_hwpt(&self, host: &H, objects: &mut Objects<H>, id: u32) -> Result<(), Refusal> {
        let hwpt = objects.hwpt(id).ok_or(rule::HWPT_UNKNOWN)?;
        let table = Table { hwpt: id, domain: hwpt.domain, geometry: hwpt.geometry };
        let ioas = objects.ioas(hwpt.ioas)?;
        self.with_areas(host, ioas, |areas, linker| areas.add_table(linker, table))
    }

    /// Takes away a page table that no device is attached to, linked or not.
    pub(super) fn destroy_hwpt(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        let Some(hwpt) = objects.hwpt(id) else { return };
        let (ioas, queue) = (hwpt.ioas, hwpt.head.fault_queue);
        objects.leave_fault_queue(queue);
        if let Some(ioas) = objects.ioas_mut(ioas) {
            if let Some(at) = ioas.hwpts.iter().position(|listed| *listed == id) {
                ioas.hwpts.remove(at);
            }
            self.with_areas(host, ioas, |areas, linker| areas.remove_table(linker, id));
        }
        if let Some(Object::Hwpt(hwpt)) = objects.remove(id) {
            self.domain_free(host, hwpt.domain, hwpt.geometry);
        }
    }

    /// A device has left a page table: one that attaching has made goes with the last.
    pub(super) fn put_hwpt(&self, host: &H, objects: &mut Objects<H>, id: u32) {
        if objects.hwpt(id).is_some_and(|hwpt| hwpt.head.users == 0 && hwpt.origin == Origin::Attach) {
            self.destroy_hwpt(host, objects, id);
        }
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
        let data = UserData {
            memory: call.caller.memory,
            kind: command.data_type,
            address: command.data_uptr,
            length: command.data_len,
        };
        self.objects.write(|objects| {
            let device = objects.device(command.dev_id).ok_or(rule::HWPT_ALLOC_DEVICE)?;
            let id = match objects.get(command.pt_id) {
                Some(Object::Ioas(_)) => {
                    let geometry = check_plan(&command, device.unit(), &data)?;
                    self.hwpt_alloc_paging(call.host, objects, &command, geometry)?
                }
                Some(Object::Hwpt(_)) => {
                    let nested = Nested::in_table(objects, device, &command, &data)?;
                    objects.insert_nested(call.host, nested)?
                }
                Some(Object::Viommu(_)) => {
                    let nested = Nested::in_viommu(objects, device, &command, &data)?;
                    objects.insert_nested(call.host, nested)?
                }
                _ => return Err(rule::HWPT_ALLOC_PARENT),
            };
            argument.value.out_hwpt_id = id;
            let named = match command.flags & IOMMU_HWPT_FAULT_ID_VALID {
                0 => Ok(()),
                _ => objects.name_fault_queue(id, command.fault_id),
            };
            named.and_then(|()| call.reply(&argument)).inspect_err(|_| {
                self.destroy_hwpt(call.host, objects, id);
                objects.remove_nested(id);
            })
        })
    }

    /// Makes a page table of an IOAS, and links it.
    fn hwpt_alloc_paging(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        command: &IommuHwptAlloc,
        geometry: Geometry,
    ) -> Result<u32, Refusal> {
        let IommuHwptAlloc { pt_id: ioas, dev_id: device, flags, .. } = *command;
        let plan = Plan { ioas, device, origin: Origin::Request, flags, geometry };
        let id = self.new_hwpt(host, objects, plan)?;
        let linked = self.link_hwpt(host, objects, id);
        linked.inspect_err(|_| self.destroy_hwpt(host, objects, id)).map(|()| id)
    }
}

/// Checks that a page table of an IOAS can be made as it is asked for; what it will translate.
fn check_plan(
    command: &IommuHwptAlloc,
    unit: Option<Unit>,
    data: &UserData<'_>,
) -> Result<Geometry, Refusal> {
    let Some(unit) = unit else {
        return match command.flags & !IOMMU_HWPT_FAULT_ID_VALID == 0 && command.data_len == 0 {
            true => Ok(Geometry::UNTRANSLATED),
            false => Err(rule::HWPT_ALLOC_FLAGS_NOIOMMU),
        };
    };
    const PARENT_WITH_FAULTS: u32 = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_FAULT_ID_VALID;
    let known = IOMMU_HWPT_ALLOC_DIRTY_TRACKING
        | IOMMU_HWPT_FAULT_ID_VALID
        | IOMMU_HWPT_ALLOC_PASID
        | if unit.nests() { IOMMU_HWPT_ALLOC_NEST_PARENT } else { 0 };
    let has = |flags| command.flags & flags == flags;
    if command.flags & !known != 0 {
        return Err(rule::HWPT_ALLOC_FLAGS);
    }
    if has(IOMMU_HWPT_ALLOC_DIRTY_TRACKING) && !unit.dirty_tracking() {
        return Err(rule::HWPT_ALLOC_DIRTY);
    }
    if has(PARENT_WITH_FAULTS) {
        return Err(guest::HWPT_ALLOC_PARENT_FAULTS);
    }
    unit.geometry(Some(data).filter(|data| data.length > 0))
}

impl<H: Host> Objects<H> {
    pub(super) fn head(&self, id: u32) -> Option<&Head> {
        match self.get(id)? {
            Object::Hwpt(hwpt) => Some(&hwpt.head),
            Object::Nested(nested) => Some(&nested.head),
            _ => None,
        }
    }

    pub(super) fn head_mut(&mut self, id: u32) -> Option<&mut Head> {
        match self.get_mut(id)? {
            Object::Hwpt(hwpt) => Some(&mut hwpt.head),
            Object::Nested(nested) => Some(&mut nested.head),
            _ => None,
        }
    }

    /// A page table of an IOAS, or the one that a nested page table is nested in.
    pub(super) fn paging(&self, id: u32) -> Option<&Hwpt<H>> {
        match self.get(id)? {
            Object::Hwpt(hwpt) => Some(hwpt),
            Object::Nested(nested) => self.hwpt(nested.parent),
            _ => None,
        }
    }

    /// Something needs a page table, so many times more.
    pub(super) fn hold_table(&mut self, id: u32, times: u32) {
        if let Some(head) = self.head_mut(id) {
            head.users = head.users.saturating_add(times);
        }
    }

    /// Something needs it no longer.
    pub(super) fn put_table(&mut self, id: u32, times: u32) {
        if let Some(head) = self.head_mut(id) {
            head.users = head.users.saturating_sub(times);
        }
    }

    /// Has a page table name the fault queue that faults behind it go to.
    fn name_fault_queue(&mut self, id: u32, queue_id: u32) -> Result<(), Refusal> {
        let queue = self.fault_queue_mut(queue_id).ok_or(rule::HWPT_ALLOC_FAULT_QUEUE)?;
        queue.hwpts = queue.hwpts.saturating_add(1);
        if let Some(head) = self.head_mut(id) {
            head.fault_queue = Some(queue_id);
        }
        Ok(())
    }

    /// A page table that is gone named this fault queue.
    pub(super) fn leave_fault_queue(&mut self, queue: Option<u32>) {
        if let Some(queue) = queue.and_then(|queue| self.fault_queue_mut(queue)) {
            queue.hwpts = queue.hwpts.saturating_sub(1);
        }
    }
}
