//! Everything around the subsystem: memory, the bus, files, the log. It implements the subsystem's `Host` and knows
//! nothing of the subsystem: what goes up waits in an outbox.
#![forbid(unsafe_code)]

mod bus;
mod emulated;
mod fault;
mod iommu;
mod locks;
mod memory;
mod nodes;
mod plug;
mod regions;
mod sleep;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use subsystem::{Function, Host, Watch};

use crate::bus::{Bus, Event};
use crate::dma::Domains;
use crate::iommu::Groups;
use crate::log::Log;
use crate::mediated::MediatedDevices;
use crate::ram::Ram;
use crate::tree::{Site, Tree};

use fault::Faults;
pub(crate) use regions::MappedRegion;
use regions::MappedRegions;
use sleep::Sleepers;
pub use sleep::ask_for_interruptions;
use watches::Watches;

/// What the subsystem of a machine runs on.
pub(crate) struct World {
    bus: Bus,
    mediated: MediatedDevices,
    ram: Arc<Ram>,
    domains: Domains,
    groups: Groups,
    tree: Tree,
    log: Arc<Log>,
    taint: AtomicU64,
    faults: Faults,
    sleepers: Sleepers,
    watches: Watches,
    regions: MappedRegions,
}

/// What waits to be told to the subsystem.
#[derive(Default)]
pub(crate) struct Upward {
    /// Functions whose line has risen.
    pub(crate) risen: Vec<Function>,
    /// What has waited for an event that was signalled.
    pub(crate) signalled: Vec<(Function, Watch)>,
}

impl World {
    pub(crate) fn new(
        bus: Bus,
        mediated: MediatedDevices,
        domains: Domains,
        groups: Groups,
        tree: Tree,
        log: Arc<Log>,
    ) -> rustix::io::Result<Self> {
        let functions = bus.functions().len() + mediated.all().len();
        Ok(World {
            bus,
            mediated,
            ram: Arc::clone(domains.ram()),
            domains,
            groups,
            tree,
            log,
            taint: AtomicU64::new(0),
            faults: Faults::default(),
            sleepers: Sleepers::new(functions)?,
            watches: Watches::default(),
            regions: MappedRegions::default(),
        })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn mediated(&self) -> &MediatedDevices {
        &self.mediated
    }

    pub(crate) fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    pub(crate) fn domains(&self) -> &Domains {
        &self.domains
    }

    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The kernel's taint flags.
    pub(crate) fn tainted(&self) -> u64 {
        self.taint.load(Ordering::SeqCst)
    }

    pub(crate) fn regions(&self) -> &MappedRegions {
        &self.regions
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes what waits to be told to the subsystem; cheap when nothing does.
    pub(crate) fn upward(&self) -> Upward {
        Upward { risen: self.bus.outbox().take(), signalled: self.watches.take() }
    }

    /// The events that something waits for.
    pub(crate) fn watched_events(&self) -> Vec<Event> {
        self.watches.events()
    }

    /// Where a device is in sysfs.
    fn site(&self, function: Function) -> Option<Site> {
        let on_bus = self.bus.get(function).map(|function| {
            Site::of_function(self.bus.topology().path(function.address()), function.address())
        });
        on_bus.or_else(|| Some(Site::of_mediated(self.mediated.get(function)?.uuid())))
    }
}

impl Host for World {}

impl subsystem::Alloc for World {
    fn permit(&self) -> bool {
        self.faults.permit_allocation()
    }
}

impl subsystem::Locks for World {
    type Mutex<T: Send> = locks::Mutex<T>;
    type RwLock<T: Send + Sync> = locks::RwLock<T>;
}
