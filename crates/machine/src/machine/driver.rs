//! Which functions have the driver, as sysfs lets it be bound and unbound.

use std::sync::{Mutex, PoisonError};

use subsystem::Function;
use uapi::Errno;

use super::Shared;
use crate::bus::PciFunction;
use crate::spec::{Driver, PciAddress};

/// The one driver that a machine has.
const VFIO_PCI: &str = "vfio-pci";

/// What a driver core knows of a function.
pub(super) struct Binding {
    /// Held while the driver is bound or unbound, which waits for the users of the device.
    bound: Mutex<bool>,
    /// The only driver that may be bound, by name.
    only: Mutex<Option<String>>,
    /// Whether vfio-pci is there to be bound.
    built: bool,
}

impl Binding {
    pub(super) fn new(driver: Driver, built: bool) -> Self {
        let only = (driver == Driver::VfioPci).then(|| VFIO_PCI.to_string());
        Binding { bound: Mutex::new(false), only: Mutex::new(only), built }
    }

    /// `driver_override`
    pub(super) fn only(&self) -> Option<String> {
        self.only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_only(&self, driver: Option<String>) {
        *self.only.lock().unwrap_or_else(PoisonError::into_inner) = driver;
    }

    /// vfio-pci matches no device by itself: it has to be named.
    fn matches(&self) -> bool {
        self.built && self.only().as_deref() == Some(VFIO_PCI)
    }
}

impl Shared {
    /// Binds the driver to every function that it matches, as at boot. A device that it refuses is in the log.
    pub(super) fn bind_at_start(&self) {
        for function in self.world().bus().functions() {
            // The reason is in the log, as after a boot.
            let _refused = self.probe(function);
        }
    }

    /// `bind`: ENODEV for a function that is not there or does not match, EBUSY if it is bound, else what the driver says.
    pub(super) fn bind(&self, address: &str) -> Result<(), Errno> {
        let (function, binding) = self.device(address)?;
        if binding.matches() { self.attach(function, binding) } else { Err(Errno::ENODEV) }
    }

    /// `drivers_probe`: binds if the driver matches. That the driver refuses is no error here.
    pub(super) fn rescan(&self, address: &str) -> Result<(), Errno> {
        let (function, _) = self.device(address)?;
        let _refused = self.probe(function);
        Ok(())
    }

    /// `unbind`: returns when the last user of the device is gone. ENODEV if the driver is not bound.
    pub(super) fn unbind(&self, address: &str) -> Result<(), Errno> {
        let (function, binding) = self.device(address)?;
        let mut bound = binding.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if !*bound {
            return Err(Errno::ENODEV);
        }
        self.world().tree().unlink_driver(function.address());
        self.subsystem.remove(function.number());
        *bound = false;
        Ok(())
    }

    pub(super) fn binding(&self, function: Function) -> Option<&Binding> {
        self.bindings.get(function.0 as usize)
    }

    fn probe(&self, function: &PciFunction) -> Result<(), Errno> {
        match self.binding(function.number()) {
            Some(binding) if binding.matches() => self.attach(function, binding),
            _ => Ok(()),
        }
    }

    fn attach(&self, function: &PciFunction, binding: &Binding) -> Result<(), Errno> {
        let mut bound = binding.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if *bound {
            return Err(Errno::EBUSY);
        }
        let (world, address) = (self.world(), function.address());
        world.tree().link_driver(address)?;
        if let Err(refusal) = self.subsystem.probe(function.number()) {
            world.tree().unlink_driver(address);
            let errno = refusal.errno();
            world.log().line(format_args!(
                "{VFIO_PCI} {address}: probe with driver {VFIO_PCI} failed with error -{}",
                errno.raw()
            ));
            return Err(errno);
        }
        *bound = true;
        Ok(())
    }

    fn device(&self, address: &str) -> Result<(&PciFunction, &Binding), Errno> {
        let address: PciAddress = address.parse().map_err(|_| Errno::ENODEV)?;
        let function = self.world().bus().at(address).ok_or(Errno::ENODEV)?;
        Ok((function, self.binding(function.number()).ok_or(Errno::ENODEV)?))
    }
}
