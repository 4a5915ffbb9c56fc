//! BIND_IOMMUFD.

use subsystem::{Function, UserMemory};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{Client, assert_refused, machine};
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Descriptor};
use crate::support::iommu::IOMMU;
use crate::support::memory::{Layout, Ram};

fn argument(iommufd: i32) -> VfioDeviceBindIommufd {
    VfioDeviceBindIommufd { iommufd, ..Command::new() }
}

#[test]
fn b048_to_b052_the_size_rule() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let device = client.open(0);
    assert_refused!(client.sized(device, &argument(fd), 15), EINVAL, "bind.argsz");
    for size in [16, 24, 32, 4096] {
        let device = client.open(0);
        assert_eq!(client.sized(device, &argument(fd), size).unwrap().out_devid, 1, "{size}");
        vfio.release(device);
    }
    for dirty in [24, 31] {
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(argument(fd).as_bytes());
        bytes[0] = 32;
        bytes[dirty] = 1;
        assert_refused!(client.raw(device, VFIO_DEVICE_BIND_IOMMUFD, &mut bytes), E2BIG, "bind.tail");
    }
    assert_eq!(client.bind(device, fd), Ok(1));
}

#[test]
fn b053_an_argument_that_cannot_be_read() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let device = client.open(0);
    let call = |address| vfio.ioctl(&client.caller.ctx(), device, VFIO_DEVICE_BIND_IOMMUFD, address);
    assert_refused!(call(0), EFAULT, "argument.fault");
    assert_refused!(call(u64::MAX - 2), EFAULT, "argument.fault");
    // Readable up to the end of its page, which the stated size exceeds.
    let at = ARGUMENT + 4096 - 24;
    client.caller.write(at, argument(fd).as_bytes()).unwrap();
    client.caller.write(at, &25u32.to_le_bytes()).unwrap();
    assert_refused!(call(at), EFAULT, "argument.fault");
    client.caller.write(at, &u32::MAX.to_le_bytes()).unwrap();
    assert_refused!(call(at), EFAULT, "argument.fault");
    // A byte that is not zero is seen before the page that is missing.
    client.caller.write(at - 8, argument(fd).as_bytes()).unwrap();
    client.caller.write(at - 8, &4096u32.to_le_bytes()).unwrap();
    client.caller.write(at + 20, &[1]).unwrap();
    assert_refused!(call(at - 8), E2BIG, "bind.tail");
}

#[test]
fn b054_to_b057_b604_what_is_no_iommufd() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let device = client.open(0);
    let file = client.caller.install(Descriptor::File(0));
    let own = client.caller.install(Descriptor::Ours(device));
    assert_refused!(client.bind(device, -1), EINVAL, "bind.fd-negative");
    assert_refused!(client.bind(device, i32::MIN), EINVAL, "bind.fd-negative");
    let flags = VfioDeviceBindIommufd { flags: 2, ..argument(99) };
    assert_refused!(client.sized(device, &flags, 24), EINVAL, "bind.flags");
    assert_refused!(client.bind(device, 99), EBADF, "bind.fd-closed");
    assert_refused!(client.bind(device, file), EBADFD, "bind.not-iommufd");
    assert_refused!(client.bind(device, own), EBADFD, "bind.not-iommufd");
    // B-071, B-072: the file is as before, and can be bound.
    assert_refused!(client.raw(device, VFIO_DEVICE_GET_INFO, &mut [0; 24]), EINVAL, "device.not-bound");
    let (_, fd) = client.iommufd();
    assert_eq!(client.bind(device, fd), Ok(1));
}

#[test]
fn b058_to_b060_identifiers_and_binding_twice() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let mut client = Client::new(&vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    assert_eq!(client.ioas(iommufd), 1);
    assert_eq!(client.bind(device, fd), Ok(2));
    assert_refused!(client.bind(device, fd), EINVAL, "bind.already-bound");
    // Even a descriptor that is closed is not looked at.
    assert_refused!(client.bind(device, 99), EINVAL, "bind.already-bound");
    assert_eq!(client.bind(client.open(1), fd), Ok(3), "two devices in one context");
}

#[test]
fn b069_b070_b085_b606_no_token_is_accepted() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let device = client.open(0);
    let flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
    let with_token = |token_uuid_ptr| VfioDeviceBindIommufd { flags, token_uuid_ptr, ..argument(fd) };
    assert_refused!(client.sized(device, &with_token(0x7777_0000), 24), EFAULT, "bind.token-fault");
    assert_refused!(client.sized(device, &with_token(ARGUMENT), 16), EFAULT, "bind.token-fault");
    let lines = || {
        vfio.host()
            .bus(|bus| bus.log.iter().filter(|line| line.contains("VF token")).cloned().collect::<Vec<_>>())
    };
    assert!(lines().is_empty());
    assert_refused!(client.sized(device, &with_token(ARGUMENT), 24), EINVAL, "bind.token");
    assert_eq!(lines(), ["Info 0: VF token incorrectly provided, not a PF or VF"]);
    assert_eq!(client.bind(device, fd), Ok(1));
}

#[test]
fn b073_b074_the_device_object_lives_as_long_as_the_binding() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    let id = client.bind(device, fd).unwrap();
    assert_eq!(crate::client::refused(client.destroy(iommufd, id)).errno, uapi::Errno::EBUSY);
    vfio.release(device);
    assert_eq!(crate::client::refused(client.destroy(iommufd, id)).errno, uapi::Errno::ENOENT);
}

#[test]
fn b076_the_binding_keeps_the_context() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    client.bind(device, fd).unwrap();
    let ioas = client.ioas(iommufd);
    vfio.release(iommufd);
    assert_eq!(vfio.usage().contexts, 1);
    client.attach(device, ioas).unwrap();
    vfio.release(device);
    assert_eq!(vfio.usage().contexts, 0);
}

#[test]
fn b084_b605_a_reply_that_cannot_be_given_undoes_everything() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    // The argument is in memory that can be read only.
    let at = 0x10_0000;
    let task = client.caller.task;
    vfio.host().ram(|ram: &mut Ram| ram.map(task, at, 1, Layout::Scattered, true));
    client.caller.write(at, argument(fd).as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(task, at, false));
    let before = crate::client::state(&vfio);
    let call = |address| vfio.ioctl(&client.caller.ctx(), device, VFIO_DEVICE_BIND_IOMMUFD, address);
    assert_refused!(call(at), EFAULT, "reply.fault");
    assert_eq!(crate::client::state(&vfio), before);
    assert!(!vfio.host().function(Function(0), |function| function.mappings));
    assert_refused!(client.raw(device, VFIO_DEVICE_GET_INFO, &mut [0; 24]), EINVAL, "device.not-bound");
    assert_refused!(client.destroy(iommufd, 1), ENOENT, "destroy.unknown");
    assert_eq!(client.bind(device, fd), Ok(1));
}

#[test]
fn b605_a_refused_bind_leaves_the_argument_alone() {
    let vfio = machine(&[TestFunction::express()]);
    let client = Client::new(&vfio);
    let device = client.open(0);
    let mut bytes =
        *VfioDeviceBindIommufd { out_devid: 0x5555, ..argument(99) }.as_bytes().first_chunk::<24>().unwrap();
    let before = bytes;
    assert_refused!(client.raw(device, VFIO_DEVICE_BIND_IOMMUFD, &mut bytes), EBADF, "bind.fd-closed");
    assert_eq!(bytes, before);
}

#[test]
fn a_reset_that_is_contended_refuses_the_bind() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let device = client.open(0);
    let before = crate::client::state(&vfio);
    let fail = |error| vfio.host().function(Function(0), |function| function.reset_error = error);
    fail(Some(uapi::Errno::EAGAIN));
    assert_refused!(client.bind(device, fd), EAGAIN, "bind.reset-busy");
    assert_eq!(crate::client::state(&vfio), before);
    fail(None);
    assert_eq!(client.bind(device, fd), Ok(1));
}

#[test]
fn regression_a_bind_that_succeeds_has_made_a_device_object() {
    // Regression: the bug that no-IOMMU device files once had: BIND answered 0 and made no device, and ATTACH found nothing.
    for noiommu in [true, false] {
        let vfio = machine(&[TestFunction { iommu: (!noiommu).then_some(IOMMU), ..TestFunction::express() }]);
        let mut client = Client::new(&vfio);
        let (iommufd, fd) = client.iommufd();
        let device = client.open(0);
        let bound = client.bind(device, fd);
        assert_eq!(vfio.usage().objects, u64::from(bound.is_ok()));
        let Ok(id) = bound else { continue };
        assert_eq!(crate::client::refused(client.destroy(iommufd, id)).name, "destroy.device");
        let ioas = client.ioas(iommufd);
        assert!(client.attach(device, ioas).is_ok());
    }
}

#[test]
fn of_two_binds_at_once_one_succeeds() {
    for _ in 0..200 {
        let vfio = machine(&[TestFunction::express()]);
        let bind = || {
            let mut client = Client::new(&vfio);
            let (_, fd) = client.iommufd();
            let device = client.open(0);
            client.bind(device, fd)
        };
        let results = std::thread::scope(|scope| {
            let other = scope.spawn(bind);
            [bind(), other.join().expect("the other thread")]
        });
        let refused: Vec<_> = results.iter().filter_map(|result| result.err()).collect();
        assert_eq!(
            refused.iter().map(|refusal| refusal.rule().name).collect::<Vec<_>>(),
            ["bind.device-open"]
        );
    }
}
