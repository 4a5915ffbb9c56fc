//! Building a machine from its specification.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use subsystem::{Function, ModuleParameters, Parameters, Subsystem, Symbol};

use super::driver::{Drivers, PCIEPORT};
use super::{Caller, Machine, Shared};
use crate::bus::{Bus, Topology, sriov};
use crate::dma::{Checker, Domains};
use crate::file::Files;
use crate::iommu::{Groups, Isolation, Place, Unit};
use crate::log::Log;
use crate::mediated::MediatedDevices;
use crate::model::Model;
use crate::models::{Edu, Igb, IgbVirtual, Ioat, Namespace, Nvme, Port, Vga};
use crate::ram::{Memlock, Ram};
use crate::spec::{
    DeviceSpec, Driver, Iommu, Limits, MachineSpec, ModelSpec, NvmeBacking, PciAddress, PortSpec, SpecError,
};
use crate::tree::Tree;
use crate::world::World;

/// A device whose model comes from the caller.
pub struct CustomDevice {
    /// Where it is on the bus.
    pub address: PciAddress,
    /// What it is.
    pub model: Box<dyn Model>,
    /// Whether it runs on a thread of its own, or else inline.
    pub thread: bool,
    /// The driver that is bound to it when the machine starts.
    pub driver: Driver,
}

/// A device before it is on the bus.
struct Device {
    address: PciAddress,
    model: Box<dyn Model>,
    /// `None`: as many as the model has.
    dma_bits: Option<u8>,
    thread: bool,
    driver: Driver,
    present: bool,
    isolation: Isolation,
    /// The virtual functions that it can have.
    vfs: Vec<Box<dyn Model>>,
}

impl Machine {
    /// Builds a machine from a machine file.
    pub fn from_file(path: &Path) -> Result<Self, SpecError> {
        Self::from_spec(MachineSpec::from_file(path)?).map_err(|error| error.in_file(path))
    }

    /// Builds a machine. The calls through the handle are made as the process that the specification describes.
    pub fn from_spec(spec: MachineSpec) -> Result<Self, SpecError> {
        Self::with_devices(spec, Vec::new())
    }

    /// Builds a machine with devices of the caller's own besides those of the specification.
    pub fn with_devices(spec: MachineSpec, custom: Vec<CustomDevice>) -> Result<Self, SpecError> {
        spec.check()?;
        let devices = devices(&spec, custom)?;
        let ram = Ram::new(&spec.ram()).map_err(|error| SpecError::key("memory.size", error))?;
        let memlock = Memlock::Fixed(Some(spec.limits.memlock.unwrap_or(Limits::MEMLOCK).0));
        let uid = rustix::process::getuid().as_raw();
        let task = ram.accounts().task(uid, memlock);
        let domains = Domains::new(ram, Arc::new(Checker::new(spec.dma)));

        let log = Arc::new(Log::default());
        let mut bus = Bus::new(Topology::new(&spec.ports));
        let mut threaded = Vec::new();
        let mut inline = Vec::new();
        let mut bindings = Vec::new();
        let places = places(&devices)?;
        let addresses: Vec<PciAddress> = places.iter().map(|(address, _)| *address).collect();
        let unit = match spec.iommu {
            Iommu::None => None,
            Iommu::Translating(spec) => {
                Some(Unit { spec, default: domains.create(Some(spec.aperture_last())) })
            }
        };
        let groups = Groups::new(unit, places);
        let mut virtual_functions = Vec::new();
        let vfio_pci = spec.build_options()?.has(Symbol::VfioPci);
        let drivers = Drivers::new(vfio_pci, devices.iter().map(|device| &device.driver));
        for (number, device) in (0..).zip(devices) {
            let Device { address, model, dma_bits, thread, driver, present, isolation: _, vfs } = device;
            let identity = model.identity();
            identity
                .check(model.doorbells())
                .map_err(|problem| SpecError::other(format_args!("device {address}: {problem}")))?;
            let dma_bits = dma_bits.unwrap_or(identity.dma_bits);
            let several = addresses.iter().any(|&other| other != address && other.is_of_device(address));
            let faults = groups.is_behind(Function(number)).then(|| Arc::clone(&log));
            let ports = domains.port(&address.to_string(), dma_bits, faults);
            let total = vfs.first().map(|model| (model.identity(), vfs.len() as u8));
            let function = bus.add((address, several), (identity, model), total, ports, &log);
            function.set_present(present);
            virtual_functions.extend((0..).zip(vfs).map(|(index, model)| ((Function(number), index), model)));
            if thread { &mut threaded } else { &mut inline }.push(function);
            bindings.push(drivers.binding(&driver, present));
        }

        for (place, model) in virtual_functions {
            let (identity, number) = (model.identity(), Function(bus.functions().len() as u32));
            let address = addresses.get(number.0 as usize).map_or(String::new(), ToString::to_string);
            let faults = groups.is_behind(number).then(|| Arc::clone(&log));
            let ports = domains.port(&address, identity.dma_bits, faults);
            bus.add_virtual(place, (identity, model), ports, &log);
            bindings.push(drivers.binding(&Driver::None, false));
        }

        let subsystem = subsystem(&spec, drivers.names(), bus, domains, groups, log)?;
        let caller = Caller::new(task, &spec.capabilities, memlock);
        let runners = Mutex::default();
        let files = Files::default();
        let enable_sriov = AtomicBool::new(spec.enable_sriov);
        let shared = Shared {
            runners,
            subsystem,
            threaded,
            inline,
            drivers,
            bindings,
            files,
            releasing: Mutex::default(),
            mapped: Mutex::default(),
            enable_sriov,
            task,
        };
        let machine = Machine { shared: Arc::new(shared), caller };
        machine.start_threads().map_err(SpecError::other)?;
        machine.shared.bind_at_start();
        Ok(machine)
    }
}

impl Caller {
    pub(super) fn new(task: subsystem::Task, capabilities: &[String], memlock: Memlock) -> Self {
        let holds = |name: &str| capabilities.iter().any(|held| held == name);
        let caps = subsystem::Caps {
            sys_rawio: holds("CAP_SYS_RAWIO"),
            ipc_lock: holds("CAP_IPC_LOCK"),
            sys_resource: holds("CAP_SYS_RESOURCE"),
        };
        let effective = Arc::new(AtomicU64::new(u64::MAX));
        Caller { task, caps, admin: holds("CAP_SYS_ADMIN"), effective, memlock, elsewhere: None }
    }
}

/// All devices, by ascending address: the order in which a bus scan finds them.
fn devices(spec: &MachineSpec, custom: Vec<CustomDevice>) -> Result<Vec<Device>, SpecError> {
    let mut devices = spec.devices.iter().map(specified).collect::<Result<Vec<_>, _>>()?;
    devices.extend(custom.into_iter().map(|CustomDevice { address, model, thread, driver }| Device {
        address,
        model,
        dma_bits: None,
        thread,
        driver,
        present: true,
        isolation: Isolation::Own,
        vfs: Vec::new(),
    }));
    devices.extend(spec.ports.iter().map(|&PortSpec { address, bus }| Device {
        address,
        model: Box::new(Port { bus }),
        dma_bits: None,
        thread: false,
        driver: Driver::Host(PCIEPORT.to_string()),
        present: true,
        isolation: Isolation::Own,
        vfs: Vec::new(),
    }));
    devices.sort_by_key(|device| device.address);
    if let Some(pair) = devices.windows(2).find(|pair| pair[0].address == pair[1].address) {
        return Err(SpecError::duplicate(pair[0].address));
    }
    Ok(devices)
}

/// Where each function is, by number: devices by ascending address, then the virtual functions of all.
fn places(devices: &[Device]) -> Result<Vec<Place>, SpecError> {
    let mut places: Vec<Place> = devices.iter().map(|device| (device.address, device.isolation)).collect();
    for Device { address, isolation, vfs, .. } in devices {
        let isolation = if *isolation == Isolation::Bypass { Isolation::Bypass } else { Isolation::Alone };
        for index in 0..vfs.len() as u8 {
            let place =
                sriov::address(*address, index).filter(|it| places.iter().all(|(other, _)| other != it));
            let place = place.ok_or_else(|| {
                let problem =
                    format_args!("device {address} has no room on its bus for virtual function {index}");
                SpecError::key("device.vfs", problem)
            })?;
            places.push((place, isolation));
        }
    }
    Ok(places)
}

fn specified(spec: &DeviceSpec) -> Result<Device, SpecError> {
    let model: Box<dyn Model> = match &spec.model {
        ModelSpec::Edu => Box::new(Edu::new()),
        ModelSpec::Igb => Box::new(Igb::new()),
        ModelSpec::Ioat => Box::new(Ioat::new()),
        ModelSpec::Vga => Box::new(Vga::new()),
        ModelSpec::Nvme(backing) => {
            Box::new(Nvme::new(namespace(backing)?, &format!("ioasis-{}", spec.address)))
        }
    };
    let (dma_bits, isolation) = (spec.dma_mask, Isolation::of(spec));
    let DeviceSpec { address, thread, present, .. } = *spec;
    let vfs = (0..spec.vfs).map(|_| Box::new(IgbVirtual::new()) as Box<dyn Model>).collect();
    Ok(Device { address, model, dma_bits, thread, driver: spec.driver.clone(), present, isolation, vfs })
}

fn namespace(backing: &NvmeBacking) -> Result<Namespace, SpecError> {
    match backing {
        NvmeBacking::Image(path) => {
            Namespace::image(path).map_err(|error| SpecError::key("device.image", error))
        }
        NvmeBacking::Memory(size) => {
            Namespace::memory(size.0).map_err(|error| SpecError::key("device.size", error))
        }
    }
}

/// The world with its files, and the subsystem on it.
fn subsystem(
    spec: &MachineSpec,
    drivers: &[String],
    bus: Bus,
    domains: Domains,
    groups: Groups,
    log: Arc<Log>,
) -> Result<Subsystem<World>, SpecError> {
    let kconfig = spec.build_options()?;
    let topology = bus.topology().clone();
    let tree = Tree::new(kconfig, spec.cdev_name, topology, drivers).map_err(failed("file tree"))?;
    if let Iommu::Translating(iommu) = spec.iommu {
        tree.add_iommu(iommu.registers()).map_err(failed("file tree"))?;
    }
    let mediated = MediatedDevices::new(bus.functions().len() as u32, &spec.mediated, domains.ram());
    let world = World::new(bus, mediated, domains, groups, tree, log).map_err(failed("eventfds"))?;
    for function in world.bus().functions().iter().filter(|function| function.is_present()) {
        world.plug(function).map_err(failed("file tree"))?;
    }
    for device in world.mediated().all() {
        world.tree().add_mediated(device.uuid()).map_err(failed("file tree"))?;
    }
    let parameters = Parameters {
        kconfig,
        modules: ModuleParameters {
            unsafe_noiommu_mode: spec.unsafe_noiommu_mode,
            unsafe_interrupts: spec.allow_unsafe_interrupts,
            type1_unsafe_interrupts: spec.type1.allow_unsafe_interrupts,
            dma_entry_limit: spec.type1.dma_entry_limit,
        },
        dynamic_msix: true,
    };
    Subsystem::new(world, parameters).map_err(failed("subsystem"))
}

fn failed<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> SpecError {
    move |error| SpecError::other(format_args!("cannot build the machine: {what}: {error}"))
}
