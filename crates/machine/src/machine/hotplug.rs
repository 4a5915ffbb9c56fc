//! Devices that leave the bus and come back, as an administrator has them through sysfs (`remove` and `rescan`).
//!
//! A device that has left is still in its slot, and is found again by the next rescan: in its group, with the driver that knows
//! it by its identity. What `driver_override` named is forgotten.

use std::sync::Arc;

use subsystem::Function;
use uapi::Errno;

use super::Shared;
use crate::bus::{PciFunction, Role};
use crate::lock::lock;

impl Shared {
    /// `remove`: takes a device off the bus, before it what is behind it; returns when nobody uses it any more.
    pub(super) fn unplug(&self, number: Function) {
        let Some((function, binding)) = self.world().bus().get(number).zip(self.binding(number)) else {
            return;
        };
        let address = function.address();
        self.world().tree().remove_file(address, "remove");
        self.world().bus().behind(address).for_each(|below| self.unplug(below.number()));
        let mut bound = lock(&binding.bound);
        if function.is_present() {
            self.detach(function, &mut bound);
            binding.set_only(None);
            self.world().unplug(function);
        }
    }

    /// `rescan`: finds the devices that have left, those behind a port after it.
    pub(super) fn rescan(&self) -> Result<(), Errno> {
        let (world, topology) = (self.world(), self.world().bus().topology());
        // Virtual functions answer no scan.
        let scanned = |function: &&Arc<PciFunction>| !matches!(function.role(), Role::Virtual(..));
        let functions = || world.bus().functions().iter().filter(scanned);
        let ports = functions().filter(|function| topology.is_port(function.address()));
        let others = functions().filter(|function| !topology.is_port(function.address()));
        for function in ports.chain(others) {
            let Some(binding) = self.binding(function.number()) else { continue };
            let bound = lock(&binding.bound);
            if !function.is_present() {
                world.plug(function)?;
                drop(bound);
                // The reason is in the log, as after a boot.
                let _refused = self.probe(function);
            }
        }
        Ok(())
    }
}
