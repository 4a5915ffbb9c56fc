//! An IOMMU and its groups in sysfs (kernel documentation, `Documentation/ABI/testing/sysfs-class-iommu*` and
//! `sysfs-kernel-iommu_groups`).

use subsystem::IommuInfo;
use uapi::Errno;

use super::pci::up;
use super::{Entry, Tree};
use crate::spec::PciAddress;

/// The one unit of a machine, without `/sys`.
const UNIT: &str = "/devices/virtual/iommu/dmar0";

impl Tree {
    /// What the driver of the unit shows of it.
    pub(crate) fn add_iommu(&self, registers: [u64; 2]) -> Result<(), Errno> {
        let [capability, extended] = registers;
        let attribute =
            |name: &str, text| self.add(&format!("/sys{UNIT}/intel-iommu/{name}"), Entry::text(text));
        attribute("address", "fed90000".to_string())?;
        attribute("cap", format!("{capability:x}"))?;
        attribute("ecap", format!("{extended:x}"))?;
        attribute("version", "1:0".to_string())?;
        self.add(&format!("/sys{UNIT}/devices"), Entry::directory())?;
        self.add("/sys/class/iommu/dmar0", Entry::link(format!("../..{UNIT}")))
    }

    /// A device behind the unit, in its group.
    pub(super) fn add_behind_iommu(&self, address: PciAddress, iommu: IommuInfo) -> Result<(), Errno> {
        let (path, group) = (self.topology.path(address), iommu.group);
        let folder = format!("/sys/kernel/iommu_groups/{group}");
        if !self.exists(&folder) {
            self.add(&format!("{folder}/type"), Entry::text("DMA"))?;
            let (first, last) = iommu.msi_window;
            let windows = Entry::text(format_args!("{first:#018x} {last:#018x} msi"));
            self.add(&format!("{folder}/reserved_regions"), windows)?;
        }
        self.add(&format!("{folder}/devices/{address}"), Entry::link(format!("../../../..{path}")))?;
        let link = Entry::link(format!("{}kernel/iommu_groups/{group}", up(&path)));
        self.add(&format!("/sys{path}/iommu_group"), link)?;
        self.add(
            &format!("/sys{path}/iommu"),
            Entry::link(up(path.trim_start_matches("/devices")) + "virtual/iommu/dmar0"),
        )?;
        self.add(&format!("/sys{UNIT}/devices/{address}"), Entry::link(format!("../../../..{path}")))
    }

    /// A device behind the unit is gone, and perhaps its group.
    pub(super) fn remove_behind_iommu(&self, address: PciAddress, group: u32, gone: bool) {
        self.remove(&format!("/sys{UNIT}/devices/{address}"));
        let folder = format!("/sys/kernel/iommu_groups/{group}");
        self.remove(&if gone { folder } else { format!("{folder}/devices/{address}") });
    }

    fn exists(&self, path: &str) -> bool {
        self.look_up(path.as_ref(), false, |_| ()).is_ok()
    }
}
