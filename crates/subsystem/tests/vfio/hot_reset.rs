//! Hot reset: which functions it takes along, whose they are, and what becomes of them.

use subsystem::{FileId, Function, Refusal};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::client::{Client, Vfio, assert_refused, machine};
use crate::group::{Joins, NAME};
use crate::support::function::TestFunction;
use crate::support::host::Descriptor;

const OWNED: u32 = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;

/// A function that cannot be reset on its own, on a bus that can be.
fn behind_port() -> TestFunction {
    TestFunction { bus: Some(1), ..TestFunction::conventional() }
}

/// The flags, and the entries, of which there is room for `room`.
fn info(client: &Client, device: FileId, room: usize) -> Result<(u32, Vec<VfioPciDependentDevice>), Refusal> {
    const HEAD: usize = size_of::<VfioPciHotResetInfo>();
    const EACH: usize = size_of::<VfioPciDependentDevice>();
    let argsz = (HEAD + room * EACH) as u32;
    let mut bytes = VfioPciHotResetInfo { argsz, ..Command::new() }.as_bytes().to_vec();
    bytes.resize(argsz as usize, 0);
    let answer = client.raw(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &mut bytes);
    let head = VfioPciHotResetInfo::read_from_bytes(&bytes[..HEAD]).unwrap();
    let refused = answer.is_err_and(|refusal| refusal.errno() == uapi::Errno::EPERM);
    assert_eq!(head.count, if refused { 0 } else { 2 }, "told even if there is no room");
    answer?;
    let entries = bytes[HEAD..].chunks_exact(EACH).take(2);
    Ok((head.flags, entries.map(|entry| VfioPciDependentDevice::read_from_bytes(entry).unwrap()).collect()))
}

fn reset(client: &Client, device: FileId) -> Result<u32, Refusal> {
    client.call(device, &mut VfioPciHotReset { argsz: 12, flags: 0, count: 0 })
}

fn two() -> std::sync::Arc<Vfio> {
    machine(&[behind_port(), behind_port()])
}

#[test]
fn b172_b175_b182_a_sibling_that_nobody_has_bound() {
    let vfio = two();
    let (client, device) = Client::bound(&vfio);
    assert_refused!(info(&client, device, 1), ENOSPC, "hot-reset-info.space");
    let (flags, entries) = info(&client, device, 2).unwrap();
    assert_eq!(flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
    assert_eq!([entries[0].devid, entries[1].devid], [1, VFIO_PCI_DEVID_NOT_OWNED]);
    assert_eq!([entries[0].bus, entries[1].devfn], [1, 1]);
    assert_refused!(reset(&client, device), EINVAL, "hot-reset.not-owned");
}

#[test]
fn b176_b627_whoever_has_all_of_them_resets_them() {
    let vfio = two();
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let devices = [client.open(0), client.open(1)];
    for device in devices {
        client.bind(device, fd).unwrap();
    }
    assert_eq!(info(&client, devices[0], 8).unwrap().0, OWNED);
    client.set_config(devices[1], 4, 2, 0x6);
    vfio.host().take_events();
    assert_eq!(reset(&client, devices[0]), Ok(0));
    let events = vfio.host().take_events();
    let at = |what: &str| events.iter().position(|event| event == what).unwrap();
    assert!(at("mappings off") < at("bus reset") && at("bus reset") < at("mappings on"), "{events:?}");
    assert_eq!(client.config(devices[1], 4, 2) & 0x6, 0x6, "the command register is brought back");
}

#[test]
fn b629_b630_a_sibling_of_another_context() {
    let vfio = two();
    let (mut client, device) = Client::bound(&vfio);
    let (_, fd) = client.iommufd();
    let other = client.open(1);
    client.bind(other, fd).unwrap();
    let (flags, entries) = info(&client, device, 2).unwrap();
    assert_eq!((flags, entries[1].devid), (VFIO_PCI_HOT_RESET_FLAG_DEV_ID, VFIO_PCI_DEVID_NOT_OWNED));
    assert_refused!(reset(&client, device), EINVAL, "hot-reset.not-owned");
}

/// The first device, from its group, and the files of both groups, with descriptors of them.
fn from_group(client: &mut Client) -> (FileId, [(FileId, i32); 2]) {
    let (group, _container) = client.joined(Joins::Container);
    let device = client.device_of(group, NAME).unwrap();
    let other = client.open_group(1).unwrap();
    (device, [group, other].map(|file| (file, client.caller.install(Descriptor::Ours(file)))))
}

fn reset_with(client: &Client, device: FileId, groups: &[i32]) -> Result<u32, Refusal> {
    let argument = VfioPciHotReset { argsz: 12, flags: 0, count: groups.len() as u32 };
    let mut bytes = [argument.as_bytes(), groups.as_bytes()].concat();
    client.raw(device, VFIO_DEVICE_PCI_HOT_RESET, &mut bytes)
}

#[test]
fn b323_b178_to_b180_whoever_has_a_device_from_its_group_shows_groups() {
    let vfio = two();
    let mut client = Client::new(&vfio);
    let (device, [(_, first), (_, second)]) = from_group(&mut client);
    let (flags, entries) = info(&client, device, 2).unwrap();
    assert_eq!((flags, entries[0].devid, entries[1].devid), (0, 0, 1), "the numbers of the groups");
    let (_, iommufd) = client.iommufd();
    let reset = |groups: &[i32]| reset_with(&client, device, groups);
    assert_refused!(reset(&[]), EINVAL, "hot-reset.groups");
    assert_refused!(reset(&[first, second, first]), EINVAL, "hot-reset.many");
    assert_refused!(reset(&[first, 99]), EBADF, "hot-reset.fd-closed");
    assert_refused!(reset(&[first, iommufd]), EINVAL, "hot-reset.not-group");
    assert_refused!(reset(&[first]), EINVAL, "hot-reset.not-owned");
    assert_eq!(reset(&[second, first]), Ok(0));
}

#[test]
fn a_function_without_a_group_is_told_to_nobody() {
    let vfio = two();
    let mut client = Client::new(&vfio);
    let (device, [(_, group), (other, _)]) = from_group(&mut client);
    vfio.release(other);
    vfio.remove(Function(1));
    assert_refused!(info(&client, device, 2), EPERM, "hot-reset-info.groups");
    assert_refused!(reset_with(&client, device, &[group]), EINVAL, "hot-reset.foreign");
}

#[test]
fn a_sibling_without_a_driver_of_vfio() {
    let vfio = machine(&[behind_port()]);
    vfio.host().add_function(behind_port());
    let (client, device) = Client::bound(&vfio);
    assert_eq!(info(&client, device, 2).unwrap().1[1].devid, VFIO_PCI_DEVID_NOT_OWNED);
    assert_refused!(reset(&client, device), EINVAL, "hot-reset.foreign");
}

#[test]
fn a_bus_that_does_not_come_back() {
    let vfio = machine(&[TestFunction {
        reset_error: Some(uapi::Errno::ENOTTY),
        bus: Some(1),
        ..TestFunction::conventional()
    }]);
    let (client, device) = Client::bound(&vfio);
    assert_refused!(reset(&client, device), ENOTTY, "hot-reset.failed");
    assert!(client.read(device, 0, 4).is_ok(), "the device stays usable");
}

/// Neither could be reset on its own: the last one that is closed takes the other along.
#[test]
fn the_last_close_resets_the_bus() {
    let vfio = two();
    let mut client = Client::new(&vfio);
    let (_, fd) = client.iommufd();
    let devices = [client.open(0), client.open(1)];
    for device in devices {
        client.bind(device, fd).unwrap();
    }
    vfio.host().take_events();
    let resets = || vfio.host().take_events().into_iter().filter(|event| event == "bus reset").count();
    vfio.release(devices[0]);
    assert_eq!(resets(), 0, "the other one is open");
    vfio.release(devices[1]);
    assert_eq!(resets(), 1);
    assert!(vfio.host().function(Function(0), |function| function.command() & 4 == 0));
}
