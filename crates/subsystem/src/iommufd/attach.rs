//! Attaching devices to page tables, and leaving them.
//!
//! All devices of an iommu_group that are bound here share their page table: the first one to be attached brings the
//! group there, the others join it one by one, and replacing it moves them all.

use super::areas::Areas;
use super::context::Context;
use super::device::{Attachment, Device, DeviceObject, NO_PASID};
use super::domain::{Domain, Geometry};
use super::fault_queue::Via;
use super::hwpt::{Hwpt, Origin, Plan};
use super::nested::Nested;
use super::objects::{Object, Objects};
use super::unit::Unit;
use crate::mem::OutOfMemory;
use crate::rules::{guest, iommufd as rule, selftest as test_rule};
use crate::{Host, Mutex, Refusal, RwLock};

/// A device under a PASID.
#[derive(Clone, Copy)]
struct Slot {
    device: u32,
    pasid: u32,
}

impl<H: Host> Context<H> {
    /// Attaches a device, under a PASID or none, to the page table of this id, or to one of the IOAS of this id; a device
    /// that is attached changes over. Returns the id of the page table. An emulated device has neither page tables nor
    /// PASIDs: it is attached to an IOAS as such.
    ///
    /// Refused if there is no such object, if the page table does not suit the device, or if what is mapped there cannot be
    /// pinned. The device stays attached as it was then.
    pub fn attach(&self, host: &H, device: DeviceObject, pasid: u32, pt_id: u32) -> Result<u32, Refusal> {
        self.objects.write(|objects| match objects.get(device.id) {
            Some(Object::Access(_)) => self.attach_access(host, objects, device.id, pt_id).map(|()| pt_id),
            _ => self.attach_locked(host, objects, device.id, pasid, pt_id),
        })
    }

    pub(super) fn attach_locked(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        device: u32,
        pasid: u32,
        pt_id: u32,
    ) -> Result<u32, Refusal> {
        let slot = Slot { device, pasid };
        objects.device(device).ok_or(rule::DEVICE_GONE)?;
        match objects.get(pt_id).ok_or(rule::ATTACH_UNKNOWN)? {
            Object::Hwpt(_) | Object::Nested(_) => self.change(host, objects, slot, pt_id).map(|()| pt_id),
            Object::Ioas(_) => self.attach_to_ioas(host, objects, slot, pt_id),
            _ => Err(rule::ATTACH_TYPE),
        }
    }

    /// Checks that an id is one that a device can be attached to.
    ///
    /// Refused as [`Context::attach`] refuses it.
    pub fn page_table(&self, pt_id: u32) -> Result<(), Refusal> {
        self.objects.read(|objects| objects.check_page_table(pt_id))
    }

    /// Detaches a device, under a PASID or none, if it is attached.
    pub fn detach(&self, host: &H, device: DeviceObject, pasid: u32) {
        self.objects.write(|objects| match objects.get(device.id) {
            Some(Object::Access(_)) => self.detach_access(host, objects, device.id),
            _ => self.detach_locked(host, objects, device.id, pasid),
        });
    }

    pub(super) fn detach_locked(&self, host: &H, objects: &mut Objects<H>, device: u32, pasid: u32) {
        if let Some(hwpt) = self.leave(host, objects, Slot { device, pasid }) {
            self.put_hwpt(host, objects, hwpt);
        }
    }

    /// Attaches to one of the page tables that attaching has made for the IOAS, the first that suits the device; if none
    /// does, to a new one.
    fn attach_to_ioas(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        slot: Slot,
        ioas: u32,
    ) -> Result<u32, Refusal> {
        let mut tried = 0;
        while let Some(id) = objects.ioas(ioas)?.hwpts.get(tried).copied() {
            tried = tried.saturating_add(1);
            if objects.hwpt(id).is_none_or(|hwpt| hwpt.origin == Origin::Request) {
                continue;
            }
            match self.change(host, objects, slot, id) {
                Err(refusal) if refusal.errno() == uapi::Errno::EINVAL => {}
                done => return done.map(|()| id),
            }
        }
        let unit = objects.device(slot.device).and_then(Device::unit);
        let geometry = unit.map_or(Ok(Geometry::UNTRANSLATED), |unit| unit.geometry(None))?;
        let plan = Plan { ioas, device: slot.device, origin: Origin::Attach, flags: 0, geometry };
        let id = self.new_hwpt(host, objects, plan)?;
        // A device that is attached already stays so until the new page table is filled.
        let replaces = objects.device(slot.device).and_then(|device| device.table(slot.pasid)).is_some();
        let done = if replaces {
            self.link_hwpt(host, objects, id).and_then(|()| self.change(host, objects, slot, id))
        } else {
            self.change(host, objects, slot, id).and_then(|()| {
                self.link_hwpt(host, objects, id).inspect_err(|_| {
                    self.leave(host, objects, slot);
                })
            })
        };
        done.map(|()| id).inspect_err(|_| self.destroy_hwpt(host, objects, id))
    }

    /// Attaches to a page table, or changes over to it.
    fn change(&self, host: &H, objects: &mut Objects<H>, slot: Slot, id: u32) -> Result<(), Refusal> {
        match objects.device(slot.device).and_then(|device| device.table(slot.pasid)) {
            Some(before) if before == id => Ok(()),
            Some(before) => {
                self.replace(host, objects, slot, before, id)?;
                self.put_hwpt(host, objects, before);
                Ok(())
            }
            None => self.enter(host, objects, slot, id),
        }
    }

    /// Attaches a device that is not attached yet.
    fn enter(&self, host: &H, objects: &mut Objects<H>, slot: Slot, id: u32) -> Result<(), Refusal> {
        let device = objects.device_mut(slot.device).ok_or(rule::DEVICE_GONE)?;
        device.attached.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        let (first, window) = (group_table(objects, slot).is_none(), window(objects, slot));
        if group_table(objects, slot).is_some_and(|before| before != id) {
            return Err(rule::ATTACH_GROUP);
        }
        let areas = &objects.ioas(objects.paging(id).ok_or(rule::ATTACH_UNKNOWN)?.ioas)?.areas;
        if let Some(window) = window {
            areas.with(|areas| areas.keep_free(host, window, slot.device, rule::ATTACH_RESERVED))?;
        }
        if first
            && let Err(refusal) = check_suits(objects, slot, id, rule::ATTACH_NOIOMMU_TABLE)
                .and_then(|()| self.translate(host, objects, slot, Some(id)))
        {
            if window.is_some() {
                areas.with(|areas| areas.reserved.remove(slot.device));
            }
            return Err(refusal);
        }
        let guest = objects.guest(slot.device, id);
        if let Some(device) = objects.device_mut(slot.device) {
            device.attached.push_reserved(Attachment { pasid: slot.pasid, hwpt: id, guest });
        }
        objects.hold_table(id, 1);
        Ok(())
    }

    /// Moves a device that is attached, and with it all of its iommu_group, from one page table to another.
    fn replace(
        &self,
        host: &H,
        objects: &mut Objects<H>,
        slot: Slot,
        before: u32,
        id: u32,
    ) -> Result<(), Refusal> {
        let window = window(objects, slot);
        let old = objects.paging(before).ok_or(rule::ATTACH_UNKNOWN)?;
        let new = objects.paging(id).ok_or(rule::ATTACH_UNKNOWN)?;
        let (from, to) = (&objects.ioas(old.ioas)?.areas, &objects.ioas(new.ioas)?.areas);
        let members =
            || objects.siblings(slot.device).filter(|(_, device)| device.table(slot.pasid).is_some());
        let give_up = |areas: &H::Mutex<Areas<H>>| {
            areas.with(|areas| members().for_each(|(member, _)| areas.reserved.remove(member)));
        };
        let moves = window.filter(|_| old.ioas != new.ioas);
        let kept = moves.map_or(Ok(()), |window| {
            to.with(|areas| {
                members()
                    .try_for_each(|(member, _)| areas.keep_free(host, window, member, rule::ATTACH_RESERVED))
            })
        });
        // Linux finds out too late for the errno of a first attach.
        let done = kept
            .and_then(|()| check_suits(objects, slot, id, rule::REPLACE_NOIOMMU_TABLE))
            .and_then(|()| self.translate(host, objects, slot, Some(id)));
        if let Err(refusal) = done {
            if window.is_some() {
                give_up(to);
            }
            return Err(refusal);
        }
        if moves.is_some() {
            give_up(from);
        }
        objects.end_attachment(slot, before);
        let guest = objects.guest(slot.device, id);
        let mut moved = 0_u32;
        objects.for_each_sibling(slot.device, |device| {
            if let Some(attachment) = device.attached.iter_mut().find(|it| it.pasid == slot.pasid) {
                (attachment.hwpt, attachment.guest) = (id, guest);
                moved = moved.saturating_add(1);
            }
        });
        objects.put_table(before, moved);
        objects.hold_table(id, moved);
        Ok(())
    }

    /// Detaches a device; the page table that it was attached to.
    fn leave(&self, host: &H, objects: &mut Objects<H>, slot: Slot) -> Option<u32> {
        let device = objects.device_mut(slot.device)?;
        let at = device.attached.iter().position(|attachment| attachment.pasid == slot.pasid)?;
        let id = device.attached.remove(at)?.hwpt;
        if group_table(objects, slot).is_none() {
            let blocked = self.translate(host, objects, slot, None);
            debug_assert!(blocked.is_ok(), "a unit keeps a device attached");
            objects.end_attachment(slot, id);
        }
        objects.put_table(id, 1);
        if slot.pasid == NO_PASID
            && let Some(paging) = objects.paging(id)
            && let Ok(ioas) = objects.ioas(paging.ioas)
        {
            ioas.areas.with(|areas| areas.reserved.remove(slot.device));
        }
        Some(id)
    }

    /// Has the DMA of a device and its iommu_group go through a page table, or through none. No device of the host has DMA
    /// with a PASID, and none of the self-tests has any.
    fn translate(
        &self,
        host: &H,
        objects: &Objects<H>,
        slot: Slot,
        table: Option<u32>,
    ) -> Result<(), Refusal> {
        match objects.device(slot.device).and_then(Device::unit) {
            Some(Unit::Host(iommu)) if slot.pasid == NO_PASID => {
                let domain = table.and_then(|table| match objects.paging(table)?.domain {
                    Domain::Host(domain) => Some(domain),
                    Domain::Mock(_) => None,
                });
                host.group_attach(iommu.group, domain);
                Ok(())
            }
            Some(Unit::Mock(device)) => {
                self.mock.with(|mock| mock.set_pasid(device, slot.pasid, table.is_some()))
            }
            Some(Unit::Host(_)) | None => Ok(()),
        }
    }
}

impl<H: Host> Objects<H> {
    /// Checks that an id is one that a device can be attached to.
    pub(super) fn check_page_table(&self, pt_id: u32) -> Result<(), Refusal> {
        match self.get(pt_id).ok_or(rule::ATTACH_UNKNOWN)? {
            Object::Hwpt(_) | Object::Nested(_) | Object::Ioas(_) => Ok(()),
            _ => Err(rule::ATTACH_TYPE),
        }
    }

    /// The vIOMMU that a page table is of, and what its guest calls a device.
    fn guest(&self, device: u32, table: u32) -> Option<(u32, u64)> {
        let Object::Nested(Nested { viommu: Some(viommu), .. }) = self.get(table)? else { return None };
        Some((*viommu, self.virt_id(*viommu, device)?))
    }

    /// The attachment of an iommu_group to a page table is over.
    fn end_attachment(&mut self, slot: Slot, table: u32) {
        if let Some(unit) = self.device(slot.device).and_then(Device::unit) {
            self.forget_faults(Via { group: unit.group(), pasid: slot.pasid }, table);
        }
    }
}

/// What a device keeps free in the IOAS that it is attached to.
fn window<H: Host>(objects: &Objects<H>, slot: Slot) -> Option<(u64, u64)> {
    objects.device(slot.device)?.unit().filter(|_| slot.pasid == NO_PASID)?.window()
}

/// The page table that devices of the iommu_group are attached to.
fn group_table<H: Host>(objects: &Objects<H>, slot: Slot) -> Option<u32> {
    objects.siblings(slot.device).find_map(|(_, device)| device.table(slot.pasid))
}

/// Checks that a page table suits a device: it is refused with `noiommu` if it translates nothing, and the device's IOMMU
/// has to be told.
fn check_suits<H: Host>(
    objects: &Objects<H>,
    slot: Slot,
    table: u32,
    noiommu: Refusal,
) -> Result<(), Refusal> {
    let head = objects.head(table).ok_or(rule::ATTACH_UNKNOWN)?;
    let plain = group_table(objects, Slot { pasid: NO_PASID, ..slot }).and_then(|id| objects.head(id));
    let with_pasid = |(_, device): (u32, &Device)| device.attached.iter().any(|it| it.pasid != NO_PASID);
    let agree = match slot.pasid {
        NO_PASID => head.pasid || !objects.siblings(slot.device).any(with_pasid),
        _ => head.pasid && plain.is_none_or(|plain| plain.pasid),
    };
    if !agree {
        return Err(rule::ATTACH_PASID_TABLE);
    }
    let Some(unit) = objects.device(slot.device).and_then(Device::unit) else { return Ok(()) };
    if !unit.takes_pasid(slot.pasid) {
        return Err(guest::ATTACH_PASID_WIDTH);
    }
    let paging = objects.paging(table).ok_or(rule::ATTACH_UNKNOWN)?;
    match (unit, paging.domain) {
        _ if paging.geometry.aperture.is_none() => return Err(noiommu),
        (Unit::Host(_), Domain::Mock(_)) | (Unit::Mock(_), Domain::Host(_)) => {
            return Err(test_rule::UNITS);
        }
        // No device of the host has page faults.
        (Unit::Host(_), _) if head.fault_queue.is_some() && slot.pasid == NO_PASID => {
            return Err(rule::ATTACH_FAULTS);
        }
        _ => {}
    }
    match objects.get(table) {
        Some(Object::Hwpt(Hwpt { tracks_dirty: true, .. })) if !unit.dirty_tracking() => {
            Err(test_rule::NO_DIRTY)
        }
        Some(Object::Nested(Nested { viommu: Some(viommu), .. }))
            if slot.pasid == NO_PASID && objects.virt_id(*viommu, slot.device).is_none() =>
        {
            Err(guest::ATTACH_VDEVICE)
        }
        _ => Ok(()),
    }
}
