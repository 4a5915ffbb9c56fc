//! Devices behind an IOMMU leave the bus and come back, and drivers are unbound, while programs use them.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use machine::{Driver, File, Machine};
use subsystem::Usage;
use sys::{Access, Mmio, Suite, Sys, Tailed};
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::common::*;
use crate::container::*;
use crate::pump::*;

const RESCAN: &str = "/sys/bus/pci/rescan";

/// An educational device that reads memory, inline.
struct Dma {
    bar: Mmio,
    address: &'static str,
}

impl Dma {
    /// That of a group.
    fn new(machine: &Machine, group: &File, address: &'static str) -> Self {
        let device = device_fd(machine, group, address).unwrap();
        Self::of(machine, machine.adopt(device, Path::new("device of a group")).unwrap(), address)
    }

    fn of(machine: &Machine, device: File, address: &'static str) -> Self {
        set_bus_master(machine, &device, true);
        // The mapping keeps the device open.
        Dma { bar: bar(machine, &device, 4096), address }
    }

    /// Has it read at [`IOVA`]; how many of its accesses were blocked by that.
    fn blocked(&self, machine: &Machine) -> u64 {
        let count = || machine.fault_count(self.address.parse().unwrap()).unwrap();
        let before = count();
        for (register, value) in [(0x80, IOVA), (0x88, 0x40000), (0x90, 4096), (0x98, 1)] {
            self.bar.write64(register, value);
        }
        count() - before
    }
}

/// Writes to a file on another thread, which waits; what is received then tells that the write has returned.
fn begin(machine: &Machine, path: &str, text: &'static str) -> Receiver<sys::Result<()>> {
    let (done, answer) = mpsc::channel();
    let (machine, path) = (machine.clone(), path.to_owned());
    thread::spawn(move || done.send(write(&machine, &path, text)));
    answer
}

#[test]
fn a_device_that_is_removed_is_asked_for_and_waited_for() {
    for way in WAYS {
        let machine = pump_machine();
        let (folder, number) = (sysfs(ALONE), group_node(&machine, ALONE).replace("/dev/vfio/", ""));
        let iommu_group = format!("/sys/kernel/iommu_groups/{number}");
        let pumping = Pumping::start(&machine, way);
        let answer = begin(&machine, &format!("{folder}/remove"), "1");
        pumping.is_asked(&machine);
        for gone in ["remove", "driver", "vfio-dev/vfio0"] {
            assert!(!exists(&machine, &format!("{folder}/{gone}")), "{gone}");
        }
        assert!(exists(&machine, &format!("{folder}/iommu_group")) && exists(&machine, &iommu_group));
        pumping.goes_on();
        assert!(answer.try_recv().is_err(), "the program has it still");
        drop(pumping);
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
        for gone in [&folder, &iommu_group, "/dev/vfio/devices/vfio0", &format!("/dev/vfio/{number}")] {
            assert!(!exists(&machine, gone), "{gone}");
        }
        assert_eq!(machine.usage(), Usage::default());
        let line = format!("vfio-pci {ALONE}: Relaying device request to user (#0)");
        assert!(machine.log().contains(&line), "{:?}", machine.log());
        assert_eq!(strays(&machine), []);
    }
}

#[test]
fn a_device_that_has_left_comes_back_without_a_driver() {
    let machine = pump_machine();
    let folder = sysfs(ALONE);
    let config = machine.open(Path::new(&format!("{folder}/config")), Access::Read).unwrap();
    let node = group_node(&machine, ALONE);
    write(&machine, &format!("{folder}/remove"), "0").unwrap();
    assert!(exists(&machine, &folder), "0 is for nothing");
    write(&machine, &format!("{folder}/remove"), "1").unwrap();
    assert_eq!(machine.pread(&config, &mut [0; 4], 0).unwrap_err().errno(), Errno::ENODEV);
    assert_eq!(write(&machine, &format!("{DRIVER}/bind"), ALONE).unwrap_err().errno(), Errno::ENODEV);
    assert_eq!(write(&machine, RESCAN, "x").unwrap_err().errno(), Errno::EINVAL);
    write(&machine, RESCAN, "0").unwrap();
    assert!(!exists(&machine, &folder));

    write(&machine, RESCAN, "1\n").unwrap();
    assert_eq!(read(&machine, &format!("{folder}/driver_override")), "(null)\n", "it was forgotten");
    assert!(!exists(&machine, &format!("{folder}/driver")) && !exists(&machine, &node));
    write(&machine, &format!("{folder}/driver_override"), "vfio-pci").unwrap();
    write(&machine, "/sys/bus/pci/drivers_probe", ALONE).unwrap();
    assert_eq!(group_node(&machine, ALONE), node, "the number is free again");
    for way in WAYS {
        drop(Pumping::start(&machine, way));
    }
    assert_eq!(strays(&machine), []);
}

/// The program has closed the descriptor of its device without a word, and makes no other call.
#[test]
fn a_bare_descriptor_that_is_closed_ends_the_wait() {
    let machine = pump_machine();
    let (group, container) = (open_group(&machine, ALONE).unwrap(), open_container(&machine));
    set_container(&machine, &group, &container).unwrap();
    set_iommu(&machine, &container, VFIO_TYPE1v2_IOMMU).unwrap();
    let device = device_fd(&machine, &group, ALONE).unwrap();
    let answer = begin(&machine, &format!("{}/remove", sysfs(ALONE)), "1");
    while exists(&machine, &format!("{}/vfio-dev", sysfs(ALONE))) {
        thread::yield_now();
    }
    assert!(answer.try_recv().is_err());
    drop(device);
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
}

/// A group stays what it is while one of its devices leaves and comes back.
#[test]
fn the_others_of_a_group_go_on() {
    let machine = Machine::from_spec(iommu_spec()).unwrap();
    let contained = Contained::new(&machine, FIRST);
    let group = &contained.group;
    let node = group_node(&machine, SECOND);
    let joined = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
    write(&machine, &format!("{}/remove", sysfs(SECOND)), "1").unwrap();
    assert_eq!(status(&machine, group), joined);
    assert_eq!(device_fd(&machine, group, SECOND).unwrap_err().errno(), Errno::ENODEV);
    write(&machine, RESCAN, "1").unwrap();
    write(&machine, &format!("{}/driver_override", sysfs(SECOND)), "vfio-pci").unwrap();
    write(&machine, "/sys/bus/pci/drivers_probe", SECOND).unwrap();
    assert_eq!((group_node(&machine, SECOND), status(&machine, group)), (node, joined));
    let memory = page(&machine);
    map_dma(&machine, &contained.container, memory.start().as_ptr() as u64, IOVA, 4096).unwrap();
    let second = Dma::new(&machine, group, SECOND);
    assert_eq!(second.blocked(&machine), 0, "it reaches what the container has");
    assert_eq!(unmap_dma(&machine, &contained.container, IOVA, 4096), Ok(4096));
    assert_eq!(second.blocked(&machine), 1);
}

/// The device that a group came with may leave before the others.
#[test]
fn a_group_outlives_the_device_that_it_came_with() {
    let machine = Machine::from_spec(iommu_spec()).unwrap();
    let (group, container) = (open_group(&machine, FIRST).unwrap(), open_container(&machine));
    let remove = || write(&machine, &format!("{}/remove", sysfs(FIRST)), "1").unwrap();
    set_container(&machine, &group, &container).unwrap();
    remove();
    set_iommu(&machine, &container, VFIO_TYPE1v2_IOMMU).unwrap();
    let memory = page(&machine);
    map_dma(&machine, &container, memory.start().as_ptr() as u64, IOVA, 4096).unwrap();
    let second = Dma::new(&machine, &group, SECOND);
    assert_eq!(second.blocked(&machine), 0);
    drop(second);
    write(&machine, RESCAN, "1").unwrap();
    remove();
    unset_container(&machine, &group).unwrap();
    assert_eq!(machine.usage().areas, 0);
    drop(group);
    let bound = Bound::new(&machine, SECOND);
    let second = Dma::of(&machine, bound.device, SECOND);
    assert_eq!(second.blocked(&machine), 1, "nothing is left of the container");
}

/// What comes to a group that a program has gets no driver that would take its DMA.
#[test]
fn a_device_that_comes_to_a_group_in_use_has_no_driver() {
    let mut spec = iommu_spec();
    (spec.devices[1].driver, spec.devices[1].present) = (Driver::Host("nvme".into()), false);
    let machine = Machine::from_spec(spec).unwrap();
    let contained = Contained::new(&machine, FIRST);
    assert!(!exists(&machine, &sysfs(SECOND)));
    write(&machine, RESCAN, "1").unwrap();
    assert_eq!(group_node(&machine, SECOND), group_node(&machine, FIRST));
    let driver = format!("{}/driver", sysfs(SECOND));
    assert!(!exists(&machine, &driver));
    drop(contained);
    write(&machine, "/sys/bus/pci/drivers_probe", SECOND).unwrap();
    assert!(machine.read_link(Path::new(&driver)).unwrap().ends_with("nvme"));
}

/// A bus is reset without the functions that have left it.
#[test]
fn who_has_left_takes_no_part_in_a_reset_of_the_bus() {
    let text = "iommu = \"translating\"\n[[port]]\naddress = \"0000:00:1c.0\"\nbus = 2\n[[device]]\n\
                address = \"0000:02:00.0\"\nmodel = \"edu\"\n[[device]]\naddress = \"0000:02:00.1\"\n\
                model = \"edu\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    let contained = Contained::new(&machine, EDU);
    let count = || {
        let mut info = Tailed::new(VfioPciHotResetInfo { argsz: 64, ..Command::new() }, 52);
        machine.ioctl_tailed(&contained.device, &mut info).unwrap();
        info.head().count
    };
    assert_eq!(count(), 2);
    write(&machine, &format!("{}/remove", sysfs("0000:02:00.1")), "1").unwrap();
    assert_eq!(count(), 1);
    write(&machine, RESCAN, "1").unwrap();
    assert_eq!(count(), 2);
}

/// With a port goes what is behind it, and comes back with it.
#[test]
fn what_is_behind_a_port_leaves_with_it() {
    let text = "iommu = \"translating\"\n[[port]]\naddress = \"0000:00:1c.0\"\nbus = 2\n[[device]]\n\
                address = \"0000:02:00.0\"\nmodel = \"edu\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    let (port, device) = (sysfs("0000:00:1c.0"), open_device(&machine, EDU).unwrap());
    let answer = begin(&machine, &format!("{port}/remove"), "1");
    while exists(&machine, &format!("{}/vfio-dev", sysfs(EDU))) {
        thread::yield_now();
    }
    assert!(exists(&machine, &port), "what is behind it goes first");
    drop(device);
    answer.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(!exists(&machine, &port) && !exists(&machine, &sysfs(EDU)));
    write(&machine, RESCAN, "1").unwrap();
    assert!(exists(&machine, &format!("{port}/driver/{}", "0000:00:1c.0")), "its driver knows it");
    assert!(
        exists(&machine, &format!("{port}/{EDU}/vendor"))
            && !exists(&machine, &format!("{port}/{EDU}/driver"))
    );
}

#[test]
fn a_driver_is_unbound_and_bound_while_dma_runs() {
    for way in WAYS {
        let machine = pump_machine();
        for _ in 0..5 {
            let pumping = Pumping::start(&machine, way);
            let answer = begin(&machine, &format!("{DRIVER}/unbind"), ALONE);
            pumping.is_asked(&machine);
            pumping.goes_on();
            assert!(answer.try_recv().is_err(), "the program has it still");
            drop(pumping);
            answer.recv_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(machine.usage(), Usage::default());
            write(&machine, &format!("{DRIVER}/bind"), ALONE).unwrap();
        }
        assert_eq!(strays(&machine), []);
    }
}

/// The parameter that lets devices without an IOMMU be registered is nothing to those behind one.
#[test]
fn no_parameter_is_needed_behind_an_iommu() {
    let machine = pump_machine();
    let pumping = Pumping::start(&machine, WAYS[0]);
    write(&machine, PARAMETER, "N").unwrap();
    pumping.goes_on();
    drop(pumping);
    write(&machine, &format!("{DRIVER}/unbind"), ALONE).unwrap();
    write(&machine, &format!("{DRIVER}/bind"), ALONE).unwrap();
    drop(Pumping::start(&machine, WAYS[1]));
    assert_eq!(machine.taint(), Ok(0));
}
