//! The host's kernel through [`Linux`]: what any host can do, without devices and privileges.

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use sys::{Access, Creds, FileKind, Linux, Mapping, MemoryOptions, PageSize, Readiness, Suite, Sys, Tailed};
use uapi::vfio::{VfioDeviceInfo, VfioIrqSet};
use uapi::{Command as _, Errno};

#[test]
fn a_refused_open_names_path_and_errno() {
    let error = Linux.open(Path::new("/nowhere/at/all"), Access::Read).unwrap_err();
    assert_eq!((error.call(), error.object(), error.errno()), ("open", "/nowhere/at/all", Errno::ENOENT));
}

#[test]
fn files_are_looked_at_without_being_opened() {
    let null = Linux.stat(Path::new("/dev/null")).unwrap();
    assert_eq!(null.kind, FileKind::CharDevice { major: 1, minor: 3 });
    assert_eq!(Linux.stat(Path::new("/proc/self")).unwrap().kind, FileKind::Link);
    assert_eq!(Linux.read_link(Path::new("/proc/self")).unwrap(), Path::new(&std::process::id().to_string()));
    assert_eq!(Linux.stat(Path::new("/dev/null/x")).unwrap_err().errno(), Errno::ENOTDIR);

    let folder = tempfile::tempdir().unwrap();
    for name in ["b", "a"] {
        std::fs::write(folder.path().join(name), "12345").unwrap();
    }
    assert_eq!(Linux.read_dir(folder.path()).unwrap(), ["a", "b"]);
    let file = Linux.stat(&folder.path().join("a")).unwrap();
    assert_eq!((file.kind, file.size), (FileKind::Regular, 5));
}

#[test]
fn files_are_read_and_written_whole_and_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long");
    let long: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&path, &long).unwrap();
    assert_eq!(Linux.read(&path).unwrap(), long);

    let file = Linux.open(&path, Access::ReadWrite).unwrap();
    assert_eq!(Linux.pwrite(&file, b"xyz", 5000).unwrap(), 3);
    let second = Linux.try_clone(&file).unwrap();
    drop(file);
    let mut bytes = [0; 3];
    assert_eq!(Linux.pread(&second, &mut bytes, 5000).unwrap(), 3);
    assert_eq!(&bytes, b"xyz");
    assert_eq!(Linux.path_of(&second), path);
    assert_eq!(Linux.poll(&second).unwrap(), Readiness::IN | Readiness::OUT);
    Linux.write(&path, b"once").unwrap();
    assert_eq!(&Linux.read(&path).unwrap()[..4], b"once");
}

#[test]
fn a_refused_ioctl_has_its_c_name_and_the_path() {
    let file = Linux.open(Path::new("/dev/null"), Access::ReadWrite).unwrap();
    let error = Linux.ioctl(&file, &mut VfioDeviceInfo::new()).unwrap_err();
    assert_eq!(
        (error.call(), error.object(), error.errno()),
        ("VFIO_DEVICE_GET_INFO", "/dev/null", Errno::ENOTTY)
    );
    let mut argument = Tailed::new(VfioIrqSet { argsz: 24, ..VfioIrqSet::new() }, 4);
    let error = Linux.ioctl_tailed(&file, &mut argument).unwrap_err();
    assert_eq!((error.call(), error.errno()), ("VFIO_DEVICE_SET_IRQS", Errno::ENOTTY));
}

#[test]
fn a_refused_raw_ioctl_tells_what_is_open_there() {
    let file = Linux.open(Path::new("/dev/null"), Access::ReadWrite).unwrap();
    // SAFETY: the file takes no such command, so that nobody looks at the argument.
    let error = unsafe { Linux.ioctl_raw(file.as_fd(), 0x3b81, std::ptr::null_mut()) }.unwrap_err();
    let object = format!("/dev/null (descriptor {}), command 0x3b81", file.as_fd().as_raw_fd());
    assert_eq!((error.call(), error.object(), error.errno()), ("ioctl", &*object, Errno::ENOTTY));
}

#[test]
fn an_argument_that_states_too_much_never_reaches_the_kernel() {
    let file = Linux.open(Path::new("/dev/null"), Access::ReadWrite).unwrap();
    let mut argument = VfioDeviceInfo { argsz: 25, ..VfioDeviceInfo::new() };
    assert_eq!(Linux.ioctl(&file, &mut argument).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn memory_is_whole_pages_and_zero() {
    let options = MemoryOptions { length: 5000, page_size: PageSize::Base, highest: u64::MAX };
    let memory = Linux.allocate(&options).unwrap();
    let page = rustix::param::page_size();
    assert_eq!(memory.length(), 5000_usize.next_multiple_of(page));
    assert_eq!(memory.start().as_ptr() as usize % page, 0);
    let last = memory.length() - 1;
    // SAFETY: the byte is within the mapping, which lives until the end of the test.
    assert_eq!(unsafe { memory.start().add(last).read() }, 0);

    let error = Linux.allocate(&MemoryOptions { length: usize::MAX - 100, ..options }).unwrap_err();
    assert_eq!((error.call(), error.errno()), ("mmap", Errno::ENOMEM));
    assert!(error.object().contains("KiB pages"), "{error}");
}

#[test]
fn a_file_is_mapped_and_bounds_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registers");
    std::fs::write(&path, [0x11; 8192]).unwrap();
    let file = Linux.open(&path, Access::ReadWrite).unwrap();
    let mmio = Linux.map_region(&file, Mapping::registers(4096, 4096)).unwrap();
    mmio.write32(4, 0xdead_beef);
    assert_eq!(mmio.read64(0), 0xdead_beef_1111_1111);
    assert!(mmio.try_read32(4096).is_err());
    let mut bytes = [0; 4];
    Linux.pread(&file, &mut bytes, 4100).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0xdead_beef);
    assert_eq!(Linux.map_region(&file, Mapping::registers(1, 4096)).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn waiting_tells_which_descriptor_is_ready() {
    let quiet = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let fired = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
    assert_eq!(Linux.wait(&[quiet.as_fd(), fired.as_fd()], None).unwrap(), [false, true]);
    assert_eq!(Linux.wait(&[quiet.as_fd()], Some(Duration::from_millis(1))).unwrap(), [false]);
    assert_eq!(Linux.wait(&[fired.as_fd()], Some(Duration::MAX)).unwrap(), [true]);
}

#[test]
fn a_thread_without_capabilities_gets_them_back() {
    let before = rustix::thread::capabilities(None).unwrap();
    let nobody = Creds { capabilities: Vec::new(), memlock: Some(65536) };
    let limit = || rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let outside = limit();
    let inside = Linux
        .as_caller(&nobody, |_| (rustix::thread::capabilities(None).unwrap().effective, limit()))
        .unwrap();
    assert_eq!(inside, (rustix::thread::CapabilitySet::empty(), Some(65536)));
    assert_eq!((rustix::thread::capabilities(None).unwrap(), limit()), (before, outside));

    let unknown = Creds { capabilities: vec!["CAP_NO_SUCH".to_owned()], memlock: outside };
    assert_eq!(Linux.as_caller(&unknown, |_| ()).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn what_the_suite_asks_of_proc() {
    Linux.taint().unwrap();
    assert_eq!(Linux.vm_pin().unwrap(), 0, "nothing here pins memory");
    let file = Linux.open(Path::new("/dev/zero"), Access::Read).unwrap();
    assert!(Linux.fdinfo(&file).unwrap().starts_with("pos:"));
    let handle = Linux.look_up(Path::new("/dev/null")).unwrap();
    let file = Linux.open_handle(&handle, Access::Read).unwrap();
    assert_eq!(Linux.path_of(&file), Path::new("/dev/null"));
    assert_eq!(Linux.seek(&file, SeekFrom::Start(0)).unwrap(), 0);
    // Tests run on threads of their own, and a process that has several makes no child.
    assert_eq!(Linux.second_process(|_| Ok(0)).unwrap_err().errno(), Errno::EBUSY);
}
