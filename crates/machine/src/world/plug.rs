//! Functions that are found on the bus, and that leave it.

use uapi::Errno;

use super::World;
use crate::bus::PciFunction;
use crate::log::Priority;

impl World {
    /// A function is found on the bus: it comes into its iommu_group, and sysfs shows it.
    pub(crate) fn plug(&self, function: &PciFunction) -> Result<(), Errno> {
        let iommu = self.groups.join(function.number(), |domain| self.domains.attach(function.dma(), domain));
        if let Some(iommu) = iommu {
            self.log.line(
                Priority::INFO,
                format_args!("pci {}: Adding to iommu group {}", function.address(), iommu.group),
            );
        }
        function.set_present(true);
        self.tree.add_device(function, iommu)
    }

    /// A function that has no driver leaves the bus.
    pub(crate) fn unplug(&self, function: &PciFunction) {
        function.set_present(false);
        let group = self.groups.leave(function.number());
        self.domains.attach(function.dma(), None);
        self.tree.remove_device(function.address(), group);
    }
}
