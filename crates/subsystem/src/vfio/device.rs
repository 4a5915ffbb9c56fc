//! Registered devices.

use core::fmt::Arguments;

use super::driver::Driver;
use super::pci::{PciDevice, PciOptions, token};
use super::set::DeviceSet;
use crate::host::{Function, Host, Level, Node, NodeKind, Slept};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::Tables;

/// `TAINT_USER`: user space may have done what the kernel cannot vouch for.
const TAINT_USER: u64 = 1 << 6;

/// Permission bits of device and group nodes.
pub(super) const NODE_MODE: u16 = 0o600;

/// How long unbinding a driver waits before it asks the user again, in seconds.
const REQUEST_INTERVAL: u32 = 10;

/// What stands between a device and memory: the type of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IommuKind {
    /// An IOMMU (`VFIO_IOMMU`).
    Hardware,
    /// A driver that emulates the device, which has no DMA of its own (`VFIO_EMULATED_IOMMU`).
    Emulated,
    /// Nothing (`VFIO_NO_IOMMU`).
    None,
}

/// What a device is known by, all of it final before the device joins a group or class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The function behind it.
    pub(crate) function: Function,
    /// The number in its name, and the minor number of its node.
    pub(crate) index: u32,
    /// What stands between it and memory; never asked for again.
    pub(crate) iommu: IommuKind,
    /// The minor number of its group, if groups are built.
    pub(crate) group: Option<u32>,
    /// Whether it has a node of its own.
    pub(crate) has_node: bool,
}

/// A registered device.
pub(crate) struct Device<H: Host> {
    /// What it is known by.
    pub(crate) identity: Identity,
    /// How many hold the registration: the driver until it is unbound, and each open file.
    pub(crate) registration: u32,
    /// Whether the driver is still bound.
    pub(crate) driver_bound: bool,
    /// The lock of opening and binding, and what the device is bound to.
    pub(crate) set: DeviceSet<H>,
    /// What drives it.
    pub(crate) driver: Driver<H>,
}

impl<H: Host> Device<H> {
    /// A device that only the driver holds.
    pub(crate) fn new(host: &H, identity: Identity, options: PciOptions) -> Self {
        Device {
            identity,
            registration: 1,
            driver_bound: true,
            set: DeviceSet::new(),
            driver: Driver::new(host, identity, options),
        }
    }

    /// The PCI function, if vfio-pci drives it.
    pub(crate) fn pci(&self) -> Option<&PciDevice<H>> {
        match &self.driver {
            Driver::Pci(pci) => Some(pci),
            Driver::Emulated(_) => None,
        }
    }

    /// Opens the function behind it.
    pub(super) fn open(&self, tables: &Tables<H>, host: &H) -> Result<(), Refusal> {
        self.driver.open(host)?;
        token::add_user(tables, self);
        Ok(())
    }

    /// Closes the function, which was opened.
    pub(super) fn close(&self, tables: &Tables<H>, host: &H) {
        token::remove_user(tables, self);
        self.driver.close(host);
    }
}

impl Identity {
    /// Whether it counts as one without an IOMMU.
    pub(crate) fn is_noiommu(self) -> bool {
        self.iommu == IommuKind::None
    }

    fn node(self) -> Node {
        let Identity { function, index, has_node, .. } = self;
        let noiommu = self.is_noiommu();
        let kind = match has_node {
            true => NodeKind::Device { function, index, noiommu },
            false => NodeKind::ClassDevice { function, index },
        };
        Node { kind, mode: NODE_MODE }
    }

    /// Makes the device's node appear.
    pub(crate) fn publish<H: Host>(self, host: &H) -> Result<(), Refusal> {
        host.node_add(self.node()).map_err(|_| rules::PROBE_NODE)
    }

    /// Takes the device's node away.
    pub(crate) fn withdraw<H: Host>(self, host: &H) {
        host.node_remove(self.node());
    }

    /// Says that the system is tainted by a device without an IOMMU, whether or not it is ever opened.
    pub(crate) fn taint<H: Host>(self, host: &H) {
        if !self.is_noiommu() {
            return;
        }
        if self.group.is_some() {
            host.taint(TAINT_USER);
            self.log(host, Level::Warn, format_args!("Adding kernel taint for vfio-noiommu group on device"));
        }
        if self.has_node {
            host.taint(TAINT_USER);
            self.log(host, Level::Warn, format_args!("Adding kernel taint for vfio-noiommu cdev"));
        }
    }

    fn log<H: Host>(self, host: &H, level: Level, line: Arguments<'_>) {
        host.log(level, Some(self.function), line);
    }
}

/// Waits for the users of a device. `request` asks them to let go, if there are any, and says whether; it is told how
/// often it asked before.
pub(crate) fn wait_for_users<H: Host>(host: &H, function: Function, request: impl Fn(u32) -> bool) {
    let mut round: u32 = 0;
    while request(round) {
        round = round.saturating_add(1);
        if host.sleep(function, REQUEST_INTERVAL) == Slept::Interrupted {
            let line = format_args!("Device is currently in use, task blocked until device is released");
            host.log(Level::Warn, Some(function), line);
        }
    }
}
