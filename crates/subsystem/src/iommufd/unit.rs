//! The units behind which devices are: the host's IOMMU, and the one that the kernel's self-tests bring with them.
//!
//! What IOMMUFD leaves to the driver of an IOMMU is asked here.

use uapi::iommufd::{
    IOMMU_HW_CAP_DIRTY_TRACKING, IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED, IOMMU_HW_INFO_TYPE_INTEL_VTD,
    IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17, IommuHwInfoVtd,
};
use uapi::iommufd_test::{
    IOMMU_HW_INFO_SELFTEST_REGVAL, IOMMU_HW_INFO_TYPE_SELFTEST, IOMMU_VIOMMU_TYPE_SELFTEST, IommuTestHwInfo,
};
use zerocopy::IntoBytes;

use super::domain::Geometry;
use super::selftest::{self, MockDevice};
use super::user_data::UserData;
use crate::rules::iommufd as rule;
use crate::{IommuInfo, Refusal};

/// What serves a device.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// The host's IOMMU.
    Host(IommuInfo),
    /// The unit of the self-tests, and what it knows of the device.
    Mock(MockDevice),
}

/// An iommu_group: devices that a unit cannot tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Host(u32),
    Mock(u32),
}

impl Unit {
    pub(super) fn group(self) -> Group {
        match self {
            Unit::Host(iommu) => Group::Host(iommu.group),
            // Each of its devices is alone.
            Unit::Mock(device) => Group::Mock(device.number),
        }
    }

    /// First and last IOVA where a write is an interrupt.
    pub(super) fn window(self) -> Option<(u64, u64)> {
        match self {
            Unit::Host(iommu) => Some(iommu.msi_window),
            Unit::Mock(_) => None,
        }
    }

    /// Whether a page table can tell which pages were written.
    pub(super) fn dirty_tracking(self) -> bool {
        match self {
            Unit::Host(iommu) => iommu.dirty_tracking,
            Unit::Mock(device) => device.dirty_tracking(),
        }
    }

    /// Whether it can keep a device from asking for DMA that is not coherent.
    pub(super) fn enforces_coherency(self) -> bool {
        match self {
            Unit::Host(iommu) => iommu.enforces_coherency,
            Unit::Mock(_) => false,
        }
    }

    /// What a page table translates that is made with data, if there is any.
    pub(super) fn geometry(self, data: Option<&UserData<'_>>) -> Result<Geometry, Refusal> {
        match self {
            Unit::Host(_) if data.is_some() => Err(rule::HWPT_ALLOC_FLAGS),
            Unit::Host(IommuInfo { aperture_last, page_sizes, .. }) => {
                Ok(Geometry { aperture: Some((0, aperture_last)), page_sizes })
            }
            Unit::Mock(_) => selftest::geometry(data),
        }
    }

    /// Whether page tables can be nested in others.
    pub(super) fn nests(self) -> bool {
        matches!(self, Unit::Mock(_))
    }

    /// Whether it offers vIOMMUs of a kind (`IOMMU_VIOMMU_TYPE_*`).
    pub(super) fn has_viommu(self, kind: u32) -> bool {
        matches!(self, Unit::Mock(_)) && kind == IOMMU_VIOMMU_TYPE_SELFTEST
    }

    /// Whether the device can be attached under a PASID. One that has no PASIDs at all makes no use of it, and may.
    pub(super) fn takes_pasid(self, pasid: u32) -> bool {
        match self {
            Unit::Host(_) => true,
            Unit::Mock(device) => pasid.checked_shr(device.pasid_bits().into()).unwrap_or(0) == 0,
        }
    }

    /// How many bits the PASIDs of the device have.
    pub(super) fn pasid_bits(self) -> u8 {
        match self {
            Unit::Host(_) => 0,
            Unit::Mock(device) => device.pasid_bits(),
        }
    }

    /// `IOMMU_HW_CAP_*`
    pub(super) fn capabilities(self) -> u64 {
        let dirty = if self.dirty_tracking() { IOMMU_HW_CAP_DIRTY_TRACKING } else { 0 };
        dirty | IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED
    }

    /// What it says of itself.
    pub(super) fn description(self) -> Description {
        match self {
            Unit::Host(iommu) => {
                let [cap_reg, ecap_reg] = iommu.registers;
                // Linux says so of each VT-d unit.
                let flags = IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17;
                Description::Vtd(IommuHwInfoVtd { flags, reserved: 0, cap_reg, ecap_reg })
            }
            Unit::Mock(_) => {
                Description::Mock(IommuTestHwInfo { flags: 0, test_reg: IOMMU_HW_INFO_SELFTEST_REGVAL })
            }
        }
    }
}

/// What a unit says of itself, as `IOMMU_GET_HW_INFO` tells it.
pub(super) enum Description {
    Vtd(IommuHwInfoVtd),
    Mock(IommuTestHwInfo),
}

impl Description {
    /// `IOMMU_HW_INFO_TYPE_*`
    pub(super) fn kind(&self) -> u32 {
        match self {
            Description::Vtd(_) => IOMMU_HW_INFO_TYPE_INTEL_VTD,
            Description::Mock(_) => IOMMU_HW_INFO_TYPE_SELFTEST,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Description::Vtd(description) => description.as_bytes(),
            Description::Mock(description) => description.as_bytes(),
        }
    }
}
