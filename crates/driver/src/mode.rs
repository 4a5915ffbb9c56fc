//! The ways in which Linux lets a program have a device.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

/// A way in which Linux lets a program have a device, from the best to the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `/dev/vfio/devices/vfioN` and `/dev/iommu`: the device sees IOVAs, and an IOMMU confines it to them.
    Iommufd,
    /// `/dev/vfio/devices/noiommu-vfioN` and `/dev/iommu`: memory is pinned and the kernel tells its physical addresses
    /// (`IOMMU_IOAS_NOIOMMU_GET_PA`). Nothing confines the device.
    IommufdNoiommu,
    /// `/dev/vfio/G` and `/dev/vfio/vfio`: the device sees IOVAs, and an IOMMU confines it to them.
    Group,
    /// `/dev/vfio/noiommu-G` and `/dev/vfio/vfio`; physical addresses from `/proc/self/pagemap`.
    GroupNoiommu,
    /// The resource files of sysfs; physical addresses from `/proc/self/pagemap`.
    Uio,
}

impl Mode {
    /// All of them, the best first.
    pub const ALL: [Mode; 5] =
        [Mode::Iommufd, Mode::IommufdNoiommu, Mode::Group, Mode::GroupNoiommu, Mode::Uio];

    /// Whether an IOMMU stands between the device and memory.
    #[must_use]
    pub const fn has_iommu(self) -> bool {
        matches!(self, Mode::Iommufd | Mode::Group)
    }

    /// Its name on the command line and in reports, such as `iommufd-noiommu`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Iommufd => "iommufd",
            Mode::IommufdNoiommu => "iommufd-noiommu",
            Mode::Group => "group",
            Mode::GroupNoiommu => "group-noiommu",
            Mode::Uio => "uio",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A mode that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The mode.
    pub mode: Mode,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mode, self.reason)
    }
}

/// A path that was looked at, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The path.
    pub path: PathBuf,
    /// What was there.
    pub found: String,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.found)
    }
}
