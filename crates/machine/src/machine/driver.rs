//! Drivers, and which functions they have, as sysfs lets them be bound and unbound.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use subsystem::Function;
use uapi::Errno;

use super::Shared;
use crate::bus::PciFunction;
use crate::lock::lock;
use crate::log::Priority;
use crate::mediated::DRIVER;
use crate::spec::{Driver, PciAddress, VFIO_PCI};
use crate::tree::DriverId;

/// The driver of root ports.
pub(super) const PCIEPORT: &str = "pcieport";

/// Drivers that do not reach memory by the DMA API (`driver_managed_dma`): they do no DMA, or have programs do it.
const MANAGED_DMA: [&str; 3] = [VFIO_PCI, PCIEPORT, "pci-stub"];

/// Drivers that know no device by its identity: they take what names them in `driver_override`.
const WITHOUT_IDS: [&str; 3] = [VFIO_PCI, "pci-stub", "uio_pci_generic"];

/// How long it takes at most to see that the program has closed a file without a word, while somebody waits for that.
const CLOSED_LATE: Duration = Duration::from_millis(10);

/// The drivers of a machine: vfio-pci, if it is built, and those that some device starts with.
pub(super) struct Drivers(Vec<String>);

/// What a driver core knows of a function.
pub(super) struct Binding {
    /// The driver that has it. Held while one is bound or unbound, which waits for the users of the device.
    pub(super) bound: Mutex<Option<DriverId>>,
    /// `driver_override`: the only driver that may be bound, by name.
    only: Mutex<Option<String>>,
    /// The driver that knows it by its identity.
    native: Option<DriverId>,
}

/// Why a function has not got a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbound {
    /// It has one.
    Taken,
    /// VFIO or IOMMUFD has the DMA that the driver needs.
    Claimed,
    /// The driver refuses it, or it cannot be shown.
    Failed(Errno),
}

impl Unbound {
    fn errno(self) -> Errno {
        match self {
            Unbound::Taken | Unbound::Claimed => Errno::EBUSY,
            Unbound::Failed(errno) => errno,
        }
    }
}

impl Drivers {
    /// The drivers of a kernel that has vfio-pci or not, for devices that start with these.
    pub(super) fn new<'a>(vfio_pci: bool, devices: impl Iterator<Item = &'a Driver>) -> Self {
        let mut names: Vec<String> = devices.filter_map(Driver::name).map(String::from).collect();
        names.push(VFIO_PCI.to_string());
        names.retain(|name| vfio_pci || name != VFIO_PCI);
        names.sort_unstable();
        names.dedup();
        Drivers(names)
    }

    /// By number.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    fn all(&self) -> impl Iterator<Item = DriverId> {
        (0..self.0.len()).map(DriverId)
    }

    pub(super) fn name(&self, driver: DriverId) -> &str {
        self.0.get(driver.0).map_or("", String::as_str)
    }

    /// What is known of a function that starts with a driver, or is found later.
    pub(super) fn binding(&self, driver: &Driver, present: bool) -> Binding {
        let name = driver.name();
        let without_ids = name.filter(|name| WITHOUT_IDS.contains(name));
        let native = self.all().find(|&it| without_ids.is_none() && Some(self.name(it)) == name);
        let only = without_ids.filter(|_| present).map(String::from);
        Binding { bound: Mutex::default(), only: Mutex::new(only), native }
    }

    /// Whether a driver takes a function.
    fn matches(&self, driver: DriverId, binding: &Binding) -> bool {
        match binding.only() {
            Some(only) => only == self.name(driver),
            None => binding.native == Some(driver),
        }
    }
}

impl Binding {
    /// `driver_override`
    pub(super) fn only(&self) -> Option<String> {
        lock(&self.only).clone()
    }

    pub(super) fn set_only(&self, driver: Option<String>) {
        *lock(&self.only) = driver;
    }
}

impl Shared {
    /// Binds a driver to every function that one matches, as at boot, and then has the mediated devices registered. A device
    /// that is refused is in the log.
    pub(super) fn bind_at_start(&self) {
        for function in self.world().bus().functions().iter().filter(|function| function.is_present()) {
            // The reason is in the log, as after a boot.
            let _refused = self.probe(function);
        }
        for device in self.world().mediated().all() {
            if let Err(refusal) = self.subsystem.register_emulated(device.number()) {
                let (uuid, errno) = (device.uuid(), refusal.errno().raw());
                self.world().log().line(
                    Priority::ERROR,
                    format_args!("{DRIVER} {uuid}: probe with driver {DRIVER} failed with error -{errno}"),
                );
            }
        }
    }

    /// `bind` of a driver: ENODEV for a function that is not there or does not match, EBUSY if it has a driver, or if VFIO or
    /// IOMMUFD has the DMA that the driver needs; else what the driver says.
    pub(super) fn bind(&self, driver: DriverId, address: &str) -> Result<(), Errno> {
        let (function, binding) = self.device(address)?;
        match self.drivers.matches(driver, binding) {
            true => self.attach(function, binding, driver).map_err(Unbound::errno),
            false => Err(Errno::ENODEV),
        }
    }

    /// `drivers_probe`: binds the driver that matches, if any. That the driver refuses is no error here.
    pub(super) fn drivers_probe(&self, address: &str) -> Result<(), Errno> {
        let (function, _) = self.device(address)?;
        match self.probe(function) {
            Err(Unbound::Claimed) => Err(Errno::EINVAL),
            Ok(()) | Err(Unbound::Taken | Unbound::Failed(_)) => Ok(()),
        }
    }

    /// `unbind` of a driver: returns when the last user of the device is gone. ENODEV if it is not that driver's.
    pub(super) fn unbind(&self, driver: DriverId, address: &str) -> Result<(), Errno> {
        let (function, binding) = self.device(address)?;
        let mut bound = lock(&binding.bound);
        if *bound != Some(driver) {
            return Err(Errno::ENODEV);
        }
        self.detach(function, &mut bound);
        Ok(())
    }

    pub(super) fn binding(&self, function: Function) -> Option<&Binding> {
        self.bindings.get(function.0 as usize)
    }

    /// Binds the driver that matches a function, if any.
    pub(super) fn probe(&self, function: &PciFunction) -> Result<(), Unbound> {
        let Some(binding) = self.binding(function.number()) else { return Ok(()) };
        match self.drivers.all().find(|&driver| self.drivers.matches(driver, binding)) {
            Some(driver) => self.attach(function, binding, driver),
            None => Ok(()),
        }
    }

    fn attach(&self, function: &PciFunction, binding: &Binding, driver: DriverId) -> Result<(), Unbound> {
        let mut bound = lock(&binding.bound);
        if bound.is_some() {
            return Err(Unbound::Taken);
        }
        // It may have left the bus since it was looked up.
        if !function.is_present() {
            return Err(Unbound::Failed(Errno::ENODEV));
        }
        let (groups, number, name) = (self.world().groups(), function.number(), self.drivers.name(driver));
        let dma_api = !MANAGED_DMA.contains(&name);
        if dma_api && !groups.claim_for_driver(number) {
            return Err(Unbound::Claimed);
        }
        let linked = self.world().tree().link_driver(function.address(), name);
        let done = linked.and_then(|()| if name == VFIO_PCI { self.probe_vfio(function) } else { Ok(()) });
        match done {
            Ok(()) => *bound = Some(driver),
            Err(_) if dma_api => groups.release_for_driver(number),
            Err(_) => {}
        }
        done.map_err(Unbound::Failed)
    }

    fn probe_vfio(&self, function: &PciFunction) -> Result<(), Errno> {
        let address = function.address();
        self.subsystem.probe(function.number()).map_err(|refusal| {
            self.world().tree().unlink_driver(address, VFIO_PCI);
            let errno = refusal.errno();
            self.world().log().line(
                Priority::ERROR,
                format_args!(
                    "{VFIO_PCI} {address}: probe with driver {VFIO_PCI} failed with error -{}",
                    errno.raw()
                ),
            );
            errno
        })
    }

    /// Takes the driver away, if there is one; returns when nobody uses the device any more.
    pub(super) fn detach(&self, function: &PciFunction, bound: &mut MutexGuard<'_, Option<DriverId>>) {
        let Some(driver) = **bound else { return };
        let (number, name) = (function.number(), self.drivers.name(driver));
        if function.enabled_vfs() > 0 {
            self.disable_vfs(function);
        }
        self.world().tree().unlink_driver(function.address(), name);
        if name == VFIO_PCI {
            self.let_go(number);
        } else if !MANAGED_DMA.contains(&name) {
            self.world().groups().release_for_driver(number);
        }
        **bound = None;
    }

    /// Has VFIO let go of a function; returns when nobody uses the device any more. What the program closes meanwhile without a
    /// word is released.
    fn let_go(&self, function: Function) {
        if !self.files.are_installed() {
            return self.subsystem.remove(function);
        }
        let over = AtomicBool::new(false);
        let watch = || {
            while !over.load(Ordering::Acquire) {
                self.release_closed();
                thread::park_timeout(CLOSED_LATE);
            }
        };
        thread::scope(|scope| {
            // Without this thread the next call of the program sees what was closed.
            let watcher = thread::Builder::new().spawn_scoped(scope, watch);
            self.subsystem.remove(function);
            over.store(true, Ordering::Release);
            if let Ok(watcher) = watcher {
                watcher.thread().unpark();
            }
        });
    }

    fn device(&self, address: &str) -> Result<(&PciFunction, &Binding), Errno> {
        let address: PciAddress = address.parse().map_err(|_| Errno::ENODEV)?;
        let function = self.world().bus().at(address).filter(|function| function.is_present());
        let function = function.ok_or(Errno::ENODEV)?;
        Ok((function, self.binding(function.number()).ok_or(Errno::ENODEV)?))
    }
}
