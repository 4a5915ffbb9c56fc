//! Virtual functions, as an administrator makes them and takes them away through sysfs (`sriov_numvfs`).
//!
//! Only vfio-pci makes them here: a driver of the host leaves its device alone. It keeps them for itself: each has it named in
//! `driver_override` before a driver is looked for, and all are gone before it lets go of the physical function.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use subsystem::Function;
use uapi::Errno;

use super::Shared;
use crate::bus::PciFunction;
use crate::lock::lock;
use crate::log::Priority;
use crate::spec::VFIO_PCI;

impl Shared {
    /// `sriov_numvfs`: so many virtual functions. ERANGE for more than there can be, ENOENT without a driver that makes them, or
    /// with `enable_sriov` off, EBUSY where there are others. When they are taken away, returns when nobody uses them any more.
    pub(super) fn set_vfs(&self, number: Function, count: u16) -> Result<(), Errno> {
        let (world, function) = (self.world(), self.world().bus().get(number).ok_or(Errno::ENODEV)?);
        let (address, binding) = (function.address(), self.binding(number).ok_or(Errno::ENODEV)?);
        let total = function.virtual_functions().ok_or(Errno::ENODEV)?.total;
        let count = u8::try_from(count).ok().filter(|count| *count <= total).ok_or(Errno::ERANGE)?;
        let bound = lock(&binding.bound);
        let enabled = function.enabled_vfs();
        if count == enabled {
            return Ok(());
        }
        let Some(driver) = *bound else {
            world.log().line(
                Priority::INFO,
                format_args!("pci {address}: no driver bound to device; cannot configure SR-IOV"),
            );
            return Err(Errno::ENOENT);
        };
        let name = self.drivers.name(driver);
        if name != VFIO_PCI {
            let line =
                format_args!("{name} {address}: driver does not support SR-IOV configuration via sysfs");
            world.log().line(Priority::INFO, line);
            return Err(Errno::ENOENT);
        }
        match (enabled, count) {
            (1.., 1..) => {
                world.log().line(
                    Priority::WARNING,
                    format_args!(
                        "{name} {address}: {enabled} VFs already enabled. Disable before enabling {count} VFs"
                    ),
                );
                Err(Errno::EBUSY)
            }
            _ if !self.enable_sriov.load(Ordering::Relaxed) => Err(Errno::ENOENT),
            (_, 0) => {
                self.disable_vfs(function);
                Ok(())
            }
            (_, count) => self.enable_vfs(function, count).inspect_err(|_| self.disable_vfs(function)),
        }
    }

    fn enable_vfs(&self, physical: &PciFunction, count: u8) -> Result<(), Errno> {
        let (world, address) = (self.world(), physical.address());
        physical.set_enabled_vfs(count);
        for (index, function) in self.virtual_functions(physical) {
            let Some(binding) = self.binding(function.number()) else { continue };
            world.plug(function)?;
            let captured = function.address();
            world.log().line(
                Priority::INFO,
                format_args!("{VFIO_PCI} {address}: Captured SR-IOV VF {captured} driver_override"),
            );
            binding.set_only(Some(VFIO_PCI.to_string()));
            world.tree().link_virtual(address, captured, index)?;
            // The reason is in the log, as after a boot.
            let _refused = self.probe(function);
        }
        Ok(())
    }

    /// Takes the virtual functions away that there are; returns when nobody uses them any more.
    pub(super) fn disable_vfs(&self, physical: &PciFunction) {
        for (index, function) in self.virtual_functions(physical) {
            let Some(binding) = self.binding(function.number()) else { continue };
            let mut bound = lock(&binding.bound);
            self.world().tree().remove_file(physical.address(), &format!("virtfn{index}"));
            if function.is_present() {
                self.detach(function, &mut bound);
                binding.set_only(None);
                self.world().unplug(function);
            }
            function.reset();
        }
        physical.set_enabled_vfs(0);
    }

    /// The virtual functions that are enabled, with their indices.
    fn virtual_functions(&self, physical: &PciFunction) -> impl Iterator<Item = (u8, &Arc<PciFunction>)> {
        let number = physical.number();
        self.world().bus().virtual_functions(number).take(physical.enabled_vfs().into())
    }
}
