//! What the host's kernel makes of it. Nothing here needs a device: the messages are what is looked at.

use std::os::fd::OwnedFd;
use std::path::Path;

use ioasis::{Device, Error, Linux, Options, Passed, PciAddress};

/// An address that no host has a device at.
fn nowhere() -> PciAddress {
    PciAddress::new(0xffff, 0xfe, 0x1e, 6).unwrap()
}

#[test]
fn a_missing_device_is_named_with_all_that_was_looked_for() {
    let error = Device::open(&Linux, nowhere(), &Options::new().allow_noiommu(true)).unwrap_err();
    let Error::NoDevice { address, looked } = &error else { panic!("{error:?}") };
    assert_eq!(*address, nowhere());
    let found = |path: &str| &looked.iter().find(|looked| looked.path == Path::new(path)).unwrap().found;
    assert_eq!(found("/sys/bus/pci/devices/ffff:fe:1e.6"), "not there");
    assert_eq!(found("/dev/iommu") == "not there", !Path::new("/dev/iommu").exists());
    let message = error.to_string();
    for looked in looked {
        assert!(message.contains(&looked.to_string()), "{looked} is not in {message}");
    }
}

#[test]
fn descriptors_that_are_no_device_are_refused_with_call_object_and_errno() {
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let passed = Passed { device: null(), iommufd: null(), translator: None };
    let error = Device::from_fds(&Linux, passed, &Options::new().allow_noiommu(true)).unwrap_err();
    let message = error.to_string();
    for part in ["cannot bind", "VFIO_DEVICE_BIND_IOMMUFD on device (descriptor ", "ENOTTY"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}
