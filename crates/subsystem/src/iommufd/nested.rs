//! The nested page table: that of a guest, which translates to addresses of the page table that holds the guest's memory. What
//! is in it only its IOMMU knows.

use uapi::iommufd::{IOMMU_HWPT_ALLOC_PASID, IOMMU_HWPT_FAULT_ID_VALID, IommuHwptAlloc};

use super::device::Device;
use super::hwpt::Head;
use super::objects::{Object, Objects};
use super::selftest::nesting::MockNested;
use super::user_data::UserData;
use crate::rules::iommufd as rule;
use crate::{Host, Refusal};

/// A nested page table.
pub(super) struct Nested {
    pub(super) head: Head,
    /// The page table that it is nested in.
    pub(super) parent: u32,
    /// The vIOMMU that it was made for.
    pub(super) viommu: Option<u32>,
    /// What the driver of its IOMMU keeps of it.
    pub(super) driver: MockNested,
}

impl Nested {
    /// One that is nested in a page table.
    pub(super) fn in_table<H: Host>(
        objects: &Objects<H>,
        device: &Device,
        command: &IommuHwptAlloc,
        data: &UserData<'_>,
    ) -> Result<Self, Refusal> {
        let unit = device.unit().filter(|_| is_nested(command)).ok_or(rule::HWPT_ALLOC_NESTED)?;
        let parent = objects.hwpt(command.pt_id).ok_or(rule::HWPT_ALLOC_PARENT)?;
        if !parent.nest_parent || !unit.nests() {
            return Err(rule::HWPT_ALLOC_NESTED_PARENT);
        }
        Self::new(command.pt_id, None, command, data)
    }

    /// One of a vIOMMU.
    pub(super) fn in_viommu<H: Host>(
        objects: &Objects<H>,
        device: &Device,
        command: &IommuHwptAlloc,
        data: &UserData<'_>,
    ) -> Result<Self, Refusal> {
        let viommu = objects.viommu(command.pt_id)?;
        device.check_viommu(viommu.kind)?;
        if !is_nested(command) {
            return Err(rule::HWPT_ALLOC_NESTED);
        }
        Self::new(viommu.parent, Some(command.pt_id), command, data)
    }

    fn new(
        parent: u32,
        viommu: Option<u32>,
        command: &IommuHwptAlloc,
        data: &UserData<'_>,
    ) -> Result<Self, Refusal> {
        let driver = MockNested::new(data)?;
        Ok(Nested { head: Head::new(command.flags), parent, viommu, driver })
    }

    /// What a nested page table uses, as long as it is there: its vIOMMU, or else its parent.
    fn base(&self) -> Base {
        self.viommu.map_or(Base::Table(self.parent), Base::Viommu)
    }
}

/// Whether the data and the flags are those of a nested page table.
fn is_nested(command: &IommuHwptAlloc) -> bool {
    command.flags & !(IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID) == 0 && command.data_len != 0
}

/// What a nested page table uses.
enum Base {
    Table(u32),
    Viommu(u32),
}

impl<H: Host> Objects<H> {
    /// Adds a nested page table.
    pub(super) fn insert_nested(&mut self, host: &H, nested: Nested) -> Result<u32, Refusal> {
        let base = nested.base();
        let id = self.insert(host, Object::Nested(nested))?;
        match base {
            Base::Table(parent) => self.hold_table(parent, 1),
            Base::Viommu(viommu) => self.hold_viommu(viommu),
        }
        Ok(id)
    }

    /// Takes away a nested page table that no device is attached to.
    pub(super) fn remove_nested(&mut self, id: u32) {
        let Some(Object::Nested(_)) = self.get(id) else { return };
        let Some(Object::Nested(nested)) = self.remove(id) else { return };
        self.leave_fault_queue(nested.head.fault_queue);
        match nested.base() {
            Base::Table(parent) => self.put_table(parent, 1),
            Base::Viommu(viommu) => self.put_viommu(viommu),
        }
    }
}
