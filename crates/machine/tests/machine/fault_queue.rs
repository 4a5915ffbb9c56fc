//! Fault queues: files that a call opens, and whose descriptor is the program's.

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use machine::{File, Machine};
use rustix::event::epoll;
use rustix::io::{FdFlags, fcntl_getfd};
use sys::{Readiness, Result, Suite, Sys};
use uapi::iommufd::*;
use uapi::iommufd_test::*;
use uapi::vfio::VfioDeviceAttachIommufdPt;
use uapi::{Command, Errno};
use zerocopy::IntoBytes;

use crate::common::*;

/// Makes a fault queue; its id and its descriptor, as a program gets it.
fn fault_queue(machine: &Machine, iommufd: &File) -> (u32, OwnedFd) {
    let mut alloc = IommuFaultAlloc::new();
    machine.ioctl(iommufd, &mut alloc).unwrap();
    // SAFETY: the call has opened the descriptor for its caller, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(alloc.out_fault_fd as i32) };
    (alloc.out_fault_id, fd)
}

fn adopt(machine: &Machine, fd: OwnedFd) -> File {
    machine.adopt(fd, Path::new("fault queue")).unwrap()
}

fn destroy(machine: &Machine, iommufd: &File, id: u32) -> std::result::Result<u32, Errno> {
    let mut destroy = IommuDestroy { id, ..Command::new() };
    machine.ioctl(iommufd, &mut destroy).map_err(|error| error.errno())
}

#[test]
fn the_descriptor_is_the_programs_to_close() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (id, fd) = fault_queue(&machine, &iommufd);
    assert_eq!(fcntl_getfd(&fd).unwrap(), FdFlags::CLOEXEC);
    assert_eq!(machine.usage().files, 2);
    let duplicate = fd.try_clone().unwrap();
    drop(fd);
    assert_eq!(destroy(&machine, &iommufd, id), Err(Errno::EBUSY), "a duplicate is open");
    drop(duplicate);
    assert_eq!(destroy(&machine, &iommufd, id), Ok(0));
    assert_eq!(machine.usage().files, 1);
}

#[test]
fn an_adopted_descriptor_is_read_and_written() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (id, fd) = fault_queue(&machine, &iommufd);
    let queue = adopt(&machine, fd);
    let errno = |result: Result<usize>| result.map_err(|error| error.errno());
    assert_eq!(errno(machine.read_stream(&queue, &mut [0; 40])), Ok(0));
    assert_eq!(errno(machine.read_stream(&queue, &mut [0; 39])), Err(Errno::ESPIPE));
    assert_eq!(errno(machine.pread(&queue, &mut [0; 40], 0)), Err(Errno::ESPIPE));
    let response = IommuHwptPageResponse { cookie: 1, code: IOMMUFD_PAGE_RESP_SUCCESS };
    assert_eq!(errno(machine.write_stream(&queue, response.as_bytes())), Err(Errno::EINVAL));
    assert_eq!(errno(machine.write_stream(&queue, &[0; 7])), Err(Errno::ESPIPE));
    assert_eq!(machine.seek(&queue, SeekFrom::Start(0)).unwrap_err().errno(), Errno::ESPIPE);
    assert!(machine.fdinfo(&queue).unwrap().contains("flags:\t02000002\n"));

    let clone = machine.try_clone(&queue).unwrap();
    drop(queue);
    assert_eq!(destroy(&machine, &iommufd, id), Err(Errno::EBUSY));
    drop(clone);
    assert_eq!(destroy(&machine, &iommufd, id), Ok(0));
}

#[test]
fn a_duplicate_keeps_open_what_was_adopted() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (id, fd) = fault_queue(&machine, &iommufd);
    let bare = fd.try_clone().unwrap();
    drop(adopt(&machine, fd));
    assert_eq!(destroy(&machine, &iommufd, id), Err(Errno::EBUSY));
    drop(adopt(&machine, bare));
    assert_eq!(destroy(&machine, &iommufd, id), Ok(0));
}

#[test]
fn nothing_queued_is_writable_only_for_whoever_waits() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let queue = adopt(&machine, fault_queue(&machine, &iommufd).1);
    assert_eq!(machine.poll(&queue).unwrap(), Readiness::OUT);
    let no_time = Some(Duration::ZERO);
    assert_eq!(machine.wait(&[queue.as_fd()], no_time).unwrap(), [false]);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
    epoll::add(&epoll, &queue, epoll::EventData::new_u64(0), flags).unwrap();
    let mut events = Vec::with_capacity(1);
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&now)).unwrap();
    assert_eq!(events.iter().map(|event| event.flags).collect::<Vec<_>>(), [epoll::EventFlags::OUT]);
}

/// A device of the kernel's self-tests that faults, on a page table that names a queue: the queue, and the device.
fn faulting(machine: &Machine, iommufd: &File) -> (File, u32) {
    let mut ioas = IommuIoasAlloc::new();
    call(machine, iommufd, &mut ioas);
    let mut make = IommuTestCmd { op: IOMMU_TEST_OP_MOCK_DOMAIN, id: ioas.out_ioas_id, ..Command::new() };
    call(machine, iommufd, &mut make);
    let device = make.get::<IommuTestMockDomainFlags>();
    let (fault_id, fd) = fault_queue(machine, iommufd);
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    let (dev_id, pt_id) = (device.out_idev_id, ioas.out_ioas_id);
    let mut table = IommuHwptAlloc { flags, dev_id, pt_id, fault_id, ..Command::new() };
    call(machine, iommufd, &mut table);
    let mut replace =
        IommuTestCmd { op: IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: device.out_stdev_id, ..Command::new() };
    replace.put(&IommuTestMockDomainReplace { pt_id: table.out_hwpt_id });
    call(machine, iommufd, &mut replace);
    (adopt(machine, fd), dev_id)
}

fn call<T: Command>(machine: &Machine, iommufd: &File, argument: &mut T) {
    // SAFETY: no argument here holds an address.
    unsafe { machine.ioctl_typed(iommufd, argument) }.expect("a call that is allowed");
}

#[test]
fn whoever_waits_for_a_fault_wakes_up() {
    let options = ["DEBUG_KERNEL", "FAULT_INJECTION", "RUNTIME_TESTING_MENU", "IOMMUFD_TEST"];
    let spec = format!("[kconfig]\n{}", options.map(|option| format!("CONFIG_{option} = 'y'\n")).concat());
    let machine = Machine::from_spec(spec.parse().expect("a machine file")).expect("a machine");
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (queue, dev_id) = faulting(&machine, &iommufd);
    let ready = |timeout| machine.wait(&[queue.as_fd()], Some(timeout)).unwrap() == [true];
    assert!(!ready(Duration::ZERO));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ready(Duration::from_secs(60)));
        let mut fault = IommuTestCmd { op: IOMMU_TEST_OP_TRIGGER_IOPF, ..Command::new() };
        fault.put(&IommuTestTriggerIopf { dev_id, addr: 0x1000, ..Default::default() });
        call(&machine, &iommufd, &mut fault);
        assert!(waiter.join().unwrap(), "it was not woken");
    });
    assert_eq!(machine.poll(&queue).unwrap(), Readiness::IN | Readiness::OUT);
    let mut fault = IommuHwptPgfault::default();
    assert_eq!(machine.read_stream(&queue, fault.as_mut_bytes()).unwrap(), 40);
    assert_eq!((fault.dev_id, fault.addr), (dev_id, 0x1000));
    assert!(!ready(Duration::ZERO), "nothing is left to read");
    let response = IommuHwptPageResponse { cookie: fault.cookie, code: IOMMUFD_PAGE_RESP_SUCCESS };
    assert_eq!(machine.write_stream(&queue, response.as_bytes()).unwrap(), 8);
}

#[test]
fn the_queue_keeps_its_context_and_not_the_machine() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (_, fd) = fault_queue(&machine, &iommufd);
    drop(iommufd);
    assert_eq!((machine.usage().files, machine.usage().contexts), (1, 1));
    drop(fd);
    assert_eq!((machine.usage().files, machine.usage().contexts), (0, 0));

    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (_, fd) = fault_queue(&machine, &iommufd);
    drop((iommufd, machine));
    let own = rustix::fs::stat(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().st_ino;
    let ends = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        rustix::fs::stat(path).is_ok_and(|stat| stat.st_ino == own)
    });
    assert_eq!(ends.count(), 1, "the machine is gone");
}

#[test]
fn a_page_table_that_names_a_queue_is_attached() {
    let machine = edu_machine();
    let attached = Attached::new(&machine);
    let (fault_id, fd) = fault_queue(&machine, &attached.iommufd);
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    let mut hwpt = IommuHwptAlloc { flags, dev_id: 1, pt_id: attached.ioas, fault_id, ..Command::new() };
    // SAFETY: the argument holds no address.
    unsafe { machine.ioctl_typed(&attached.iommufd, &mut hwpt) }.unwrap();
    let mut attach = VfioDeviceAttachIommufdPt { pt_id: hwpt.out_hwpt_id, ..Command::new() };
    machine.ioctl(&attached.device, &mut attach).unwrap();
    assert_eq!(attach.pt_id, hwpt.out_hwpt_id);
    drop(fd);
    assert_eq!(destroy(&machine, &attached.iommufd, fault_id), Err(Errno::EBUSY));
}

#[test]
fn a_queue_is_no_iommufd_and_no_memory() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let (id, fd) = fault_queue(&machine, &iommufd);
    let device = open(&machine, NODE).unwrap();
    assert_eq!(bind_to(&machine, &device, fd.as_raw_fd()).unwrap_err().errno(), Errno::EBADFD);
    let mut destroy = IommuDestroy { id, ..Command::new() };
    // SAFETY: the argument is complete in itself.
    let result = unsafe { machine.ioctl_raw(fd.as_fd(), IommuDestroy::OPCODE, (&raw mut destroy).cast()) };
    assert_eq!(result.unwrap_err().errno(), Errno::ENOTTY);
    let queue = adopt(&machine, fd);
    let mapped = machine.map_region(&queue, sys::Mapping::registers(0, 4096));
    assert_eq!(mapped.unwrap_err().errno(), Errno::ENODEV);
}

#[test]
fn an_allocation_that_fails_leaves_no_descriptor() {
    let machine = edu_machine();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    let before = machine.usage();
    let mut failures = 0;
    loop {
        machine.fail_allocation(Some(failures + 1));
        let mut alloc = IommuFaultAlloc::new();
        let made = machine.ioctl(&iommufd, &mut alloc);
        let left = machine.fail_allocation(None);
        match made {
            Err(error) => {
                assert_eq!((error.errno(), left), (Errno::ENOMEM, None));
                assert_eq!((machine.usage(), alloc.out_fault_id), (before, 0));
                failures += 1;
            }
            Ok(_) => {
                assert_eq!(alloc.out_fault_id, 1);
                // SAFETY: as above.
                drop(unsafe { OwnedFd::from_raw_fd(alloc.out_fault_fd as i32) });
                break;
            }
        }
    }
    assert!(failures > 0);
}
