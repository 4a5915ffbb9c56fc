//! The driver is unbound while the device is in use.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use machine::Machine;
use sys::{Access, Suite, Sys};
use uapi::Errno;

use crate::common::*;

/// Unbinds on another thread, and returns when the node is gone. What is received then tells that the write has
/// returned.
fn begin_unbind(machine: &Machine) -> mpsc::Receiver<sys::Result<()>> {
    let (done, answer) = mpsc::channel();
    let other = machine.clone();
    thread::spawn(move || done.send(write(&other, &format!("{DRIVER}/unbind"), EDU)));
    while exists(machine, NODE) {
        thread::yield_now();
    }
    answer
}

#[test]
fn unbinding_waits_for_the_last_file() {
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let second = machine.try_clone(&device).unwrap();
    let answer = begin_unbind(&machine);
    drop(device);
    assert!(answer.recv_timeout(Duration::from_millis(50)).is_err(), "a file is still open");
    assert!(machine.log().iter().any(|line| line.contains("No device request channel registered")));
    drop(second);
    answer.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert!(!exists(&machine, &format!("{DRIVER}/{EDU}")));
    assert_eq!(machine.usage().devices, 0);
}

#[test]
fn a_handle_from_before_still_opens_while_unbinding_waits() {
    let machine = edu_machine();
    let handle = Suite::look_up(&machine, Path::new(NODE)).unwrap();
    let device = open(&machine, NODE).unwrap();
    let answer = begin_unbind(&machine);
    let late = machine.open_handle(&handle, Access::ReadWrite).unwrap();
    drop(device);
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &late, iommufd.as_fd().as_raw_fd()).unwrap();
    drop(late);
    answer.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    let gone = machine.open_handle(&handle, Access::ReadWrite).unwrap_err().errno();
    assert!(matches!(gone, Errno::ENODEV | Errno::ENXIO), "{gone}");
}

#[test]
fn a_signal_does_not_end_the_wait_but_shows_in_the_log() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing at all, and no other test uses the signal.
    unsafe { libc::signal(libc::SIGUSR1, ignore as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let machine = edu_machine();
    let device = open(&machine, NODE).unwrap();
    let (other, (done, answer)) = (machine.clone(), mpsc::channel());
    let writer = thread::spawn(move || done.send(write(&other, &format!("{DRIVER}/unbind"), EDU)));
    let blocked = |line: &String| line.contains("blocked until device is released");
    while !machine.log().iter().any(blocked) {
        // SAFETY: the thread has not been joined, so its handle is valid.
        unsafe { libc::pthread_kill(writer.as_pthread_t(), libc::SIGUSR1) };
        thread::sleep(Duration::from_millis(1));
    }
    assert!(answer.try_recv().is_err(), "it goes on waiting");
    drop(device);
    answer.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    writer.join().unwrap().unwrap();
}

/// What the log says of the iommu_group that VFIO makes for a device without an IOMMU.
#[test]
fn a_group_of_its_own_is_in_the_log() {
    let machine = edu_machine();
    let mark = machine.log_mark().unwrap();
    write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap();
    write(&machine, &format!("{DRIVER}/bind"), EDU).unwrap();
    let lines = [
        "Removing from iommu group 0",
        "Adding to iommu group 0",
        "Adding kernel taint for vfio-noiommu group on device",
        "Adding kernel taint for vfio-noiommu cdev",
    ];
    assert_eq!(machine.log_since(mark).unwrap(), lines.map(|line| format!("vfio-pci {EDU}: {line}")));
}

#[test]
fn a_device_comes_back_under_the_same_name() {
    let machine = edu_machine();
    for _ in 0..3 {
        write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap();
        assert!(!exists(&machine, NODE));
        let again = write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap_err();
        assert_eq!(again.errno(), Errno::ENODEV);
        write(&machine, &format!("{DRIVER}/bind"), EDU).unwrap();
        assert!(exists(&machine, NODE));
    }
}
