//! Descriptors of a machine are real ones: their numbers find the open file wherever they turn up.

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::Machine;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_getfd};
use sys::{Access, Readiness, Suite, Sys};
use uapi::Command;
use uapi::Errno;
use uapi::iommufd::{IOMMU_IOAS_ALLOC, IOMMU_IOAS_MAP_READABLE, IommuIoasAlloc, IommuIoasMapFile};
use uapi::vfio::VFIO_TYPE1v2_IOMMU;

use crate::common::*;
use crate::container::*;

#[test]
fn the_number_of_a_duplicate_stands_for_the_same_file() {
    let machine = edu_machine();
    let (device, iommufd) = (open(&machine, NODE).unwrap(), open(&machine, "/dev/iommu").unwrap());
    let duplicate = iommufd.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(bind_to(&machine, &device, duplicate.as_raw_fd()).unwrap(), 1);
    let mut ioas = IommuIoasAlloc::new();
    // SAFETY: the argument is complete in itself.
    unsafe { machine.ioctl_raw(duplicate.as_fd(), IOMMU_IOAS_ALLOC, (&raw mut ioas).cast()) }.unwrap();
    assert_eq!(ioas.out_ioas_id, 2, "of the context that the device is bound to");
}

#[test]
fn an_adopted_descriptor_keeps_the_file_open() {
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let adopted = machine.adopt(device.as_fd().try_clone_to_owned().unwrap(), Path::new(NODE)).unwrap();
    drop(device);
    assert_eq!(machine.usage().files, 1);
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &adopted, iommufd.as_fd().as_raw_fd()).unwrap();
    drop((adopted, iommufd));
    assert_eq!(machine.usage().files, 0);
}

/// Linux gives neither back (docs/kernel-findings.md).
#[test]
fn a_device_mapped_into_its_own_context_is_given_back() {
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    let mut ioas = IommuIoasAlloc::new();
    machine.ioctl(&iommufd, &mut ioas).unwrap();
    let mut map = IommuIoasMapFile {
        flags: IOMMU_IOAS_MAP_READABLE,
        ioas_id: ioas.out_ioas_id,
        fd: device.as_fd().as_raw_fd(),
        length: 4096,
        ..Command::new()
    };
    // SAFETY: nothing is mapped to a device.
    unsafe { machine.ioctl_typed(&iommufd, &mut map) }.unwrap();
    drop((device, iommufd));
    assert_eq!(machine.usage().files, 0);
}

#[test]
fn a_clone_keeps_the_file_open() {
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let clone = machine.try_clone(&device).unwrap();
    assert_ne!(clone.as_fd().as_raw_fd(), device.as_fd().as_raw_fd());
    drop(device);
    assert_eq!(machine.usage().files, 1);
    drop(clone);
    assert_eq!(machine.usage().files, 0);
}

#[test]
fn a_mapping_keeps_the_file_open() {
    let machine = edu_machine();
    let attached = Attached::new(&machine);
    let bar = attached.bar(&machine, 4096);
    drop(attached);
    assert_eq!((machine.usage().files, machine.usage().contexts), (1, 1), "the device keeps its context");
    assert_eq!(bar.read32(0), 0x0100_00ed);
    drop(bar);
    assert_eq!(machine.usage().files, 0);
}

#[test]
fn numbers_of_other_files_are_refused() {
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let other = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
    let bind = |fd| bind_to(&machine, &device, fd).unwrap_err().errno();
    assert_eq!(bind(other.as_raw_fd()), Errno::EBADFD);
    assert_eq!(bind(device.as_fd().as_raw_fd()), Errno::EBADFD);
    assert_eq!(bind(1 << 20), Errno::EBADF);
    assert_eq!(bind(-1), Errno::EINVAL);
    let attribute = machine.open(Path::new(PARAMETER), Access::Read).unwrap();
    assert_eq!(bind(attribute.as_fd().as_raw_fd()), Errno::EBADFD);
    // SAFETY: the argument is complete in itself.
    let error = unsafe { machine.ioctl_raw(other.as_fd(), 0x3b81, std::ptr::null_mut()) }.unwrap_err();
    assert_eq!(error.errno(), Errno::ENOTTY);
    assert_eq!(machine.adopt(other, Path::new("other")).unwrap_err().errno(), Errno::EBADF);
}

#[test]
fn a_bad_argument_is_a_fault() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    // SAFETY: an address that is not mapped is no danger.
    let error = unsafe { machine.ioctl_raw(iommufd.as_fd(), IOMMU_IOAS_ALLOC, 8 as *mut _) }.unwrap_err();
    assert_eq!(error.errno(), Errno::EFAULT);
    let object = format!("/dev/iommu (descriptor {}), command 0x3b81", iommufd.as_fd().as_raw_fd());
    assert_eq!(error.object(), object);
}

#[test]
fn a_safe_call_does_not_reach_behind_its_argument() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let mut argument = IommuIoasAlloc { size: 64, ..Command::new() };
    assert_eq!(machine.ioctl(&iommufd, &mut argument).unwrap_err().errno(), Errno::EFAULT);
}

#[test]
fn descriptors_poll_and_seek_as_those_of_the_kernel() {
    let machine = edu_machine();
    let attached = Attached::new(&machine);
    for file in [&attached.device, &attached.iommufd] {
        assert_eq!(machine.poll(file).unwrap(), Readiness::IN | Readiness::OUT);
        assert_eq!(machine.seek(file, SeekFrom::Start(0)).unwrap_err().errno(), Errno::ESPIPE);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let added = epoll::add(&epoll, file, epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        assert_eq!(added, Err(rustix::io::Errno::PERM));
    }
    let info = machine.fdinfo(&attached.device).unwrap();
    assert!(info.contains("vfio-device-syspath: /sys/devices/pci0000:02/0000:02:00.0\n"), "{info}");
}

#[test]
fn the_open_mode_is_held_to() {
    let machine = edu_machine();
    let device = machine.open(Path::new(NODE), Access::Read).unwrap();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    assert_eq!(machine.pwrite(&device, &[0; 2], 7 << 40 | 4).unwrap_err().errno(), Errno::EBADF);
    let mapping = sys::Mapping::registers(0, 4096);
    assert_eq!(machine.map_region(&device, mapping).unwrap_err().errno(), Errno::EACCES);
    let readable = sys::Mapping { writable: false, ..mapping };
    let error = machine.map_region(&device, readable).unwrap_err();
    assert_eq!(error.errno(), Errno::EINVAL, "it is shared with nobody then, as VFIO wants it to be");
    for bad in [sys::Mapping { offset: 1, ..mapping }, sys::Mapping { length: 0, ..mapping }] {
        assert_eq!(machine.map_region(&device, bad).unwrap_err().errno(), Errno::EINVAL);
    }
}

/// The descriptor of a device that its group gave out is the program's to close, and as little to be waited for as the others.
#[test]
fn a_device_of_a_group_polls_as_the_kernels() {
    let machine = Machine::from_spec(iommu_spec()).unwrap();
    let (group, container) = (open_group(&machine, FIRST).unwrap(), open_container(&machine));
    set_container(&machine, &group, &container).unwrap();
    set_iommu(&machine, &container, VFIO_TYPE1v2_IOMMU).unwrap();
    let device = device_fd(&machine, &group, FIRST).unwrap();
    assert_eq!(fcntl_getfd(&device).unwrap(), FdFlags::CLOEXEC);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let added = epoll::add(&epoll, &device, epoll::EventData::new_u64(0), epoll::EventFlags::IN);
    assert_eq!(added, Err(rustix::io::Errno::PERM));
    let both = PollFlags::IN | PollFlags::OUT;
    let mut polled = [PollFd::new(&device, both)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).unwrap();
    assert_eq!(polled[0].revents(), both);

    let duplicate = device.try_clone().unwrap();
    drop(device);
    assert_eq!(machine.usage().files, 3, "a duplicate is open");
    let adopted = machine.adopt(duplicate, Path::new("device of a group")).unwrap();
    assert!(region(&machine, &adopted, 0).size > 0);
    assert_eq!(machine.seek(&adopted, SeekFrom::Start(0)).unwrap_err().errno(), Errno::ESPIPE);
    drop(adopted);
    assert_eq!(machine.usage().files, 2);
    let bare = device_fd(&machine, &group, FIRST).unwrap();
    drop(bare);
    assert_eq!(machine.usage().files, 2);
}
