//! Groups and containers, as the tests use them: devices behind an IOMMU, the way to their groups, and type1.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use machine::{DeviceSpec, File, Iommu, IommuSpec, Machine, MachineSpec, ModelSpec};
use sys::{Result, Sys};
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;

use crate::common::*;

/// Two devices that share an iommu_group, and one with a group of its own.
pub(crate) const FIRST: &str = "0000:00:03.0";
pub(crate) const SECOND: &str = "0000:00:04.0";
pub(crate) const ALONE: &str = "0000:00:05.0";

/// A machine with an IOMMU and three educational devices behind it, inline.
pub(crate) fn iommu_spec() -> MachineSpec {
    let device = |address: &str, group| DeviceSpec {
        group,
        ..DeviceSpec::new(address.parse().unwrap(), ModelSpec::Edu).inline()
    };
    let devices = vec![device(FIRST, Some(1)), device(SECOND, Some(1)), device(ALONE, None)];
    let iommu = Iommu::Translating(IommuSpec::default());
    MachineSpec { iommu, devices, ..MachineSpec::default() }
}

pub(crate) fn sysfs(address: &str) -> String {
    format!("/sys/bus/pci/devices/{address}")
}

/// Opens the node of a device.
pub(crate) fn open_device(machine: &Machine, address: &str) -> Result<File> {
    let name = machine.read_dir(Path::new(&format!("{}/vfio-dev", sysfs(address))))?.remove(0);
    open(machine, &format!("/dev/vfio/devices/{name}"))
}

/// The node of the group of a device behind an IOMMU.
pub(crate) fn group_node(machine: &Machine, address: &str) -> String {
    let link = machine.read_link(Path::new(&format!("{}/iommu_group", sysfs(address)))).unwrap();
    format!("/dev/vfio/{}", link.file_name().unwrap().to_str().unwrap())
}

pub(crate) fn open_group(machine: &Machine, address: &str) -> Result<File> {
    open(machine, &group_node(machine, address))
}

pub(crate) fn open_container(machine: &Machine) -> File {
    open(machine, "/dev/vfio/vfio").unwrap()
}

/// The flags that `VFIO_GROUP_GET_STATUS` tells.
pub(crate) fn status(machine: &Machine, group: &File) -> u32 {
    let mut status = VfioGroupStatus::new();
    machine.ioctl(group, &mut status).unwrap();
    status.flags
}

pub(crate) fn set_container(machine: &Machine, group: &File, container: &File) -> Result<u32> {
    let mut fd = container.as_fd().as_raw_fd();
    // SAFETY: the argument is the number of a descriptor.
    unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_SET_CONTAINER, (&raw mut fd).cast()) }
}

pub(crate) fn unset_container(machine: &Machine, group: &File) -> Result<u32> {
    // SAFETY: there is no argument.
    unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_UNSET_CONTAINER, std::ptr::null_mut()) }
}

pub(crate) fn set_iommu(machine: &Machine, container: &File, kind: u32) -> Result<u32> {
    // SAFETY: the argument is a number.
    unsafe { machine.ioctl_raw(container.as_fd(), VFIO_SET_IOMMU, kind as usize as *mut _) }
}

/// The descriptor of a device that its group gives out.
pub(crate) fn device_fd(machine: &Machine, group: &File, address: &str) -> Result<OwnedFd> {
    let name = CString::new(address).unwrap();
    // SAFETY: the argument is a string that ends with a zero, and is only read.
    let fd = unsafe {
        machine.ioctl_raw(group.as_fd(), VFIO_GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut().cast())
    }?;
    // SAFETY: the descriptor is new, and the caller's to close.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A container that the group of a device has joined, backed by type1, and the device.
pub(crate) struct Contained {
    pub(crate) device: File,
    pub(crate) group: File,
    pub(crate) container: File,
}

impl Contained {
    pub(crate) fn new(machine: &Machine, address: &str) -> Self {
        Self::joined(machine, address, open_container(machine))
    }

    /// The same with an iommufd in the place of the container.
    pub(crate) fn in_iommufd(machine: &Machine, address: &str) -> Self {
        Self::joined(machine, address, open(machine, "/dev/iommu").unwrap())
    }

    fn joined(machine: &Machine, address: &str, container: File) -> Self {
        let group = open_group(machine, address).unwrap();
        set_container(machine, &group, &container).unwrap();
        set_iommu(machine, &container, VFIO_TYPE1v2_IOMMU).unwrap();
        let device = device_fd(machine, &group, address).unwrap();
        let device = machine.adopt(device, Path::new("device of a group")).unwrap();
        Contained { device, group, container }
    }
}

/// `VFIO_IOMMU_MAP_DMA`, for devices to read and write.
pub(crate) fn map_dma(machine: &Machine, container: &File, vaddr: u64, iova: u64, size: u64) -> Result<u32> {
    let flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    let mut map = VfioIommuType1DmaMap { flags, vaddr, iova, size, ..Command::new() };
    // SAFETY: the memory is not used by the program while a device has it.
    unsafe { machine.ioctl_typed(container, &mut map) }
}

/// `VFIO_IOMMU_UNMAP_DMA`; how many bytes were unmapped.
pub(crate) fn unmap_dma(machine: &Machine, container: &File, iova: u64, size: u64) -> Result<u64> {
    let mut unmap = VfioIommuType1DmaUnmap { iova, size, ..Command::new() };
    // SAFETY: the argument holds no address.
    unsafe { machine.ioctl_typed(container, &mut unmap) }?;
    Ok(unmap.size)
}

/// A device that is bound to a context and attached to an IOAS there.
pub(crate) struct Bound {
    pub(crate) device: File,
    pub(crate) iommufd: File,
    pub(crate) ioas: u32,
}

impl Bound {
    pub(crate) fn new(machine: &Machine, address: &str) -> Self {
        let (device, iommufd) =
            (open_device(machine, address).unwrap(), open(machine, "/dev/iommu").unwrap());
        bind_to(machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
        let mut ioas = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut ioas).unwrap();
        let mut attach = VfioDeviceAttachIommufdPt { pt_id: ioas.out_ioas_id, ..Command::new() };
        machine.ioctl(&device, &mut attach).unwrap();
        Bound { device, iommufd, ioas: ioas.out_ioas_id }
    }
}
