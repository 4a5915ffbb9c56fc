//! Who has the DMA of an iommu_group: programs through VFIO, or drivers of the host.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::model::{Identity, Model, Reach, Register, Work};
use machine::{CustomDevice, Driver, Machine, MachineSpec};
use sys::Sys;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::common::*;
use crate::container::*;

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const JOINED: u32 = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;

/// A machine whose second device, in a group with the first, starts with a driver.
fn machine(driver: Driver) -> Machine {
    let mut spec = iommu_spec();
    spec.devices[1].driver = driver;
    Machine::from_spec(spec).unwrap()
}

fn host(name: &str) -> Driver {
    Driver::Host(name.into())
}

/// Writes the address of the second device to a file of a driver.
fn second(machine: &Machine, driver: &str, file: &str) -> Result<(), Errno> {
    write(machine, &format!("/sys/bus/pci/drivers/{driver}/{file}"), SECOND).map_err(|error| error.errno())
}

/// The errno of a refusal, and the rule that was broken.
fn refused<T: std::fmt::Debug>(result: sys::Result<T>) -> (Errno, &'static str) {
    let error = result.unwrap_err();
    (error.errno(), error.rule().map_or("", |rule| rule.name))
}

fn bind(machine: &Machine, address: &str) -> sys::Result<u32> {
    let (device, iommufd) = (open_device(machine, address)?, open(machine, "/dev/iommu")?);
    bind_to(machine, &device, iommufd.as_fd().as_raw_fd())
}

#[test]
fn a_group_with_a_device_of_the_host_is_not_viable() {
    let machine = machine(host("nvme"));
    let (group, container) = (open_group(&machine, FIRST).unwrap(), open_container(&machine));
    assert_eq!(status(&machine, &group), 0);
    let joins = || set_container(&machine, &group, &container);
    assert_eq!(refused(joins()), (Errno::EPERM, "set-container.owned"));
    second(&machine, "nvme", "unbind").unwrap();
    assert_eq!(status(&machine, &group), VIABLE);
    joins().unwrap();
    assert_eq!(status(&machine, &group), JOINED);
    assert_eq!(second(&machine, "nvme", "bind"), Err(Errno::EBUSY), "a program has the DMA of the group");
    let probe = write(&machine, "/sys/bus/pci/drivers_probe", SECOND).unwrap_err();
    assert_eq!(probe.errno(), Errno::EINVAL, "as Linux says it there");
    unset_container(&machine, &group).unwrap();
    second(&machine, "nvme", "bind").unwrap();
    assert_eq!(status(&machine, &group), 0);
    drop(group);
    assert_eq!(refused(bind(&machine, FIRST)), (Errno::EPERM, "bind.dma-owner"));
    assert!(bind(&machine, ALONE).is_ok(), "another group");
}

/// An iommufd in the place of a container takes the DMA with the device, not with the group.
#[test]
fn what_is_not_viable_joins_an_iommufd_and_gives_out_nothing() {
    let machine = machine(host("nvme"));
    let (group, iommufd) = (open_group(&machine, FIRST).unwrap(), open(&machine, "/dev/iommu").unwrap());
    set_container(&machine, &group, &iommufd).unwrap();
    assert_eq!(status(&machine, &group), JOINED, "as Linux says");
    let gives = || device_fd(&machine, &group, FIRST);
    assert_eq!(refused(gives()), (Errno::EPERM, "bind.dma-owner"));
    second(&machine, "nvme", "unbind").unwrap();
    let device = gives().unwrap();
    assert_eq!(second(&machine, "nvme", "bind"), Err(Errno::EBUSY));
    drop(device);
    second(&machine, "nvme", "bind").unwrap();
}

/// While a device is bound through its own node, the context has the DMA of the whole group.
#[test]
fn a_bound_device_keeps_drivers_of_the_host_away() {
    let machine = machine(host("nvme"));
    second(&machine, "nvme", "unbind").unwrap();
    let (device, iommufd) = (open_device(&machine, FIRST).unwrap(), open(&machine, "/dev/iommu").unwrap());
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    assert_eq!(second(&machine, "nvme", "bind"), Err(Errno::EBUSY));
    assert!(!exists(&machine, &format!("{}/driver", sysfs(SECOND))));
    drop(device);
    second(&machine, "nvme", "bind").unwrap();
    assert!(exists(&machine, &format!("{}/driver/{SECOND}/vendor", sysfs(SECOND))));
}

#[test]
fn drivers_without_dma_do_no_harm() {
    for driver in [Driver::None, host("pci-stub"), host("pcieport")] {
        let machine = machine(driver);
        let group = open_group(&machine, FIRST).unwrap();
        assert_eq!(status(&machine, &group), VIABLE);
        set_container(&machine, &group, &open_container(&machine)).unwrap();
        drop(group);
        assert!(bind(&machine, FIRST).is_ok());
    }
}

/// A container has the DMA of a group to itself, and so has a context; for devices of one context it is the same owner.
#[test]
fn containers_and_contexts_exclude_each_other() {
    let machine = machine(Driver::VfioPci);
    let (group, iommufd) = (open_group(&machine, FIRST).unwrap(), open(&machine, "/dev/iommu").unwrap());
    set_container(&machine, &group, &iommufd).unwrap();
    let devices = [FIRST, SECOND].map(|address| device_fd(&machine, &group, address).unwrap());
    unset_container(&machine, &group).unwrap();
    assert_eq!(status(&machine, &group), 0, "the devices that it gave out are open");
    let (container, other) = (open_container(&machine), open(&machine, "/dev/iommu").unwrap());
    assert_eq!(refused(set_container(&machine, &group, &container)), (Errno::EPERM, "set-container.owned"));
    let [first, last] = devices;
    drop(first);
    set_container(&machine, &group, &other).unwrap();
    assert_eq!(refused(device_fd(&machine, &group, FIRST)), (Errno::EPERM, "bind.dma-owner"));
    unset_container(&machine, &group).unwrap();
    drop(last);
    set_container(&machine, &group, &container).unwrap();
}

#[test]
fn devices_without_an_iommu_are_nobodys() {
    let mut spec = edu_spec();
    spec.devices[0].driver = host("nvme");
    let machine = Machine::from_spec(spec).unwrap();
    let driver =
        |name: &str, file: &str| write(&machine, &format!("/sys/bus/pci/drivers/{name}/{file}"), EDU);
    driver("nvme", "unbind").unwrap();
    write(&machine, &format!("{}/driver_override", sysfs(EDU)), "vfio-pci").unwrap();
    driver("vfio-pci", "bind").unwrap();
    let device = open(&machine, NODE).unwrap();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
}

/// How sysfs shows drivers, and which of them takes a device.
#[test]
fn a_device_has_the_driver_that_knows_it_or_that_was_named() {
    let machine = machine(host("nvme"));
    let link = |path: &str| machine.read_link(Path::new(path)).map(|link| link.to_str().unwrap().to_owned());
    let only = format!("{}/driver_override", sysfs(SECOND));
    assert_eq!(link(&format!("{}/driver", sysfs(SECOND))), Ok("../../../bus/pci/drivers/nvme".into()));
    assert_eq!(read(&machine, &only), "(null)\n");
    assert_eq!(machine.read_dir(Path::new("/sys/bus/pci/drivers")).unwrap(), ["nvme", "vfio-pci"]);
    assert_eq!(second(&machine, "vfio-pci", "unbind"), Err(Errno::ENODEV), "it has another driver");
    assert_eq!(second(&machine, "vfio-pci", "bind"), Err(Errno::ENODEV), "it knows no device");
    write(&machine, &only, "vfio-pci").unwrap();
    assert_eq!(second(&machine, "vfio-pci", "bind"), Err(Errno::EBUSY));
    second(&machine, "nvme", "unbind").unwrap();
    assert_eq!(second(&machine, "nvme", "bind"), Err(Errno::ENODEV), "another one was named");
    write(&machine, "/sys/bus/pci/drivers_probe", SECOND).unwrap();
    assert!(exists(&machine, &format!("{}/vfio-dev", sysfs(SECOND))));
    second(&machine, "vfio-pci", "unbind").unwrap();
    write(&machine, &only, "\n").unwrap();
    write(&machine, "/sys/bus/pci/drivers_probe", SECOND).unwrap();
    assert_eq!(link(&format!("{}/driver", sysfs(SECOND))), Ok("../../../bus/pci/drivers/nvme".into()));
}

/// Root ports have their driver, which does not keep programs from what shares their group.
#[test]
fn a_port_has_its_driver() {
    let port = "[[port]]\naddress = \"0000:00:1c.0\"\nbus = 2\n";
    let machine = Machine::from_spec(port.parse::<MachineSpec>().unwrap()).unwrap();
    let driver = machine.read_link(Path::new(&format!("{}/driver", sysfs("0000:00:1c.0")))).unwrap();
    assert!(driver.ends_with("drivers/pcieport"));
}

/// A device that reads memory where nothing is mapped, whenever it gets its turn.
struct Stray;

impl Model for Stray {
    fn identity(&self) -> Identity {
        Identity { bars: [None; 6], ..identity(4096) }
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        0
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        // It is blocked.
        let _blocked = reach.dma.read_u32(0x30_0000);
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {}
}

/// What the log says of a stray access depends on who has the group: as long as nobody has, drivers of the host could map
/// memory there; a program has nothing at all before it attaches the device.
#[test]
fn faults_tell_whether_a_program_has_the_group() {
    const UNMAPPED: &str = "[fault reason 0x06] PTE Read access is not set";
    const BLOCKED: &str = "[fault reason 0x02] Present bit in context entry is clear";
    let (address, driver) = (ALONE.parse().unwrap(), Driver::VfioPci);
    let device = CustomDevice { address, model: Box::new(Stray), thread: false, driver };
    let spec = MachineSpec { devices: Vec::new(), ..iommu_spec() };
    let machine = Machine::with_devices(spec, vec![device]).unwrap();
    let last = || {
        // Any call lets the device have its turn.
        drop(open(&machine, "/dev/iommu").unwrap());
        let log = machine.log();
        let line = log.iter().rfind(|line| line.starts_with("DMAR: [DMA Read NO_PASID]")).unwrap();
        line[line.find("[fault").unwrap()..].to_owned()
    };
    let config = open(&machine, &format!("{}/config", sysfs(ALONE))).unwrap();
    machine.pwrite(&config, &[6, 0], 4).unwrap();
    assert_eq!(last(), UNMAPPED);
    let (device, iommufd) = (open_device(&machine, ALONE).unwrap(), open(&machine, "/dev/iommu").unwrap());
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    set_bus_master(&machine, &device, true);
    assert_eq!(last(), BLOCKED);
    let mut ioas = IommuIoasAlloc::new();
    machine.ioctl(&iommufd, &mut ioas).unwrap();
    let mut attach = VfioDeviceAttachIommufdPt { pt_id: ioas.out_ioas_id, ..Command::new() };
    machine.ioctl(&device, &mut attach).unwrap();
    assert_eq!(last(), UNMAPPED);
    machine.ioctl(&device, &mut VfioDeviceDetachIommufdPt::new()).unwrap();
    assert_eq!(last(), BLOCKED);
    drop(device);
    machine.pwrite(&config, &[6, 0], 4).unwrap();
    assert_eq!(last(), UNMAPPED);
}
