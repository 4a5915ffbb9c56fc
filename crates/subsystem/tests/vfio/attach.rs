//! ATTACH_IOMMUFD_PT and DETACH_IOMMUFD_PT.

use subsystem::{FileId, UserMemory};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{Client, Vfio, assert_refused, machine};
use crate::support::function::TestFunction;
use crate::support::memory::Layout;

const BUFFER: u64 = 0x4000_0000;

/// A process with a bound device (object 1) and an IOAS (object 2), in which a page is mapped at 0x10000.
fn ready(vfio: &Vfio) -> (Client<'_>, FileId, FileId, u32) {
    let mut client = Client::new(vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    client.bind(device, fd).unwrap();
    let ioas = client.ioas(iommufd);
    vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
    client.map(iommufd, ioas, BUFFER, 0x1_0000, 4096);
    (client, iommufd, device, ioas)
}

#[test]
fn b089_to_b096_the_argument_of_attach() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, _, device, ioas) = ready(&vfio);
    let argument = VfioDeviceAttachIommufdPt { pt_id: ioas, ..Command::new() };
    assert_refused!(client.sized(device, &argument, 11), EINVAL, "attach.argsz");
    let flags = VfioDeviceAttachIommufdPt { flags: 2, ..argument };
    assert_refused!(client.sized(device, &flags, 16), EINVAL, "attach.flags");
    assert_refused!(client.attach(device, 77), ENOENT, "attach.unknown");
    assert_refused!(client.attach(device, 0), ENOENT, "attach.unknown");
    assert_refused!(client.attach(device, 1), EINVAL, "attach.type");
    assert_eq!(client.sized(device, &argument, 12).unwrap().pt_id, 3);
    let garbage = VfioDeviceAttachIommufdPt { pasid: 0xdead, ..argument };
    assert_eq!(client.sized(device, &garbage, 64).unwrap().pt_id, 3);
    let call = |address| vfio.ioctl(&client.caller.ctx(), device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, address);
    assert_refused!(call(0), EFAULT, "argument.fault");
}

#[test]
fn b098_identifiers_are_those_of_the_bound_context() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, _, device, _) = ready(&vfio);
    let (other, _) = client.iommufd();
    for _ in 0..8 {
        client.ioas(other);
    }
    assert_refused!(client.attach(device, 8), ENOENT, "attach.unknown");
}

#[test]
fn b099_to_b103_replacing_the_page_table() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, iommufd, device, first) = ready(&vfio);
    let table = client.attach(device, first).unwrap();
    assert_eq!(client.attach(device, first), Ok(table));
    assert_eq!(client.attach(device, table), Ok(table));
    assert_refused!(client.attach(device, 77), ENOENT, "attach.unknown");
    assert!(client.physical(iommufd, first, 0x1_0000).is_ok(), "a refused replace changes nothing");
    let second = client.ioas(iommufd);
    client.attach(device, second).unwrap();
    assert_refused!(client.destroy(iommufd, table), ENOENT, "destroy.unknown");
    assert!(client.physical(iommufd, first, 0x1_0000).is_err());
}

#[test]
fn b107_to_b113_detaching() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, iommufd, device, ioas) = ready(&vfio);
    let argument = VfioDeviceDetachIommufdPt::new();
    assert_refused!(client.sized(device, &argument, 7), EINVAL, "detach.argsz");
    let flags = VfioDeviceDetachIommufdPt { flags: 2, ..argument };
    assert_refused!(client.sized(device, &flags, 12), EINVAL, "detach.flags");
    assert_eq!(client.detach(device), Ok(0), "never attached");
    let table = client.attach(device, ioas).unwrap();
    assert_refused!(client.destroy(iommufd, table), EBUSY, "destroy.hwpt-in-use");
    assert_refused!(client.destroy(iommufd, ioas), EBUSY, "destroy.ioas-in-use");
    assert!(client.sized(device, &argument, 8).is_ok());
    assert_eq!(client.detach(device), Ok(0), "twice");
    assert_refused!(client.destroy(iommufd, table), ENOENT, "destroy.unknown");
    assert_eq!(client.destroy(iommufd, ioas), Ok(0), "mappings and all");
}

#[test]
fn b105_two_devices_share_an_ioas() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let mut client = Client::new(&vfio);
    let (iommufd, fd) = client.iommufd();
    let (first, second) = (client.open(0), client.open(1));
    client.bind(first, fd).unwrap();
    client.bind(second, fd).unwrap();
    let ioas = client.ioas(iommufd);
    vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 1, Layout::Scattered, true));
    client.map(iommufd, ioas, BUFFER, 0, 4096);
    let table = client.attach(first, ioas).unwrap();
    assert_eq!(client.attach(second, ioas), Ok(table));
    vfio.release(first);
    assert!(client.physical(iommufd, ioas, 0).is_ok());
    client.detach(second).unwrap();
    assert_refused!(client.destroy(iommufd, table), ENOENT, "destroy.unknown");
}

#[test]
fn b142_b614_a_reply_that_cannot_be_given_detaches() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, iommufd, device, ioas) = ready(&vfio);
    let second = client.ioas(iommufd);
    let at = 0x10_0000;
    let task = client.caller.task;
    vfio.host().ram(|ram| ram.map(task, at, 1, Layout::Scattered, true));
    let argument = VfioDeviceAttachIommufdPt { pt_id: ioas, ..Command::new() };
    client.caller.write(at, argument.as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(task, at, false));
    let call = || vfio.ioctl(&client.caller.ctx(), device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, at);
    for attached_before in [false, true] {
        if attached_before {
            client.attach(device, second).unwrap();
        }
        assert_refused!(call(), EFAULT, "reply.fault");
        assert!(client.physical(iommufd, ioas, 0x1_0000).is_err());
        assert!(client.destroy(iommufd, 4).is_err(), "no page table is left");
    }
    let mut bytes =
        *VfioDeviceAttachIommufdPt { pt_id: 77, ..Command::new() }.as_bytes().first_chunk::<16>().unwrap();
    let before = bytes;
    assert!(client.raw(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut bytes).is_err());
    assert_eq!(bytes, before);
}

#[test]
fn pasids_of_a_device_without_an_iommu() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, iommufd, device, ioas) = ready(&vfio);
    let flags = VFIO_DEVICE_ATTACH_PASID;
    let argument = VfioDeviceAttachIommufdPt { flags, pt_id: ioas, ..Command::new() };
    assert_refused!(client.sized(device, &argument, 12), EINVAL, "attach.argsz");
    assert_refused!(client.attach_pasid(device, 77, 1 << 31), ENOSPC, "attach.pasid-range");
    assert_refused!(client.attach_pasid(device, 77, 1), ENOENT, "attach.unknown");
    assert_refused!(client.attach_pasid(device, 1, 1), EINVAL, "attach.type");
    assert_refused!(client.attach_pasid(device, ioas, 1), EINVAL, "attach.pasid-table");

    // PASID 0 is the ordinary slot, but what one form attached the other does not detach.
    let table = client.attach_pasid(device, ioas, 0).unwrap();
    assert_eq!(client.attach_pasid(device, ioas, 0), Ok(table));
    assert_refused!(client.attach(device, ioas), EBUSY, "attach.busy");
    assert_refused!(client.attach(device, 77), ENOENT, "attach.unknown");
    assert_eq!(client.detach(device), Ok(0));
    assert!(client.physical(iommufd, ioas, 0x1_0000).is_ok());
    assert_eq!(client.detach_pasid(device, 9), Ok(0));
    assert!(client.physical(iommufd, ioas, 0x1_0000).is_ok());
    assert_eq!(client.detach_pasid(device, 0), Ok(0));
    assert!(client.physical(iommufd, ioas, 0x1_0000).is_err());

    client.attach(device, ioas).unwrap();
    assert_refused!(client.attach_pasid(device, ioas, 0), EBUSY, "attach.busy");
    let argument = VfioDeviceDetachIommufdPt { flags: VFIO_DEVICE_DETACH_PASID, ..Command::new() };
    assert_refused!(client.sized(device, &argument, 8), EINVAL, "detach.argsz");
}
