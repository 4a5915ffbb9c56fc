//! The vIOMMU: a slice of an IOMMU for a guest, with what belongs to it: page tables nested in the one that holds the guest's
//! memory, virtual devices, queues of events, and queues that the hardware works on.

use uapi::iommufd::IommuViommuAlloc;

use super::call::Call;
use super::context::Context;
use super::device::Device;
use super::objects::{Object, Objects};
use super::selftest::nesting::MockViommu;
use super::user_data::UserData;
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Refusal, RwLock};

/// A vIOMMU.
pub(super) struct Viommu {
    /// `IOMMU_VIOMMU_TYPE_*`
    pub(super) kind: u32,
    /// The page table in which those of the guest are nested.
    pub(super) parent: u32,
    /// What it is in use by: nested page tables, virtual devices, queues, and programs that have its memory mapped.
    pub(super) users: u32,
    /// What the driver of its IOMMU keeps of it.
    pub(super) driver: MockViommu,
}

impl<H: Host> Context<H> {
    /// `IOMMU_VIOMMU_ALLOC`
    pub(super) fn viommu_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuViommuAlloc>()?;
        let command = argument.value;
        if command.flags != 0 || command.type_ == 0 {
            return Err(rule::VIOMMU_FIELDS);
        }
        self.objects.write(|objects| {
            let device = objects.device(command.dev_id).ok_or(rule::VIOMMU_DEVICE)?;
            if !device.has_viommu(command.type_) {
                return Err(rule::VIOMMU_UNSUPPORTED);
            }
            let parent = objects.hwpt(command.hwpt_id).ok_or(rule::HWPT_UNKNOWN)?;
            if !parent.nest_parent {
                return Err(guest::VIOMMU_PARENT);
            }
            let data = UserData {
                memory: call.caller.memory,
                kind: command.type_,
                address: command.data_uptr,
                length: command.data_len,
            };
            let driver = MockViommu::new(call.host, objects, Some(data).filter(|data| data.length > 0))?;
            let viommu = Viommu { kind: command.type_, parent: command.hwpt_id, users: 0, driver };
            let id = objects.insert(call.host, Object::Viommu(viommu))?;
            objects.hold_table(command.hwpt_id, 1);
            argument.value.out_viommu_id = id;
            call.reply(&argument).inspect_err(|_| objects.remove_viommu(id))
        })
    }
}

impl Device {
    /// Whether its IOMMU offers vIOMMUs of a kind.
    fn has_viommu(&self, kind: u32) -> bool {
        self.unit().is_some_and(|unit| unit.has_viommu(kind))
    }

    /// Checks that its IOMMU is the one of a vIOMMU of this kind.
    pub(super) fn check_viommu(&self, kind: u32) -> Result<(), Refusal> {
        if self.has_viommu(kind) { Ok(()) } else { Err(guest::VIOMMU_OTHER_IOMMU) }
    }
}

impl<H: Host> Objects<H> {
    pub(super) fn viommu(&self, id: u32) -> Result<&Viommu, Refusal> {
        match self.get(id) {
            Some(Object::Viommu(viommu)) => Ok(viommu),
            _ => Err(rule::VIOMMU_UNKNOWN),
        }
    }

    pub(super) fn viommu_mut(&mut self, id: u32) -> Option<&mut Viommu> {
        match self.get_mut(id) {
            Some(Object::Viommu(viommu)) => Some(viommu),
            _ => None,
        }
    }

    /// Something makes use of a vIOMMU.
    pub(super) fn hold_viommu(&mut self, id: u32) {
        if let Some(viommu) = self.viommu_mut(id) {
            viommu.users = viommu.users.saturating_add(1);
        }
    }

    /// Something makes no use of it any more.
    pub(super) fn put_viommu(&mut self, id: u32) {
        if let Some(viommu) = self.viommu_mut(id) {
            viommu.users = viommu.users.saturating_sub(1);
        }
    }

    /// Takes a vIOMMU away that is in no use.
    pub(super) fn remove_viommu(&mut self, id: u32) {
        if let Some(Object::Viommu(viommu)) = self.remove(id) {
            self.put_table(viommu.parent, 1);
        }
    }
}
