//! What any file answers, bound or not.

use subsystem::{Access, MapRequest, NodeKind, Usage, Whence};
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;

use crate::client::{CONFIG, Client, assert_refused, device_node, machine};
use crate::support::function::TestFunction;
use crate::support::iommu::IOMMU;

const READ_ONLY: Access = Access { read: true, write: false };
const WRITE_ONLY: Access = Access { read: false, write: true };

#[test]
fn b028_b029_opening_needs_the_capability() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let node = device_node(&vfio, subsystem::Function(0)).unwrap().kind;
    assert!(client.open_node(node).is_ok());
    client.caller.caps.sys_rawio = false;
    assert_refused!(client.open_node(node), EPERM, "open.capability");
    assert_eq!(vfio.usage().files, 1);
    assert!(client.open_node(NodeKind::Iommufd).is_ok(), "b596: /dev/iommu needs none");
}

#[test]
fn b029_a_device_behind_an_iommu_needs_no_capability() {
    let vfio = machine(&[TestFunction { iommu: Some(IOMMU), ..TestFunction::express() }]);
    let mut client = Client::new(&vfio);
    client.caller.caps.sys_rawio = false;
    client.open(0);
}

#[test]
fn b032_b061_b062_any_number_may_open_and_one_may_bind() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, first) = Client::bound(&vfio);
    let second = client.open(0);
    let (_, fd) = client.iommufd();
    assert_refused!(client.bind(second, fd), EINVAL, "bind.device-open");
    vfio.release(first);
    assert_eq!(client.bind(second, fd), Ok(1));
}

#[test]
fn b033_to_b039_a_file_that_is_not_bound_does_nothing() {
    let vfio = machine(&[TestFunction::express()]);
    let client = Client::new(&vfio);
    let file = client.open(0);
    for command in
        [VFIO_DEVICE_GET_INFO, 0x3bff, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_IOMMUFD_PT]
    {
        assert_refused!(client.raw(file, command, &mut [0; 64]), EINVAL, "device.not-bound");
        // The argument is not even looked at.
        let result = vfio.ioctl(&client.caller.ctx(), file, command, 0);
        assert_refused!(result, EINVAL, "device.not-bound");
    }
    assert_refused!(client.read(file, CONFIG, 4), EINVAL, "device.not-bound");
    assert_refused!(client.read(file, CONFIG, 0), EINVAL, "device.not-bound");
    assert_refused!(client.write(file, CONFIG, &[0; 4]), EINVAL, "device.not-bound");
    let map = vfio.map(&client.caller.ctx(), file, MapRequest::shared(0, 4096));
    assert_refused!(map, EINVAL, "device.not-bound");
}

#[test]
fn b026_fdinfo_names_the_function() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    for (file, expected) in
        [(client.open(0), "vfio-device-syspath: /sys/devices/pci0000:00/0000:00:00.0\n"), (iommufd, "")]
    {
        let mut text = String::new();
        vfio.fdinfo(file, &mut |part| text.push_str(part));
        assert_eq!(text, expected);
    }
}

#[test]
fn b045_b664_no_file_is_seekable() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    let (iommufd, _) = client.iommufd();
    for file in [device, iommufd] {
        assert_refused!(vfio.seek(file, Whence::Start, 0), ESPIPE, "file.seek");
    }
}

#[test]
fn b380_b663_an_iommufd_is_not_read_written_or_mapped() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    assert_refused!(client.read(iommufd, 0, 8), EINVAL, "iommufd.read");
    assert_refused!(client.write(iommufd, 0, &[0; 8]), EINVAL, "iommufd.write");
    let map = |mapping| vfio.map(&client.caller.ctx(), iommufd, mapping);
    let whole = MapRequest::shared(0, 4096);
    // Which comes first where both are broken.
    let private = MapRequest { shared: false, executable: true, ..whole };
    assert_refused!(map(private), EINVAL, "iommufd.map-private");
    assert_refused!(map(MapRequest { executable: true, ..whole }), EPERM, "iommufd.map-executable");
    assert_refused!(map(whole), ENXIO, "iommufd.map");
}

#[test]
fn b597_to_b599_the_open_mode_counts_for_reading_writing_and_mapping_only() {
    let vfio = machine(&[TestFunction::express()]);
    let client = Client::new(&vfio);
    let node = device_node(&vfio, subsystem::Function(0)).unwrap().kind;
    let device = vfio.open(&client.caller.ctx(), node, READ_ONLY).unwrap();
    let iommufd = vfio.open(&client.caller.ctx(), NodeKind::Iommufd, READ_ONLY).unwrap();
    let fd = client.caller.install(crate::support::host::Descriptor::Ours(iommufd));
    assert_eq!(client.bind(device, fd), Ok(1));
    assert!(client.read(device, CONFIG, 4).is_ok());
    assert_refused!(client.write(device, CONFIG, &[0; 4]), EBADF, "file.not-writable");
    let map = |file, shared, writable| {
        vfio.map(&client.caller.ctx(), file, MapRequest { shared, writable, ..MapRequest::shared(0, 4096) })
    };
    assert_refused!(map(device, true, true), EACCES, "map.not-writable");
    assert!(map(device, true, false).is_ok());
    assert_refused!(map(device, false, true), EINVAL, "map.private");
    assert_refused!(client.write(iommufd, 0, &[0; 4]), EBADF, "file.not-writable");

    vfio.release(device);
    let device = vfio.open(&client.caller.ctx(), node, WRITE_ONLY).unwrap();
    assert_eq!(client.bind(device, fd), Ok(1));
    assert_refused!(client.read(device, CONFIG, 4), EBADF, "file.not-readable");
    assert_refused!(map(device, true, true), EACCES, "map.not-readable");
}

#[test]
fn b600_a_bound_file_needs_no_capability() {
    let vfio = machine(&[TestFunction::express()]);
    let (mut client, device) = Client::bound(&vfio);
    client.caller.caps.sys_rawio = false;
    assert!(client.call(device, &mut VfioDeviceInfo::new()).is_ok());
}

#[test]
fn b170_b615_commands_that_a_device_does_not_know() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    for command in [0x3bff, IommuIoasAlloc::OPCODE, 0x3b72, VFIO_GROUP_GET_STATUS] {
        assert_refused!(client.raw(device, command, &mut [0; 64]), ENOTTY, "device.unknown-command");
    }
}

#[test]
fn a_file_that_was_closed_is_not_found_again() {
    let vfio = machine(&[TestFunction::express()]);
    let client = Client::new(&vfio);
    let file = client.open(0);
    vfio.release(file);
    vfio.release(file);
    assert_eq!(vfio.usage(), Usage { devices: 1, groups: 1, ..Usage::default() });
    client.open(0);
    assert_refused!(client.raw(file, VFIO_DEVICE_GET_INFO, &mut [0; 64]), EBADF, "file.closed");
    assert_refused!(vfio.seek(file, Whence::Start, 0), EBADF, "file.closed");
}
