//! Which mode is taken, and what is said of the others.
#![forbid(unsafe_code)]

mod common;

use common::{address, machine};
use ioasis::machine::LayoutKind;
use ioasis::machine::{DeviceSpec, Driver, Iommu, IommuSpec, Machine, MachineSpec, ModelSpec};
use ioasis::{Device, DmaOptions, Error, Mode, Options, PassedOver};
use sys::Sys;

fn open(machine: &Machine, mode: Mode) -> ioasis::Result<Device<Machine>> {
    Device::open(machine, address(), &Options::new().allow_noiommu(true).mode(mode))
}

/// Why a device could not be opened, by mode.
fn reasons(answer: ioasis::Result<Device<Machine>>) -> Vec<PassedOver> {
    match answer {
        Err(Error::NoMode { passed_over, .. }) => passed_over,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_mode_that_is_asked_for_is_taken() {
    let machine = machine(LayoutKind::Scattered);
    let device = open(&machine, Mode::IommufdNoiommu).unwrap();
    assert_eq!(device.mode(), Mode::IommufdNoiommu);
    assert_ne!(device.address_space().id(), 0);
    let [better] = device.passed_over() else { panic!("{:?}", device.passed_over()) };
    assert_eq!(better.to_string(), "iommufd: mode iommufd-noiommu was asked for");
}

#[test]
fn a_mode_that_is_asked_for_has_to_be_allowed_too() {
    let machine = machine(LayoutKind::Scattered);
    let options = Options::new().mode(Mode::IommufdNoiommu);
    let error = Device::open(&machine, address(), &options).unwrap_err();
    assert!(matches!(error, Error::NoiommuNotAllowed { mode: Mode::IommufdNoiommu, .. }), "{error:?}");
}

#[test]
fn no_other_mode_is_taken_in_place_of_the_one_that_is_asked_for() {
    let machine = machine(LayoutKind::Scattered);
    for (mode, reason) in [
        (Mode::Iommufd, "the device has no IOMMU (its entry is vfio-dev/noiommu-vfio0)"),
        (Mode::Group, "the device has no IOMMU (its group is /dev/vfio/noiommu-0)"),
        (Mode::Uio, "the device is bound to vfio-pci; unbind it"),
    ] {
        let passed_over = reasons(open(&machine, mode));
        let last = passed_over.last().unwrap();
        assert!(last.mode == mode && last.reason.starts_with(reason), "{passed_over:?}");
        assert!(passed_over.iter().all(|better| better.mode <= mode), "worse ones matter to nobody");
    }
}

#[test]
fn a_device_without_a_driver_has_no_mode_and_each_says_why() {
    let edu = DeviceSpec::new("0000:01:00.0".parse().unwrap(), ModelSpec::Edu);
    let edu = DeviceSpec { driver: Driver::None, ..edu };
    let machine = Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() }).unwrap();
    let answer = Device::open(&machine, address(), &Options::new().allow_noiommu(true));
    let passed_over = reasons(answer);
    assert!(passed_over.iter().map(|passed| passed.mode).eq(Mode::ALL), "{passed_over:?}");
    let (uio, vfio) = passed_over.split_last().unwrap();
    assert!(vfio.iter().all(|passed| passed.reason.contains("bind it to vfio-pci")), "{passed_over:?}");
    assert_eq!(uio.reason, "its registers are no files in sysfs");
}

/// A driver of the host has another device of the group: each way in says so.
#[test]
fn a_device_whose_group_the_host_uses_is_not_had() {
    let device = |at: &str, driver| {
        let group = Some(1);
        DeviceSpec { driver, group, ..DeviceSpec::new(at.parse().unwrap(), ModelSpec::Edu) }
    };
    let devices =
        vec![device("0000:01:00.0", Driver::VfioPci), device("0000:01:00.1", Driver::Host("nvme".into()))];
    let iommu = Iommu::Translating(IommuSpec::default());
    let machine = Machine::from_spec(MachineSpec { iommu, devices, ..MachineSpec::default() }).unwrap();
    let refusal = |mode| open(&machine, mode).unwrap_err().to_string();
    assert!(
        refusal(Mode::Group).contains("group 0 of 0000:01:00.0 is not viable"),
        "{}",
        refusal(Mode::Group)
    );
    let bound = refusal(Mode::Iommufd);
    assert!(bound.contains("EPERM") && bound.contains("is bound to a driver of the host"), "{bound}");
    machine.write("/sys/bus/pci/drivers/nvme/unbind".as_ref(), b"0000:01:00.1").unwrap();
    for mode in [Mode::Group, Mode::Iommufd] {
        assert_eq!(open(&machine, mode).unwrap().mode(), mode);
    }
}

#[test]
fn memory_says_which_mode_it_is_wanted_in() {
    let machine = machine(LayoutKind::Scattered);
    let device = common::open(&machine);
    let error = device.address_space().allocate(usize::MAX / 2, &DmaOptions::new()).unwrap_err().to_string();
    assert!(error.contains("in mode iommufd-noiommu"), "{error}");
}
