//! Everything around the subsystem: memory, the bus, files, the log. It implements the subsystem's `Host` and knows
//! nothing of the subsystem: what goes up waits in an outbox.
#![forbid(unsafe_code)]

mod emulated;
mod fault;
mod locks;
mod plug;
mod regions;
mod sleep;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subsystem::{
    Account, Backing, DmaOwner, DomainKind, Function, Host, IommuInfo, IrqKind, Level, Mapping, Memory as _,
    Node, NodeKind, PinError, Place, Region, RegionKind, Run, Slept, Source, Sriov, Task, Transfer, Watch,
};
use sys::Width;
use uapi::Errno;

use crate::bus::{Bus, Event, PciFunction, Role, Rom};
use crate::dma::{Domain, Domains, UNMANAGED};
use crate::iommu::Groups;
use crate::log::Log;
use crate::mediated::MediatedDevices;
use crate::model::{BarKind, Register};
use crate::ram::{Pin, Ram, Space};
use crate::spec::PciAddress;
use crate::tree::{Site, Tree};

use fault::Faults;
pub(crate) use regions::MappedRegion;
use regions::MappedRegions;
use sleep::Sleepers;

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

/// The eventfds that something of a function waits for.
#[derive(Default)]
struct Watches {
    some: AtomicBool,
    events: Mutex<Vec<(Function, Watch, Event)>>,
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
        if !self.watches.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        lock(&self.watches.events).iter().map(|(.., event)| event.clone()).collect()
    }

    fn with<R>(&self, function: Function, otherwise: R, f: impl FnOnce(&PciFunction) -> R) -> R {
        self.bus.get(function).map_or(otherwise, |function| f(function))
    }
}

impl Watches {
    fn set(&self, function: Function, watch: Watch, event: Option<Event>) {
        let mut events = lock(&self.events);
        events.retain(|(other, kind, _)| (*other, *kind) != (function, watch));
        events.extend(event.map(|event| (function, watch, event)));
        self.some.store(!events.is_empty(), Ordering::Release);
    }

    fn take(&self) -> Vec<(Function, Watch)> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let events = lock(&self.events);
        // Several may wait for one eventfd: all are looked at before any is set back.
        let ready: Vec<_> = events.iter().filter(|(.., event)| event.is_signalled()).collect();
        let taken = ready.iter().map(|(function, watch, event)| {
            event.take();
            (*function, *watch)
        });
        taken.collect()
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

impl subsystem::Memory for World {
    type Pin = Pin;

    fn pin(&self, source: Source, first: u64, pages: u64, write: bool) -> Result<Pin, PinError> {
        if self.faults.permit_pin() {
            self.ram.pin(source, first, pages, write)
        } else {
            Err(PinError::NoMemory)
        }
    }

    fn is_region(&self, task: Task, address: u64, pages: u64, write: bool) -> bool {
        // The tasks of this process have one address space.
        let space = match self.ram.accounts().space(task) {
            Space::Here => None,
            Space::There(_) => Some(task),
            Space::Gone => return false,
        };
        let end = pages.checked_mul(Self::PAGE).and_then(|length| address.checked_add(length));
        end.is_some_and(|end| self.regions.cover(space, address..end, write))
    }

    fn unpin(&self, pin: Pin, first: u64, pages: u64) {
        self.domains.unpin(pin, first, pages);
    }

    fn run(&self, pin: Pin, page: u64, left: u64) -> Run {
        self.ram.run(pin, page, left)
    }

    fn pins(&self, pin: Pin, page: u64) -> u64 {
        self.ram.pins(pin, page)
    }

    fn lockable(&self, task: Task) -> (u64, u64) {
        self.ram.accounts().lockable(task)
    }

    fn copy(&self, pin: Pin, at: u64, bytes: Transfer<'_>) {
        match bytes {
            Transfer::Read(bytes) => self.ram.read_pinned(pin, at, bytes),
            Transfer::Write(bytes) => self.ram.write_pinned(pin, at, bytes),
        }
    }

    fn charge(&self, task: Task, account: Account, pages: u64) -> bool {
        self.ram.accounts().charge(task, account, pages)
    }

    fn uncharge(&self, task: Task, account: Account, pages: u64) {
        self.ram.accounts().uncharge(task, account, pages);
    }

    fn hold_task(&self, task: Task) {
        self.ram.accounts().hold(task);
    }

    fn put_task(&self, task: Task) {
        self.ram.accounts().put(task);
    }

    fn put_backing(&self, backing: Backing) {
        self.ram.put_backing(backing);
    }
}

impl subsystem::Iommu for World {
    type Domain = Domain;

    fn iommu(&self, function: Function) -> Option<IommuInfo> {
        self.groups.info(function)
    }

    fn iommu_of_group(&self, group: u32) -> Option<IommuInfo> {
        self.groups.info_of(group)
    }

    fn unmanaged_domain(&self) -> Domain {
        UNMANAGED
    }

    fn domain_new(&self, kind: DomainKind) -> Option<Domain> {
        let aperture_last = match kind {
            DomainKind::Physical => None,
            DomainKind::Translated { aperture_last } => Some(aperture_last),
        };
        Some(self.domains.create(aperture_last))
    }

    fn domain_free(&self, domain: Domain) {
        self.domains.remove(domain);
    }

    fn domain_map(&self, domain: Domain, mapping: Mapping<Pin>) -> bool {
        self.domains.map(domain, &mapping);
        true
    }

    fn domain_unmap(&self, domain: Domain, mapping: Mapping<Pin>) {
        self.domains.unmap(domain, &mapping);
    }

    fn domain_attach(&self, function: Function, domain: Option<Domain>) {
        self.with(function, (), |function| self.domains.attach(function.dma(), domain));
    }

    fn group_attach(&self, group: u32, domain: Option<Domain>) {
        self.groups.attach(group, domain, |member, domain| self.domain_attach(member, domain));
    }

    fn dirty_tracking(&self, domain: Domain, on: bool) {
        self.domains.track_dirty(domain, on);
    }

    fn dirty_read(&self, domain: Domain, iova: u64, last: u64, clear: bool, each: &mut dyn FnMut(u64, u64)) {
        for page in self.domains.dirty(domain, iova / Self::PAGE, last / Self::PAGE, clear) {
            each(page * Self::PAGE, page * Self::PAGE + (Self::PAGE - 1));
        }
    }

    fn dma_claim(&self, group: u32, owner: DmaOwner) -> bool {
        self.groups.claim(group, owner, |member, domain| self.domain_attach(member, domain))
    }

    fn dma_release(&self, group: u32) {
        self.groups.release(group, |member, domain| self.domain_attach(member, domain));
    }

    fn dma_claimed(&self, group: u32) -> bool {
        self.groups.is_claimed(group)
    }
}

impl subsystem::Bus for World {
    type Event = Event;

    fn signal(&self, event: &Event) {
        event.signal();
    }

    fn name(&self, function: Function, write: &mut dyn FnMut(&str)) {
        if let Some(site) = self.site(function) {
            write(&site.name);
        }
    }

    fn config_read(&self, function: Function, offset: u16, width: u8) -> u32 {
        self.with(function, u32::MAX, |function| function.config_read(offset, width))
    }

    fn config_write(&self, function: Function, offset: u16, width: u8, value: u32) {
        self.with(function, (), |function| function.config_write(offset, width, value));
    }

    fn config_size(&self, function: Function) -> u16 {
        self.with(function, 256, PciFunction::config_size)
    }

    fn region(&self, function: Function, index: u8) -> Option<Region> {
        let function = self.bus.get(function)?;
        if index == Rom::REGION {
            let kind = RegionKind::Memory { wide: false, prefetchable: false };
            return function.rom().map(|rom| Region { kind, size: rom.size, address: rom.address });
        }
        let bar = (*function.identity().bars.get(usize::from(index))?)?;
        let kind = match bar.kind {
            BarKind::Memory32 => RegionKind::Memory { wide: false, prefetchable: false },
            BarKind::Memory64 => RegionKind::Memory { wide: true, prefetchable: false },
            BarKind::Io => RegionKind::Io,
        };
        Some(Region { kind, size: bar.size, address: function.bar_address(usize::from(index)) })
    }

    fn region_read(&self, function: Function, index: u8, offset: u64, width: u8) -> u64 {
        let Some(width) = register_width(width) else { return u64::MAX };
        self.with(function, u64::MAX, |function| function.read(Register { bar: index, offset, width }))
    }

    fn region_write(&self, function: Function, index: u8, offset: u64, width: u8, value: u64) {
        let Some(width) = register_width(width) else { return };
        self.with(function, (), |function| function.write(Register { bar: index, offset, width }, value));
    }

    fn regions_enable(&self, function: Function, enabled: bool) {
        self.with(function, (), |function| function.enable_mappings(enabled));
    }

    fn revocations(&self, function: Function) -> u32 {
        self.with(function, 0, PciFunction::revocations)
    }

    fn can_reset(&self, function: Function) -> bool {
        let own = |function: &PciFunction| {
            function.identity().express.is_some_and(|express| express.function_reset)
        };
        // Alone on its bus, it is reset by what resets the bus.
        self.with(function, false, own) || self.behind_port(function).count() == 1
    }

    fn reset(&self, function: Function) -> Result<(), Errno> {
        if !self.can_reset(function) {
            return Err(Errno::ENOTTY);
        }
        self.with(function, (), PciFunction::reset);
        Ok(())
    }

    fn has_line(&self, function: Function) -> bool {
        self.with(function, false, |function| function.identity().line)
    }

    fn vectors_enable(&self, function: Function, kind: IrqKind, count: u32) -> u32 {
        self.with(function, 0, |function| function.vectors_enable(kind, count))
    }

    fn vector_set(&self, function: Function, kind: IrqKind, vector: u32, event: Option<Event>) {
        self.with(function, (), |function| function.vector_set(kind, vector, event));
    }

    fn vectors_disable(&self, function: Function, kind: IrqKind) {
        self.with(function, (), |function| function.vectors_disable(kind));
    }

    fn line_level(&self, function: Function) -> bool {
        self.with(function, false, |function| function.interrupts().line_level())
    }

    fn watch(&self, function: Function, watch: Watch, event: Option<Event>) {
        self.watches.set(function, watch, event);
    }

    fn place(&self, function: Function) -> Place {
        let place = |address: PciAddress| Place {
            segment: address.domain(),
            bus: address.bus(),
            devfn: address.devfn(),
        };
        let nowhere = Place { segment: 0, bus: 0, devfn: 0 };
        self.with(function, nowhere, |function| place(function.address()))
    }

    fn each_on_bus(&self, function: Function, f: &mut dyn FnMut(Function)) {
        self.behind_port(function).for_each(|function| f(function.number()));
    }

    fn reset_bus(&self, function: Function) -> Result<(), Errno> {
        self.behind_port(function).for_each(|function| function.reset());
        Ok(())
    }

    fn sriov(&self, function: Function) -> Sriov {
        self.with(function, Sriov::None, |function| match function.role() {
            Role::Plain => Sriov::None,
            Role::Physical(_) => Sriov::Physical { enabled: function.enabled_vfs().into() },
            Role::Virtual(physical, _) => Sriov::Virtual(*physical),
        })
    }

    fn log(&self, _: Level, function: Option<Function>, line: fmt::Arguments<'_>) {
        match function.and_then(|function| self.site(function)) {
            Some(Site { driver, name, .. }) => self.log.line(format_args!("{driver} {name}: {line}")),
            None => self.log.line(line),
        }
    }

    fn taint(&self, flags: u64) {
        self.taint.fetch_or(flags, Ordering::SeqCst);
    }

    fn sysfs_path(&self, function: Function, write: &mut dyn FnMut(&str)) {
        if let Some(site) = self.site(function) {
            write(&site.folder);
        }
    }
}

impl subsystem::Nodes for World {
    fn node_add(&self, node: Node) -> Result<(), Errno> {
        self.tree.add_node(node, self.site_of(node.kind).as_ref())
    }

    fn node_remove(&self, node: Node) {
        self.tree.remove_node(node, self.site_of(node.kind).as_ref());
        if let NodeKind::Device { function, .. } | NodeKind::ClassDevice { function, .. } = node.kind {
            self.sleepers.begin(function);
        }
    }

    fn iommu_group_add(&self, function: Function) -> Result<u32, Errno> {
        let site = self.site(function).ok_or(Errno::ENODEV)?;
        let number = self.groups.make(function);
        if let Err(errno) = self.tree.add_iommu_group(&site, number) {
            self.groups.leave(function);
            return Err(errno);
        }
        self.log.line(format_args!("{} {}: Adding to iommu group {number}", site.driver, site.name));
        Ok(number)
    }

    fn iommu_group_remove(&self, function: Function, group: u32) {
        self.groups.leave(function);
        if let Some(site) = self.site(function) {
            self.log.line(format_args!("{} {}: Removing from iommu group {group}", site.driver, site.name));
            self.tree.remove_iommu_group(&site, group);
        }
    }

    fn sleep(&self, function: Function, seconds: u32) -> Slept {
        self.sleepers.sleep(function, seconds)
    }

    fn wake(&self, function: Function) {
        self.sleepers.wake(function);
    }
}

impl World {
    /// The functions on the bus of this one, itself among them, if that bus is behind a port.
    fn behind_port(&self, function: Function) -> impl Iterator<Item = &Arc<PciFunction>> {
        let address = self.bus.get(function).map(|function| function.address());
        let address = address.filter(|&address| self.bus.topology().port(address).is_some());
        address.into_iter().flat_map(|address| self.bus.siblings(address))
    }

    /// Where a device is in sysfs.
    fn site(&self, function: Function) -> Option<Site> {
        let on_bus = self.bus.get(function).map(|function| {
            Site::of_function(self.bus.topology().path(function.address()), function.address())
        });
        on_bus.or_else(|| Some(Site::of_mediated(self.mediated.get(function)?.uuid())))
    }

    /// Where the device of a node is.
    fn site_of(&self, kind: NodeKind) -> Option<Site> {
        match kind {
            NodeKind::Device { function, .. } | NodeKind::ClassDevice { function, .. } => self.site(function),
            NodeKind::Group { .. } | NodeKind::Iommufd | NodeKind::Container => None,
        }
    }
}

fn register_width(bytes: u8) -> Option<Width> {
    match bytes {
        1 => Some(Width::U8),
        2 => Some(Width::U16),
        4 => Some(Width::U32),
        8 => Some(Width::U64),
        _ => None,
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
