//! A driver without privileges, which has physical addresses told by a translator: the kernel's answers and refusals come through.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use common::machine;
use ioasis::machine::{File, LayoutKind, Machine};
use ioasis::translate::{serve, wait_until_ready};
use ioasis::{Device, DmaOptions, Errno, Options, Passed, Sys};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use sys::{Access, Creds, Suite};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A file of a machine. It is to live until its copies are taken over.
fn open(machine: &Machine, path: &str) -> File {
    machine.open(Path::new(path), Access::ReadWrite).unwrap()
}

fn copy(file: &File) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

/// Starts a translator out of a context: the driver's end of its socket.
fn translator(machine: &Machine, iommufd: &File) -> (OwnedFd, thread::JoinHandle<()>) {
    let (client, server) = pair();
    let iommufd = machine.adopt(copy(iommufd), Path::new("/dev/iommu")).unwrap();
    let machine = machine.clone();
    let thread = thread::spawn(move || {
        serve(&machine, &iommufd, &server, std::process::id()).unwrap();
    });
    assert!(wait_until_ready(&client).unwrap());
    (client, thread)
}

/// Runs `f` on a machine whose caller has no privilege, with what a more privileged program opened there.
fn without_privileges(translated: bool, f: impl FnOnce(ioasis::Result<Device<Machine>>)) {
    let machine = machine(LayoutKind::Scattered);
    let (device, iommufd) = (open(&machine, "/dev/vfio/devices/noiommu-vfio0"), open(&machine, "/dev/iommu"));
    let (translator, thread) = if translated { Some(translator(&machine, &iommufd)) } else { None }.unzip();
    let passed = Passed { device: copy(&device), iommufd: copy(&iommufd), translator };
    let nobody = Creds { capabilities: Vec::new(), memlock: None };
    machine
        .as_caller(&nobody, |nobody| f(Device::from_fds(nobody, passed, &Options::new().allow_noiommu(true))))
        .unwrap();
    // It ends with the socket of its client.
    if let Some(thread) = thread {
        thread.join().unwrap();
    }
}

#[test]
fn addresses_are_those_that_the_kernel_tells_the_privileged() {
    let segments = |device: &Device<Machine>| {
        let buffer = device.address_space().allocate(64 << 10, &DmaOptions::new()).unwrap();
        buffer.segments().collect::<Vec<_>>()
    };
    let told = segments(&common::open(&machine(LayoutKind::Scattered)));
    assert!(told.len() > 1);
    without_privileges(true, |device| assert_eq!(segments(&device.unwrap()), told));
}

#[test]
fn without_a_translator_the_kernel_refuses() {
    without_privileges(false, |device| {
        let error = device.unwrap().address_space().allocate(4096, &DmaOptions::new()).err().unwrap();
        assert_eq!(error.errno(), Some(Errno::EPERM));
        assert!(error.to_string().contains("CAP_SYS_RAWIO"), "{error}");
    });
}

#[test]
fn threads_get_the_answers_to_their_own_requests() {
    without_privileges(true, |device| {
        let device = device.unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..50 {
                        // What is asked for is of another length each time; a wrong answer would be of another length too.
                        let length = (1 + (thread + round) % 7) * 4096;
                        let buffer = device.address_space().allocate(length, &DmaOptions::new()).unwrap();
                        assert_eq!(buffer.segments().map(|segment| segment.length).sum::<usize>(), length);
                    }
                });
            }
        });
    });
}

#[test]
fn a_translator_that_has_gone_is_named() {
    let machine = machine(LayoutKind::Scattered);
    let (device, iommufd) = (open(&machine, "/dev/vfio/devices/noiommu-vfio0"), open(&machine, "/dev/iommu"));
    let (client, server) = pair();
    drop(server);
    assert!(!wait_until_ready(&client).unwrap(), "it never was ready");
    let passed = Passed { device: copy(&device), iommufd: copy(&iommufd), translator: Some(client) };
    let device = Device::from_fds(&machine, passed, &Options::new().allow_noiommu(true)).unwrap();
    let error = device.address_space().allocate(4096, &DmaOptions::new()).err().unwrap();
    assert_eq!(error.errno(), Some(Errno::EPIPE));
    assert!(error.to_string().contains("has ended"), "{error}");
}

/// Sends a packet and gives the answer's errno and tag.
fn ask(socket: &OwnedFd, packet: &[u8]) -> (u32, u64) {
    send(socket, packet, SendFlags::empty()).unwrap();
    let mut answer = [0; 33];
    let (_, count) = recv(socket, &mut answer, RecvFlags::empty()).unwrap();
    assert_eq!(count, 32);
    let word = |at: usize| u64::from_le_bytes(answer[at..at + 8].try_into().unwrap());
    (u32::try_from(word(0)).unwrap(), word(24))
}

#[test]
fn bad_packets_are_refused_and_the_next_one_is_served() {
    let machine = machine(LayoutKind::Contiguous);
    let (client, thread) = translator(&machine, &open(&machine, "/dev/iommu"));
    let request = |what: u32, tag: u64| {
        let mut packet = [0; 32];
        packet[..4].copy_from_slice(&what.to_le_bytes());
        packet[16..24].copy_from_slice(&4096_u64.to_le_bytes());
        packet[24..].copy_from_slice(&tag.to_le_bytes());
        packet
    };
    let errno = |errno: Errno| errno.raw().cast_unsigned();
    for length in [0, 1, 31, 33, 4096] {
        assert_eq!(ask(&client, &vec![1; length]), (errno(Errno::EMSGSIZE), 0), "{length} bytes");
    }
    for what in [0, 2, u32::MAX] {
        assert_eq!(ask(&client, &request(what, 7)), (errno(Errno::EOPNOTSUPP), 7));
    }
    // The kernel is asked, and knows no such IOAS.
    assert_eq!(ask(&client, &request(1, 8)), (errno(Errno::ENOENT), 8));
    drop(client);
    thread.join().unwrap();
}

#[test]
fn a_client_that_takes_no_answers_is_not_served_any_longer() {
    let machine = machine(LayoutKind::Contiguous);
    let (client, thread) = translator(&machine, &open(&machine, "/dev/iommu"));
    while send(&client, &[0; 32], SendFlags::NOSIGNAL).is_ok() {}
    thread.join().unwrap();
}
