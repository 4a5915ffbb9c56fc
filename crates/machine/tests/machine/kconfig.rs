//! Build options: what a machine of each configuration shows, and which configurations are none.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::{Machine, MachineSpec};
use rustix::event::{EventfdFlags, eventfd};
use sys::{Access, Error, Sys, Tailed};
use uapi::iommufd::*;
use uapi::iommufd_test::IOMMU_TEST_CMD;
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::common::*;

/// A machine with an educational device, of a kernel with these options, such as `VFIO_GROUP=n`.
fn machine(options: &str) -> Machine {
    Machine::from_spec(spec(options).unwrap()).unwrap()
}

fn spec(options: &str) -> Result<MachineSpec, String> {
    let mut text = String::from("[kconfig]\n");
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=').unwrap();
        text += &format!("CONFIG_{name} = \"{value}\"\n");
    }
    text += &format!("[[device]]\naddress = \"{EDU}\"\nmodel = \"edu\"\n");
    text.parse().map_err(|error: machine::SpecError| error.to_string())
}

/// The nodes below `/dev`.
fn nodes(machine: &Machine) -> Vec<String> {
    let list = |folder: &str| {
        let names = machine.read_dir(Path::new(folder)).unwrap_or_default();
        names.into_iter().map(move |name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let all = ["/dev", "/dev/vfio", "/dev/vfio/devices"].into_iter().flat_map(list);
    // The log is there in any.
    let others = ["/dev/vfio", "/dev/vfio/devices", "/dev/kmsg"];
    all.filter(|path| !others.contains(&path.as_str())).collect()
}

fn get_pa(machine: &Machine) -> (Errno, Option<&'static str>) {
    let iommufd = open(machine, "/dev/iommu").unwrap();
    let mut ioas = IommuIoasAlloc::new();
    machine.ioctl(&iommufd, &mut ioas).unwrap();
    let mut get_pa = IommuIoasNoiommuGetPa { ioas_id: ioas.out_ioas_id, length: 4096, ..Command::new() };
    let error: Error = machine.ioctl(&iommufd, &mut get_pa).unwrap_err();
    (error.errno(), error.rule().map(|rule| rule.name))
}

#[test]
fn each_allowed_configuration_shows_its_nodes() {
    const IOMMUFD: &str = "/dev/iommu";
    const CONTAINER: &str = "/dev/vfio/vfio";
    const GROUP: &str = "/dev/vfio/noiommu-0";
    const DEVICE: &str = "/dev/vfio/devices/noiommu-vfio0";
    for (options, expected) in [
        ("", &[IOMMUFD, GROUP, CONTAINER, DEVICE][..]),
        ("VFIO_CONTAINER=n", &[IOMMUFD, GROUP, CONTAINER, DEVICE]),
        ("VFIO_GROUP=n", &[IOMMUFD, DEVICE]),
        ("VFIO_DEVICE_CDEV=n", &[IOMMUFD, GROUP, CONTAINER]),
        ("IOMMUFD=n", &[GROUP, CONTAINER]),
        ("GENERIC_ATOMIC64=y", &[IOMMUFD, GROUP, CONTAINER]),
        ("GENERIC_ATOMIC64=y VFIO_GROUP=n", &[IOMMUFD]),
        ("VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n", &[IOMMUFD]),
        ("VFIO_NOIOMMU=n", &[IOMMUFD, CONTAINER]),
    ] {
        assert_eq!(nodes(&machine(options)), expected, "{options}");
    }
}

#[test]
fn a_kernel_without_noiommu_has_no_parameter_and_refuses_the_device() {
    for options in ["VFIO_NOIOMMU=n", "VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n"] {
        let machine = machine(options);
        assert!(!exists(&machine, PARAMETER));
        let refused = write(&machine, &format!("{DRIVER}/bind"), EDU).unwrap_err();
        assert_eq!(refused.errno(), Errno::EINVAL, "{options}");
    }
}

#[test]
fn physical_addresses_are_told_where_iommufd_serves_devices_without_an_iommu() {
    assert_eq!(get_pa(&machine("")), (Errno::ENOENT, Some("get-pa.unmapped")));
    for options in ["VFIO_DEVICE_CDEV=n", "GENERIC_ATOMIC64=y", "VFIO_NOIOMMU=n"] {
        assert_eq!(get_pa(&machine(options)), (Errno::EOPNOTSUPP, Some("get-pa.kconfig")), "{options}");
    }
}

/// Groups serve such devices there, but nodes of devices do not.
#[test]
fn b024_a_class_device_without_a_node() {
    let class = "/sys/class/vfio-dev/vfio0";
    for options in ["GENERIC_ATOMIC64=y", "VFIO_DEVICE_CDEV=n"] {
        let machine = machine(options);
        assert!(exists(&machine, class) && !exists(&machine, &format!("{class}/dev")), "{options}");
        assert_eq!(read(&machine, &format!("{class}/uevent")), "");
        let said = machine.log().into_iter().filter(|line| line.contains("taint")).collect::<Vec<_>>();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with("Adding kernel taint for vfio-noiommu group on device"));
        write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap();
        assert!(!exists(&machine, class));
    }
}

#[test]
fn without_the_driver_nothing_is_bound() {
    let text =
        format!("[kconfig]\nCONFIG_VFIO_PCI = \"n\"\n[[device]]\naddress = \"{EDU}\"\nmodel = \"edu\"\n");
    let refused = Machine::from_spec(text.parse().unwrap()).err().unwrap().to_string();
    assert_eq!(
        refused,
        "device.driver: \"vfio-pci\" needs CONFIG_VFIO_PCI; use \"none\" or a driver of the host"
    );
    let machine = Machine::from_spec((text + "driver = \"none\"").parse().unwrap()).unwrap();
    assert!(!exists(&machine, DRIVER));
    let only = format!("/sys/bus/pci/devices/{EDU}/driver_override");
    write(&machine, &only, "vfio-pci").unwrap();
    write(&machine, "/sys/bus/pci/drivers_probe", EDU).unwrap();
    assert!(!exists(&machine, &format!("/sys/bus/pci/devices/{EDU}/driver")));
}

#[test]
fn debugfs_shows_devices_where_that_is_built() {
    assert!(exists(&machine(""), &format!("/sys/kernel/debug/vfio/{EDU}")));
    assert!(!exists(&machine("VFIO_DEBUGFS=n"), "/sys/kernel/debug/vfio"));
}

#[test]
fn a_function_in_low_power_wakes_up_where_devices_are_suspended() {
    for (options, signals) in [("PM=y", 1), ("", 0)] {
        let machine = machine(options);
        let it = Attached::new(&machine);
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let payload = size_of::<VfioDeviceLowPowerEntryWithWakeup>();
        let argsz = (size_of::<VfioDeviceFeature>() + payload) as u32;
        let flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
        let mut enter = Tailed::new(VfioDeviceFeature { argsz, flags }, payload);
        enter.tail_mut()[..4].copy_from_slice(&event.as_raw_fd().to_ne_bytes());
        let argument = enter.bytes_mut().as_mut_ptr().cast();
        // SAFETY: the argument is as long as it states, and holds no address.
        unsafe { machine.ioctl_raw(it.device.as_fd(), VFIO_DEVICE_FEATURE, argument) }.unwrap();
        assert_eq!(count(&event), 0, "{options}");
        let mut id = [0; 4];
        for signals in [signals, 0] {
            assert_eq!(machine.pread(&it.device, &mut id, 0).unwrap(), 4);
            assert_eq!((u32::from_le_bytes(id), count(&event)), (0x0100_00ed, signals), "{options}");
        }
    }
}

#[test]
fn what_kconfig_refuses_is_refused_with_its_reason() {
    for (options, reason) in [
        (
            "VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n VFIO_NOIOMMU=y",
            "it depends on !VFIO_GROUP || VFIO_CONTAINER || IOMMUFD_VFIO_CONTAINER",
        ),
        ("VFIO_GROUP=n VFIO_DEVICE_CDEV=n", "VFIO selects it if !VFIO_GROUP"),
        ("VFIO_GROUP=yes", "VFIO_GROUP = \"yes\": \"y\", \"m\" or \"n\" is needed"),
        ("VFIO_GRUOP=y", "VFIO_GRUOP is none of the options known here: GENERIC_ATOMIC64, "),
    ] {
        let error = spec(options).unwrap_err();
        assert!(error.contains(reason), "{options}: {error}");
    }
    let error = "[kconfig]\nVFIO_GROUP = \"n\"".parse::<MachineSpec>().unwrap_err().to_string();
    assert!(error.contains("VFIO_GROUP: a name begins with CONFIG_"), "{error}");
}

#[test]
fn the_options_of_the_kernels_self_tests_have_a_key() {
    let refused = |text: &str| {
        let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
        let iommufd = machine.open(Path::new("/dev/iommu"), Access::ReadWrite).unwrap();
        // SAFETY: no argument is there, which every command of this file refuses.
        unsafe { machine.ioctl_raw(iommufd.as_fd(), IOMMU_TEST_CMD, std::ptr::null_mut()) }
            .unwrap_err()
            .errno()
    };
    assert_eq!(refused(""), Errno::ENOTTY);
    assert_eq!(refused("iommufd_test = true"), Errno::EFAULT);
    let without = "iommufd_test = true\n[kconfig]\nCONFIG_IOMMUFD = \"n\"\n";
    let error = Machine::from_spec(without.parse().unwrap()).map(drop).unwrap_err().to_string();
    assert!(error.contains("iommufd_test") && error.contains("CONFIG_IOMMUFD"), "{error}");
}
