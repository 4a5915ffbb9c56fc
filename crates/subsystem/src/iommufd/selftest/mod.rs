//! The unit that the kernel's self-tests of IOMMUFD bring with them (`drivers/iommu/iommufd/selftest.c`): devices, an IOMMU and
//! accesses that exist for tests only, made and looked into by `IOMMU_TEST_CMD`. A kernel has it that is built with
//! `IOMMUFD_TEST`.
//!
//! Its devices do nothing by themselves. Its page tables are kept here, and what they translate to can be asked.

mod access;
pub(crate) mod buffer;
mod check;
mod device;
mod dirty;
mod domain;
mod events;
pub(super) mod nesting;
mod ops;
mod pasid;

use uapi::iommufd_test::{
    IOMMU_HWPT_DATA_SELFTEST, IOMMU_TEST_DEV_CACHE_DEFAULT, IommuHwptSelftest, MOCK_APERTURE_LAST,
    MOCK_APERTURE_START, MOCK_DEV_CACHE_NUM, MOCK_FLAGS_DEVICE_NO_DIRTY, MOCK_FLAGS_DEVICE_PASID,
    MOCK_HUGE_PAGE_SIZE, MOCK_IOMMUPT_DEFAULT, MOCK_IOMMUPT_HUGE, MOCK_PAGE_SIZE, MOCK_PASID_WIDTH,
};

use super::PAGE;
use super::domain::Geometry;
use super::user_data::UserData;
use crate::mem::{IdError, IdMap};
use crate::rules::{iommufd as rule, selftest as test_rule};
use crate::{Host, Refusal};
pub(crate) use access::{OnFile, on_file};
pub(super) use device::Selftest;
use domain::MockDomain;

/// What a page table translates that is made with data, if there is any.
pub(super) fn geometry(data: Option<&UserData<'_>>) -> Result<Geometry, Refusal> {
    let kind = match data {
        None => MOCK_IOMMUPT_DEFAULT,
        Some(data) if data.kind != IOMMU_HWPT_DATA_SELFTEST => return Err(test_rule::TABLE_DATA),
        Some(data) => {
            data.take::<IommuHwptSelftest>(IOMMU_HWPT_DATA_SELFTEST, size_of::<u32>())?.pagetable_type
        }
    };
    match kind {
        MOCK_IOMMUPT_DEFAULT => Ok(GEOMETRY),
        MOCK_IOMMUPT_HUGE => Ok(HUGE_GEOMETRY),
        _ => Err(test_rule::TABLE_TYPE),
    }
}

/// What a page table of large pages translates: all that its three levels hold.
const HUGE_GEOMETRY: Geometry =
    Geometry { aperture: Some((0, (1 << 38) - 1)), page_sizes: MOCK_HUGE_PAGE_SIZE as u64 | PAGE };

/// What a page table translates: pages of each power of two from 2 KiB to half of what its three levels hold.
const GEOMETRY: Geometry = Geometry {
    aperture: Some((MOCK_APERTURE_START as u64, MOCK_APERTURE_LAST as u64)),
    page_sizes: (1 << 37) - MOCK_PAGE_SIZE as u64,
};

/// The unit, as one context sees it.
pub(super) struct Mock<H: Host> {
    domains: IdMap<MockDomain<H::Pin>>,
    devices: IdMap<DeviceState>,
}

/// A device of the unit.
#[derive(Clone, Copy)]
pub(super) struct MockDevice {
    pub(super) number: u32,
    /// `MOCK_FLAGS_DEVICE_*`
    flags: u32,
}

/// What changes of a device.
struct DeviceState {
    cache: [u32; MOCK_DEV_CACHE_NUM as usize],
    /// Whether the next attachment under the reserved PASID fails.
    pasid_fails: bool,
}

impl MockDevice {
    pub(super) fn dirty_tracking(self) -> bool {
        self.flags & MOCK_FLAGS_DEVICE_NO_DIRTY == 0
    }

    pub(super) fn pasid_bits(self) -> u8 {
        if self.flags & MOCK_FLAGS_DEVICE_PASID == 0 { 0 } else { MOCK_PASID_WIDTH as u8 }
    }
}

impl<H: Host> Mock<H> {
    pub(super) const fn new() -> Self {
        Self { domains: IdMap::new(0, u32::MAX - 1), devices: IdMap::new(0, u32::MAX - 1) }
    }

    /// A new device.
    fn device_new(&mut self, host: &H, flags: u32) -> Result<MockDevice, Refusal> {
        let cache = [IOMMU_TEST_DEV_CACHE_DEFAULT; MOCK_DEV_CACHE_NUM as usize];
        let state = DeviceState { cache, pasid_fails: false };
        let number = self.devices.insert(host, state).map_err(no_number)?;
        Ok(MockDevice { number, flags })
    }

    /// A device is gone.
    pub(super) fn device_free(&mut self, device: MockDevice) {
        self.devices.remove(device.number);
    }
}

fn no_number(_: IdError) -> Refusal {
    rule::NO_MEMORY
}
