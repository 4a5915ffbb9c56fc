//! What the unit decides of guests: what its nested page tables, its vIOMMUs and their hardware queues are, and what an
//! invalidation does.

use uapi::iommufd_test::{
    IOMMU_HW_QUEUE_TYPE_SELFTEST, IOMMU_HWPT_DATA_SELFTEST, IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
    IOMMU_TEST_HW_QUEUE_MAX, IOMMU_TEST_INVALIDATE_FLAG_ALL, IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
    IOMMU_VIOMMU_TYPE_SELFTEST, IommuHwptInvalidateSelftest, IommuHwptSelftest,
    IommuViommuInvalidateSelftest, IommuViommuSelftest, MOCK_DEV_CACHE_NUM, MOCK_NESTED_DOMAIN_IOTLB_NUM,
};
use zerocopy::IntoBytes;

use crate::iommufd::PAGE;
use crate::iommufd::context::Context;
use crate::iommufd::device::Device;
use crate::iommufd::mapped::Mappable;
use crate::iommufd::objects::Objects;
use crate::iommufd::unit::Unit;
use crate::iommufd::user_data::{UserArray, UserData};
use crate::rules::{guest, selftest as test_rule};
use crate::{Host, Mutex, Refusal};

/// How much memory of a vIOMMU can be mapped.
const MEMORY: usize = (PAGE << 1) as usize;

/// A nested page table: all that can be seen of it is a cache of translations.
pub(in crate::iommufd) struct MockNested {
    pub(super) iotlb: [u32; MOCK_NESTED_DOMAIN_IOTLB_NUM as usize],
}

/// A vIOMMU.
pub(in crate::iommufd) struct MockViommu {
    /// The ids of its hardware queues, by index.
    queues: [Option<u32>; IOMMU_TEST_HW_QUEUE_MAX as usize],
    /// Two pages, if it was made with data.
    memory: Option<Mappable>,
}

impl MockNested {
    pub(in crate::iommufd) fn new(data: &UserData<'_>) -> Result<Self, Refusal> {
        if data.kind != IOMMU_HWPT_DATA_SELFTEST {
            return Err(test_rule::NESTED_DATA);
        }
        let IommuHwptSelftest { iotlb, .. } = data.take(IOMMU_HWPT_DATA_SELFTEST, size_of::<u32>())?;
        Ok(MockNested { iotlb: [iotlb; MOCK_NESTED_DOMAIN_IOTLB_NUM as usize] })
    }

    /// Drops cached translations, entry by entry; counts how many are `done`.
    pub(in crate::iommufd) fn invalidate(
        &mut self,
        entries: &UserArray<'_>,
        done: &mut u32,
    ) -> Result<(), Refusal> {
        const KIND: u32 = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST;
        if entries.kind != KIND {
            return Err(guest::USER_DATA_KIND);
        }
        for index in 0..entries.count {
            let entry = entries.entry(index);
            let entry: IommuHwptInvalidateSelftest =
                entry.take(KIND, size_of::<IommuHwptInvalidateSelftest>())?;
            invalidate(&mut self.iotlb, entry.flags, entry.iotlb_id)?;
            *done = done.saturating_add(1);
        }
        Ok(())
    }
}

/// Clears an entry of a cache, or all of them.
fn invalidate(cache: &mut [u32], flags: u32, index: u32) -> Result<(), Refusal> {
    if flags & !IOMMU_TEST_INVALIDATE_FLAG_ALL != 0 {
        return Err(test_rule::INVALIDATE_FLAGS);
    }
    let entry = cache.get_mut(index as usize).ok_or(test_rule::INVALIDATE_ENTRY)?;
    *entry = 0;
    if flags & IOMMU_TEST_INVALIDATE_FLAG_ALL != 0 {
        cache.fill(0);
    }
    Ok(())
}

impl MockViommu {
    /// One made with data, if there is any.
    pub(in crate::iommufd) fn new<H: Host>(
        host: &H,
        objects: &Objects<H>,
        data: Option<UserData<'_>>,
    ) -> Result<Self, Refusal> {
        let memory = data.map(|data| new_memory(host, objects, &data)).transpose()?;
        Ok(MockViommu { queues: [None; IOMMU_TEST_HW_QUEUE_MAX as usize], memory })
    }

    /// What a program can map of it.
    pub(in crate::iommufd) fn memory(&self) -> Option<&Mappable> {
        self.memory.as_ref()
    }

    pub(in crate::iommufd) fn memory_mut(&mut self) -> Option<&mut Mappable> {
        self.memory.as_mut()
    }

    /// Whether it has hardware queues of a kind.
    pub(in crate::iommufd) fn has_queue(&self, kind: u32) -> bool {
        kind == IOMMU_HW_QUEUE_TYPE_SELFTEST
    }

    /// Begins to work on the queue of this id; the one that it follows on, which has to stay as long.
    pub(in crate::iommufd) fn start_queue(&mut self, index: u32, id: u32) -> Result<Option<u32>, Refusal> {
        let before = match index.checked_sub(1) {
            None => None,
            Some(before) => self.queues.get(before as usize).copied(),
        };
        let place = self.queues.get_mut(index as usize).ok_or(test_rule::QUEUE_INDEX)?;
        if place.is_some() {
            return Err(test_rule::QUEUE_TWICE);
        }
        let before = match before {
            None => None,
            Some(before) => Some(before.ok_or(test_rule::QUEUE_ORDER)?),
        };
        *place = Some(id);
        Ok(before)
    }

    /// Works no longer on a queue, if it ever did.
    pub(in crate::iommufd) fn stop_queue(&mut self, index: u32, id: u32) {
        if let Some(place) = self.queues.get_mut(index as usize).filter(|place| **place == Some(id)) {
            *place = None;
        }
    }
}

/// Memory that begins with what the data says, which is told back, and where the memory is.
fn new_memory<H: Host>(host: &H, objects: &Objects<H>, data: &UserData<'_>) -> Result<Mappable, Refusal> {
    // Up to `out_data`.
    let least = size_of::<u32>().saturating_mul(2);
    let mut value: IommuViommuSelftest = data.take(IOMMU_VIOMMU_TYPE_SELFTEST, least)?;
    let mut memory = Mappable::new(host, objects, MEMORY)?;
    memory.write(0, value.in_data.as_bytes());
    value.out_data = value.in_data;
    (value.out_mmap_offset, value.out_mmap_length) = (memory.offset(), memory.length());
    data.put(&value)?;
    Ok(memory)
}

impl<H: Host> Context<H> {
    /// Drops what the unit keeps of devices behind a vIOMMU, entry by entry; counts how many are `done`.
    pub(in crate::iommufd) fn invalidate_viommu(
        &self,
        host: &H,
        objects: &Objects<H>,
        viommu: u32,
        entries: &UserArray<'_>,
        done: &mut u32,
    ) -> Result<(), Refusal> {
        let entries =
            entries.all::<IommuViommuInvalidateSelftest>(host, IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST)?;
        for entry in entries.iter() {
            let IommuViommuInvalidateSelftest { flags, vdev_id, cache_id } = *entry;
            // Before the device is looked for.
            invalidate(&mut [0; MOCK_DEV_CACHE_NUM as usize], flags, cache_id)?;
            let device = objects.device_called(viommu, vdev_id.into()).and_then(|id| objects.device(id));
            let Some(Unit::Mock(device)) = device.and_then(Device::unit) else {
                return Err(test_rule::INVALIDATE_DEVICE);
            };
            self.mock.with(|mock| match mock.devices.get_mut(device.number) {
                Some(device) => invalidate(&mut device.cache, flags, cache_id),
                None => Ok(()),
            })?;
            *done = done.saturating_add(1);
        }
        Ok(())
    }
}
