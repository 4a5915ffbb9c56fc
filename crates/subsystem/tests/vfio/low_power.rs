//! Low power with an eventfd, which tells that the function woke up, on kernels that suspend devices at run time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use subsystem::{FileId, Function, Refusal, Symbol};
use uapi::Command;
use uapi::vfio::*;

use crate::client::{CONFIG, Client, REGION, Vfio, assert_refused, machine, machine_with};
use crate::support::bus::Event;
use crate::support::function::TestFunction;
use crate::support::host::Descriptor;

const ENTRY: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
const EXIT: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;

fn suspending() -> Arc<Vfio> {
    machine_with(&[Symbol::Pm], &[TestFunction::express()])
}

fn feature(client: &Client, device: FileId, feature: u32) -> Result<(), Refusal> {
    let argument = VfioDeviceFeature { flags: feature | VFIO_DEVICE_FEATURE_SET, ..Command::new() };
    client.sized(device, &argument, 8).map(|_| ())
}

/// Allows low power until the function wakes up, in an argument of this size.
fn enter(client: &Client, device: FileId, fd: i32, size: u32) -> Result<u32, Refusal> {
    let flags = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET;
    let mut bytes = [size.to_le_bytes(), flags.to_le_bytes(), fd.to_le_bytes(), [0; 4]].concat();
    client.raw(device, VFIO_DEVICE_FEATURE, &mut bytes)
}

fn count(event: &Event) -> u64 {
    event.load(Ordering::Relaxed)
}

fn mappings_answer(vfio: &Vfio) -> bool {
    vfio.host().function(Function(0), |function| function.mappings)
}

/// What wakes a sleeping function up.
type Call = fn(&Client, FileId);

#[test]
fn the_eventfd_is_checked() {
    for vfio in [machine(&[TestFunction::express()]), suspending()] {
        let (mut client, device) = Client::bound(&vfio);
        let (event, fd) = client.eventfd();
        let null = client.caller.install(Descriptor::File(0));
        assert_refused!(enter(&client, device, fd, 15), EINVAL, "feature.payload");
        assert_refused!(enter(&client, device, -1, 16), EINVAL, "feature.fd-negative");
        assert_refused!(enter(&client, device, 99, 16), EBADF, "feature.fd-closed");
        assert_refused!(enter(&client, device, null, 16), EINVAL, "feature.not-eventfd");
        assert!(mappings_answer(&vfio), "nothing was allowed");
        assert_eq!(enter(&client, device, fd, 16), Ok(0));
        assert!(!mappings_answer(&vfio));
        assert_eq!(count(&event), 0);
    }
}

#[test]
fn a_call_wakes_the_function_up_and_signals_the_eventfd_once() {
    let calls: [(&str, Call); 5] = [
        ("a read of configuration space", |client, device| assert!(client.read(device, CONFIG, 4).is_ok())),
        ("a write of a BAR", |client, device| assert_eq!(client.write(device, 0, &[0; 4]), Ok(4))),
        ("a read that is refused", |client, device| {
            assert_refused!(client.read(device, 5 * REGION, 4), EINVAL, "bar.absent");
        }),
        ("an ioctl", |client, device| {
            client.sized(device, &VfioDeviceInfo::new(), size_of::<VfioDeviceInfo>()).unwrap();
        }),
        ("an ioctl that nobody knows", |client, device| {
            assert_refused!(client.raw(device, 0x3bff, &mut []), ENOTTY, "device.unknown-command");
        }),
    ];
    for (name, call) in calls {
        let vfio = suspending();
        let (mut client, device) = Client::bound(&vfio);
        let (event, fd) = client.eventfd();
        for round in 1..3 {
            assert_eq!(enter(&client, device, fd, 16), Ok(0), "{name}");
            assert_eq!((mappings_answer(&vfio), count(&event)), (false, round - 1), "{name}");
            call(&client, device);
            assert_eq!((mappings_answer(&vfio), count(&event)), (true, round), "{name}");
            call(&client, device);
            assert_eq!((mappings_answer(&vfio), count(&event)), (true, round), "{name}: it was awake");
        }
    }
}

#[test]
fn what_does_not_reach_the_function_does_not_wake_it_up() {
    let vfio = suspending();
    let (mut client, device) = Client::bound(&vfio);
    let (event, fd) = client.eventfd();
    assert_eq!(enter(&client, device, fd, 16), Ok(0));
    assert_eq!(client.read(device, CONFIG, 0), Ok(vec![]));
    assert_refused!(client.read(device, 9 * REGION, 4), EINVAL, "region.index");
    assert_eq!((mappings_answer(&vfio), count(&event)), (false, 0));
}

#[test]
fn a_second_entry_is_a_call_that_wakes_it_up() {
    let vfio = suspending();
    let (mut client, device) = Client::bound(&vfio);
    let ((first, first_fd), (second, second_fd)) = (client.eventfd(), client.eventfd());
    assert_eq!(enter(&client, device, first_fd, 16), Ok(0));
    assert_eq!(enter(&client, device, second_fd, 16), Ok(0));
    assert_eq!((mappings_answer(&vfio), count(&first), count(&second)), (false, 1, 0));
    // So is leaving it.
    assert_eq!(feature(&client, device, EXIT), Ok(()));
    assert_eq!((mappings_answer(&vfio), count(&first), count(&second)), (true, 1, 1));
}

#[test]
fn without_an_eventfd_it_is_over_when_the_user_says() {
    let vfio = suspending();
    let (client, device) = Client::bound(&vfio);
    assert_eq!(feature(&client, device, ENTRY), Ok(()));
    assert!(client.read(device, CONFIG, 4).is_ok());
    assert!(!mappings_answer(&vfio));
    assert_refused!(feature(&client, device, ENTRY), EINVAL, "feature.low-power");
    assert_eq!(feature(&client, device, EXIT), Ok(()));
    assert!(mappings_answer(&vfio));
}

#[test]
fn a_kernel_that_suspends_no_devices_wakes_none_up() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (event, fd) = client.eventfd();
    assert_eq!(enter(&client, device, fd, 16), Ok(0));
    assert!(client.read(device, CONFIG, 4).is_ok());
    assert!(!mappings_answer(&vfio));
    assert_refused!(enter(&client, device, fd, 16), EINVAL, "feature.low-power");
    assert_eq!(feature(&client, device, EXIT), Ok(()));
    assert_eq!((mappings_answer(&vfio), count(&event)), (true, 0));
}

#[test]
fn close_signals_nobody() {
    let vfio = suspending();
    let (mut client, device) = Client::bound(&vfio);
    let (event, fd) = client.eventfd();
    assert_eq!(enter(&client, device, fd, 16), Ok(0));
    vfio.release(device);
    assert_eq!(count(&event), 0);
    let (client, device) = Client::bound(&vfio);
    assert!(client.read(device, CONFIG, 4).is_ok());
    assert_eq!((mappings_answer(&vfio), count(&event)), (true, 0), "it was forgotten");
}
