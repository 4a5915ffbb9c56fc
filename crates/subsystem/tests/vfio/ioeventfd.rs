//! Registers that are written when an eventfd is signalled.

use subsystem::{Function, Refusal, Watch};
use uapi::vfio::*;

use crate::client::{Client, REGION, assert_refused, machine};
use crate::support::function::{TestFunction, express};
use crate::support::host::Descriptor;

const WORD: VfioDeviceIoeventfd = VfioDeviceIoeventfd {
    argsz: 32,
    flags: VFIO_DEVICE_IOEVENTFD_32,
    offset: 0x10,
    data: 0x1122_3344_5566_7788,
    fd: -1,
    reserved: 0,
};

fn watches(client: &Client) -> Vec<Watch> {
    let host = client.vfio.host();
    host.function(Function(0), |function| function.watches.iter().map(|(watch, _)| *watch).collect())
}

fn bytes(client: &Client, at: usize, length: usize) -> Vec<u8> {
    client.vfio.host().function(Function(0), |function| function.bytes[0][at..at + length].to_vec())
}

#[test]
fn b276_b280_arguments_are_checked() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let null = client.caller.install(Descriptor::File(0));
    let call = |argument| client.sized(device, &argument, 32).map(|_| ());
    assert_refused!(client.sized(device, &WORD, 27), EINVAL, "ioeventfd.argsz");
    for flags in [0, 3, 0x10] {
        assert_refused!(call(VfioDeviceIoeventfd { flags, ..WORD }), EINVAL, "ioeventfd.flags");
    }
    for (offset, rule) in [
        (7 * REGION, "ioeventfd.bar"),
        (express::BAR - 2, "ioeventfd.bounds"),
        (express::TABLE - 2, "ioeventfd.table"),
    ] {
        let refused = call(VfioDeviceIoeventfd { offset, ..WORD }).unwrap_err().rule();
        assert_eq!((refused.errno, refused.name), (uapi::Errno::EINVAL, rule));
    }
    assert_refused!(call(VfioDeviceIoeventfd { fd: -2, ..WORD }), EINVAL, "ioeventfd.fd");
    assert_refused!(call(WORD), ENODEV, "ioeventfd.unknown");
    assert_refused!(call(VfioDeviceIoeventfd { fd: 99, ..WORD }), EBADF, "ioeventfd.fd-closed");
    assert_refused!(call(VfioDeviceIoeventfd { fd: null, ..WORD }), EINVAL, "ioeventfd.not-eventfd");
}

#[test]
fn b278_a_write_is_installed_once_and_happens_at_each_signal() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fd) = client.eventfd();
    let call = |argument| client.sized(device, &argument, 32).map(|_| ());
    call(VfioDeviceIoeventfd { fd, ..WORD }).unwrap();
    assert_refused!(call(VfioDeviceIoeventfd { fd, ..WORD }), EEXIST, "ioeventfd.exists");
    call(VfioDeviceIoeventfd { fd, data: 1, ..WORD }).expect("another value is another write");
    assert_eq!(watches(&client), [Watch::Write(0), Watch::Write(1)]);
    vfio.watch_event(Function(0), Watch::Write(0));
    assert_eq!(
        bytes(&client, 0x0c, 12),
        [0x0c, 0xd, 0xe, 0xf, 0x88, 0x77, 0x66, 0x55, 0x14, 0x15, 0x16, 0x17]
    );
    call(WORD).expect("it is taken back");
    assert_eq!(watches(&client), [Watch::Write(1)]);
    vfio.watch_event(Function(0), Watch::Write(0));
    vfio.release(device);
    assert_eq!(watches(&client), [], "those that are left go with the file");
}

#[test]
fn the_width_is_that_of_the_flag_whatever_the_alignment() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fd) = client.eventfd();
    for (number, flags) in (0..).zip([1, 2, 4, 8]) {
        let offset = 0x101 + 0x20 * u64::from(number);
        client.sized(device, &VfioDeviceIoeventfd { fd, flags, offset, ..WORD }, 32).unwrap();
        vfio.watch_event(Function(0), Watch::Write(number));
        let written = bytes(&client, offset as usize, 9);
        let width = flags as usize;
        assert_eq!(written[..width], WORD.data.to_le_bytes()[..width]);
        assert_eq!(written[width], (offset as usize + width) as u8, "and nothing behind it");
    }
}

#[test]
fn where_memory_does_not_answer_the_write_is_lost() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fd) = client.eventfd();
    client.sized(device, &VfioDeviceIoeventfd { fd, ..WORD }, 32).unwrap();
    client.set_config(device, 4, 2, 0);
    vfio.watch_event(Function(0), Watch::Write(0));
    assert_eq!(bytes(&client, 0x10, 4), [0x10, 0x11, 0x12, 0x13]);
}

#[test]
fn a_device_has_a_thousand_of_them() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (_, fd) = client.eventfd();
    let install =
        |data| -> Result<_, Refusal> { client.call(device, &mut VfioDeviceIoeventfd { fd, data, ..WORD }) };
    for data in 0..1000 {
        install(data).unwrap();
    }
    assert_refused!(install(1000), ENOSPC, "ioeventfd.most");
}
