//! The rules of virtual functions, which the suite has none of.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::{Machine, MachineSpec};
use subsystem::rules::vfio;
use sys::{Access, Sys};
use uapi::Command;
use uapi::vfio::*;

use crate::rules::Broken;

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let text = "iommu = 'translating'\n[[device]]\naddress = '0000:01:00.0'\nmodel = 'igb'\nvfs = 1";
    let machine = Machine::from_spec(text.parse::<MachineSpec>().expect("a machine file"));
    let machine = machine.expect("the machine can be built");
    let physical = Path::new("/sys/bus/pci/devices/0000:01:00.0");
    machine.write(&physical.join("sriov_numvfs"), b"1").expect("a virtual function");
    let names = machine.read_dir(&physical.join("virtfn0/vfio-dev")).expect("vfio-pci has it");
    let open = |path: &Path| machine.open(path, Access::ReadWrite).expect("a file to open");
    let device = open(&Path::new("/dev/vfio/devices").join(&names[0]));
    let iommufd = open(Path::new("/dev/iommu"));
    let wrong = [7_u8; 16];
    let bind = |flags, token_uuid_ptr| {
        let iommufd = iommufd.as_fd().as_raw_fd();
        let mut bind = VfioDeviceBindIommufd { iommufd, flags, token_uuid_ptr, ..Command::new() };
        // SAFETY: the address is that of the token, which is only read.
        unsafe { machine.ioctl_typed(&device, &mut bind) }
    };
    vec![
        (vfio::TOKEN_REQUIRED, bind(0, 0)),
        (vfio::TOKEN_WRONG, bind(VFIO_DEVICE_BIND_FLAG_TOKEN, wrong.as_ptr() as u64)),
    ]
}
