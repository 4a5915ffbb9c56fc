//! The HWPT: a page table of an IOAS.
//!
//! For a device behind an IOMMU it is a domain that translates. For one without it translates nothing: while an IOAS has one,
//! its memory is pinned, and its physical addresses can be asked for.

use uapi::iommufd::{
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_DATA_NONE, IOMMU_HWPT_FAULT_ID_VALID,
    IommuHwptAlloc,
};

use super::call::Call;
use super::context::Context;
use super::domain::{Domain, Geometry};
use super::link::Table;
use super::objects::{Object, Objects};
use super::unit::Unit;
use crate::mem::OutOfMemory;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal, RwLock};

/// A page table.
pub(super) struct Hwpt<H: Host> {
    /// The IOAS that it belongs to.
    pub(super) ioas: u32,
    pub(super) origin: Origin,
    pub(super) domain: Domain<H>,
    pub(super) geometry: Geometry,
    /// Whether the IOMMU keeps DMA through it coherent.
    pub(super) enforces_coherency: bool,
    /// Whether it can tell which pages were written.
    pub(super) tracks_dirty: bool,
    /// Whether devices can be attached to it under a PASID.
    pub(super) pasid: bool,
    /// How many devices are attached to it, each once for every PASID.
    pub(super) users: u32,
    /// The fault queue that it names.
    pub(super) fault_queue: Option<u32>,
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
}

impl<H: Host> Context<H> {
    /// Makes a page table, which is not filled and not linked to its IOAS yet.
    pub(super) fn new_hwpt(&self, host: &H, objects: &mut Objects<H>, plan: Plan) -> Result<u32, Refusal> {
        let device = objects.device(plan.device).ok_or(rule::HWPT_ALLOC_DEVICE)?;
        let unit = device.unit();
        let ioas = objects.ioas_mut(plan.ioas).ok_or(rule::IOAS_UNKNOWN)?;
        ioas.hwpts.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let (domain, geometry) = self.domain_new(host, unit)?;
        let has = |flag| plan.flags & flag != 0;
        let hwpt = Hwpt {
            ioas: plan.ioas,
            origin: plan.origin,
            domain,
            geometry,
            enforces_coherency: unit.is_some_and(Unit::enforces_coherency),
            tracks_dirty: has(IOMMU_HWPT_ALLOC_DIRTY_TRACKING),
            pasid: has(IOMMU_HWPT_ALLOC_PASID),
            users: 0,
            fault_queue: None,
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
        let (ioas, queue) = (hwpt.ioas, hwpt.fault_queue);
        if let Some(queue) = queue.and_then(|queue| objects.fault_queue_mut(queue)) {
            queue.hwpts = queue.hwpts.saturating_sub(1);
        }
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
        if objects.hwpt(id).is_some_and(|hwpt| hwpt.users == 0 && hwpt.origin == Origin::Attach) {
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
        self.objects.write(|objects| {
            let device = objects.device(command.dev_id).ok_or(rule::HWPT_ALLOC_DEVICE)?;
            match objects.get(command.pt_id) {
                Some(Object::Ioas(_)) => check_flags(&command, device.unit())?,
                Some(Object::Hwpt(_)) => return Err(check_nested(&command, device.unit())),
                Some(_) | None => {
                    return Err(rule::HWPT_ALLOC_PARENT);
                }
            }
            let plan = Plan {
                ioas: command.pt_id,
                device: command.dev_id,
                origin: Origin::Request,
                flags: command.flags,
            };
            let id = self.new_hwpt(call.host, objects, plan)?;
            argument.value.out_hwpt_id = id;
            let linked = self.link_hwpt(call.host, objects, id);
            let named = linked.and_then(|()| match command.flags & IOMMU_HWPT_FAULT_ID_VALID {
                0 => Ok(()),
                _ => name_fault_queue(objects, id, command.fault_id),
            });
            named
                .and_then(|()| call.reply(&argument))
                .inspect_err(|_| self.destroy_hwpt(call.host, objects, id))
        })
    }
}

/// Checks that a page table can be made as it is asked for.
fn check_flags(command: &IommuHwptAlloc, unit: Option<Unit>) -> Result<(), Refusal> {
    let Some(unit) = unit else {
        return match command.flags & !IOMMU_HWPT_FAULT_ID_VALID == 0 && command.data_len == 0 {
            true => Ok(()),
            false => Err(rule::HWPT_ALLOC_FLAGS_NOIOMMU),
        };
    };
    const KNOWN: u32 = IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
    let dirty = command.flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING != 0;
    if command.flags & !KNOWN != 0 || command.data_len != 0 {
        return Err(rule::HWPT_ALLOC_FLAGS);
    }
    if dirty && !unit.dirty_tracking() { Err(rule::HWPT_ALLOC_DIRTY) } else { Ok(()) }
}

/// Why a page table cannot be nested in another: no IOMMU here makes one that others are nested in.
fn check_nested(command: &IommuHwptAlloc, unit: Option<Unit>) -> Refusal {
    const KNOWN: u32 = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
    match unit {
        Some(_) if command.flags & !KNOWN == 0 && command.data_len != 0 => rule::HWPT_ALLOC_NESTED_PARENT,
        _ => rule::HWPT_ALLOC_NESTED,
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
