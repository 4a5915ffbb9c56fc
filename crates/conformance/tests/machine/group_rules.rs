//! The rules of groups and containers that no row breaks, or none whose answer is the refusal alone.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use machine::{File, LayoutKind, Machine};
use subsystem::Refusal;
use subsystem::rules::{group as rule, vfio};
use sys::{Access, Creds, Mapping, Result, Suite, Sys};
use uapi::vfio::*;

use crate::machine;
use crate::rules::Broken;

/// The rules that no call on a machine can break.
pub(crate) const OUT_OF_REACH: &[(Refusal, &str)] = &[
    (rule::GROUP_UNKNOWN, "the node of a group goes with the group"),
    (rule::DEVICE_FD_DESCRIPTOR, "the descriptors of the process are the machine's too"),
    (rule::SET_CONTAINER_MIXED, NO_IOMMU),
    (rule::SET_CONTAINER_NOIOMMU, NO_IOMMU),
    (rule::SET_CONTAINER_OWNED, NO_IOMMU),
];

const NO_IOMMU: &str = "no device of this machine is behind an IOMMU";

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let (machine, target) = machine(LayoutKind::Scattered);
    let open = |path: &str| machine.open(Path::new(path), Access::ReadWrite);
    let (group, container) = (open("/dev/vfio/noiommu-0").expect("a group"), open("/dev/vfio/vfio"));
    let container = container.expect("a container");
    let nobody = Creds { capabilities: Vec::new(), memlock: None };
    let join = |machine: &Machine| set_container(machine, &group, &container);
    let mut broken = vec![
        (rule::FILE_READ, machine.pread(&group, &mut [0; 4], 0).map(|_| 0)),
        (rule::FILE_WRITE, machine.pwrite(&container, &[0; 4], 0).map(|_| 0)),
        (rule::FILE_MAP, machine.map_region(&group, Mapping::registers(0, 4096)).map(|_| 0)),
        (rule::SET_CONTAINER_CAPABILITY, machine.as_caller(&nobody, join).expect("another caller")),
    ];
    broken.extend(hot_resets(&machine));
    // The last device of a group goes while it is open.
    let unbound =
        machine.write(Path::new("/sys/bus/pci/drivers/vfio-pci/unbind"), target.devices[0].as_bytes());
    unbound.expect("nobody has the device open");
    broken.push((rule::GROUP_GONE, join(&machine)));
    broken
}

/// Rules of a hot reset by a device that its group gave out.
fn hot_resets(machine: &Machine) -> Vec<Broken> {
    const ADDRESS: &[u8] = b"0000:01:00.0\0";
    const SIBLING: &[u8] = b"0000:01:00.1";
    let open = |path: &Path| machine.open(path, Access::ReadWrite).expect("a file to open");
    let link =
        machine.read_link(Path::new("/sys/bus/pci/devices/0000:01:00.0/iommu_group")).expect("a group");
    let number = link.file_name().expect("a number").to_string_lossy().into_owned();
    let group = open(&Path::new("/dev/vfio").join(format!("noiommu-{number}")));
    let container = open(Path::new("/dev/vfio/vfio"));
    set_container(machine, &group, &container).expect("it can join");
    // SAFETY: the argument is a number.
    unsafe { machine.ioctl_raw(container.as_fd(), VFIO_SET_IOMMU, std::ptr::without_provenance_mut(8)) }
        .expect("a backend");
    let name = ADDRESS.as_ptr().cast_mut().cast();
    // SAFETY: the command reads a name that ends with a zero.
    let fd = unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_GET_DEVICE_FD, name) };
    // SAFETY: the descriptor was made for this caller and belongs to nobody else.
    let device = unsafe { OwnedFd::from_raw_fd(fd.expect("a device") as i32) };
    let ioctl = |command, argument: &mut [u32]| {
        // SAFETY: the argument is as long as it says, and holds no address.
        unsafe { machine.ioctl_raw(device.as_fd(), command, argument.as_mut_ptr().cast()) }
    };
    let fd = group.as_fd().as_raw_fd() as u32;
    let many = ioctl(VFIO_DEVICE_PCI_HOT_RESET, &mut [24, 0, 3, fd, fd, fd]);
    let unbind = Path::new("/sys/bus/pci/drivers/vfio-pci/unbind");
    machine.write(unbind, SIBLING).expect("nobody has the sibling open");
    let groups = ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &mut [28, 0, 0, 0, 0, 0, 0]);
    vec![(vfio::HOT_RESET_MANY, many), (vfio::HOT_RESET_INFO_GROUPS, groups)]
}

fn set_container(machine: &Machine, group: &File, container: &File) -> Result<u32> {
    let mut fd = container.as_fd().as_raw_fd();
    let argument = std::ptr::from_mut(&mut fd).cast();
    // SAFETY: the command reads a descriptor at the address that it is given.
    unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_SET_CONTAINER, argument) }
}
