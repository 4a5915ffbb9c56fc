//! Groups: opening, joining a container or an iommufd, giving out devices, and what they exclude.

use subsystem::{FileId, Function, IommuInfo, NodeKind, Refusal, UserMemory, Whence};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{Client, Vfio, assert_refused, machine};
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Descriptor};
use crate::support::iommu::IOMMU;

/// The name of the first function.
pub(crate) const NAME: &str = "0000:00:00.0";

/// A function behind an IOMMU that has put it in this iommu_group.
pub(crate) fn behind_iommu(group: u32) -> TestFunction {
    TestFunction { iommu: Some(IommuInfo { group, ..IOMMU }), ..TestFunction::express() }
}

/// What a group can join.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Joins {
    Container,
    Iommufd,
}

impl Client<'_> {
    /// Opens a file of the caller's, and a descriptor of it.
    fn opened(&self, file: FileId) -> (FileId, i32) {
        (file, self.caller.install(Descriptor::Ours(file)))
    }

    pub(crate) fn group_node(&self, minor: u32) -> NodeKind {
        let of_minor = |kind: &NodeKind| matches!(kind, NodeKind::Group { minor: m, .. } if *m == minor);
        let nodes = self.vfio.host().bus(|bus| bus.nodes.clone());
        nodes.iter().map(|node| node.kind).find(of_minor).expect("a group")
    }

    pub(crate) fn open_group(&self, minor: u32) -> Result<FileId, Refusal> {
        self.open_node(self.group_node(minor))
    }

    pub(crate) fn container(&self) -> (FileId, i32) {
        self.opened(self.open_node(NodeKind::Container).expect("open /dev/vfio/vfio"))
    }

    pub(crate) fn set_container(&self, group: FileId, fd: i32) -> Result<u32, Refusal> {
        self.raw(group, VFIO_GROUP_SET_CONTAINER, &mut fd.to_ne_bytes())
    }

    pub(crate) fn unset_container(&self, group: FileId) -> Result<u32, Refusal> {
        self.raw(group, VFIO_GROUP_UNSET_CONTAINER, &mut [])
    }

    /// GROUP_GET_DEVICE_FD; the file.
    pub(crate) fn device_of(&self, group: FileId, name: &str) -> Result<FileId, Refusal> {
        let mut bytes = [name.as_bytes(), &[0]].concat();
        let fd = self.raw(group, VFIO_GROUP_GET_DEVICE_FD, &mut bytes)?;
        Ok(self.caller.file(fd as i32).expect("the descriptor is open"))
    }

    /// An ioctl of a container whose argument is a number.
    pub(crate) fn number(&self, file: FileId, command: u32, number: u64) -> Result<u32, Refusal> {
        self.vfio.ioctl(&self.caller.ctx(), file, command, number)
    }

    pub(crate) fn set_iommu(&self, container: FileId, kind: u32) -> Result<u32, Refusal> {
        self.number(container, VFIO_SET_IOMMU, kind.into())
    }

    pub(crate) fn status(&self, group: FileId) -> Result<u32, Refusal> {
        let mut argument = VfioGroupStatus::new();
        self.call(group, &mut argument).map(|_| argument.flags)
    }

    /// The first group, which has joined something new that can give out its device: the group, and what it has joined.
    pub(crate) fn joined(&mut self, joins: Joins) -> (FileId, FileId) {
        let group = self.open_group(0).expect("open the group");
        let (file, fd) = match joins {
            Joins::Container => self.container(),
            Joins::Iommufd => self.iommufd(),
        };
        self.set_container(group, fd).expect("join");
        self.set_iommu(file, VFIO_NOIOMMU_IOMMU).expect("a backend");
        (group, file)
    }
}

const BOTH: [Joins; 2] = [Joins::Container, Joins::Iommufd];

/// A machine with one function without an IOMMU, and a process.
fn one(f: impl FnOnce(&Vfio, Client<'_>)) {
    let vfio = machine(&[TestFunction::express()]);
    f(&vfio, Client::new(&vfio));
}

#[test]
fn b281_b283_to_b286_a_group_is_opened_once_and_not_while_its_device_is_bound() {
    one(|vfio, mut client| {
        let device = client.open(0);
        let (_, fd) = client.iommufd();
        client.bind(device, fd).unwrap();
        client.caller.caps.sys_rawio = false;
        assert_refused!(client.open_group(0), EPERM, "group.capability");
        client.caller.caps.sys_rawio = true;
        assert_refused!(client.open_group(0), EBUSY, "group.device-bound");
        vfio.release(device);
        let group = client.open_group(0).unwrap();
        assert_refused!(client.open_group(0), EBUSY, "group.open");
        vfio.release(group);
        client.open_group(0).unwrap();
    });
    let vfio = machine(&[behind_iommu(7)]);
    let mut client = Client::new(&vfio);
    client.caller.caps.sys_rawio = false;
    client.open_group(0).expect("an IOMMU keeps the rest of the system safe");
}

#[test]
fn b063_to_b068_a_device_is_not_bound_while_its_group_is_open() {
    one(|vfio, mut client| {
        let device = client.open(0);
        let (_, fd) = client.iommufd();
        let group = client.open_group(0).unwrap();
        assert_refused!(client.bind(device, fd), EBUSY, "bind.group-open");
        assert_refused!(client.bind(device, 99), EBUSY, "bind.group-open");
        let mut flags = VfioDeviceBindIommufd { iommufd: fd, flags: 2, ..Command::new() };
        assert_refused!(client.call(device, &mut flags), EINVAL, "bind.flags");
        vfio.release(group);
        // What was refused later does not keep the group closed.
        assert_refused!(client.bind(device, 99), EBADF, "bind.fd-closed");
        vfio.release(client.open_group(0).unwrap());
        client.bind(device, fd).unwrap();
    });
    one(|_, mut client| {
        let (group, _) = client.joined(Joins::Container);
        let device = client.device_of(group, NAME).unwrap();
        assert_refused!(client.bind(device, 0), EINVAL, "bind.group-file");
        let short = VfioDeviceBindIommufd::new();
        assert_refused!(client.sized(device, &short, 8), EINVAL, "bind.argsz");
        assert_refused!(client.attach(device, 1), ENOTTY, "device.unknown-command");
        assert_refused!(client.detach(device), ENOTTY, "device.unknown-command");
        let mut reset = VfioPciHotReset { argsz: 16, flags: 0, count: 0 };
        assert_refused!(client.call(device, &mut reset), EINVAL, "hot-reset.groups");
        reset.count = 1;
        assert_refused!(client.call(device, &mut reset), ENODEV, "hot-reset.none");
    });
}

#[test]
fn b287_to_b292_before_a_group_has_joined() {
    one(|_, client| {
        let group = client.open_group(0).unwrap();
        assert_refused!(client.sized(group, &VfioGroupStatus::new(), 7), EINVAL, "group-status.argsz");
        assert_eq!(client.status(group), Ok(VFIO_GROUP_FLAGS_VIABLE));
        assert_refused!(client.raw(group, 0x3bff, &mut []), ENOTTY, "group.unknown-command");
        assert_refused!(client.unset_container(group), EINVAL, "unset-container.none");
        assert_refused!(client.device_of(group, NAME), EINVAL, "get-device-fd.not-joined");
        assert_refused!(client.set_container(group, 99), EBADF, "set-container.fd-closed");
        let other = client.caller.install(Descriptor::File(0));
        assert_refused!(client.set_container(group, other), EBADFD, "set-container.other");
        let itself = client.caller.install(Descriptor::Ours(group));
        assert_refused!(client.set_container(group, itself), EBADFD, "set-container.other");
    });
}

#[test]
fn b289_b300_what_a_group_has_joined_is_one_thing() {
    for joins in BOTH {
        one(|_, mut client| {
            let (group, _) = client.joined(joins);
            assert_eq!(client.status(group), Ok(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET));
            let (_, another) = client.container();
            assert_refused!(client.set_container(group, another), EINVAL, "set-container.joined");
        });
    }
}

#[test]
fn b293_to_b297_b324_to_b326_names_of_devices() {
    one(|vfio, mut client| {
        let (group, _) = client.joined(Joins::Container);
        let ask = |options: &str| client.device_of(group, &format!("{NAME}{options}"));
        assert_refused!(client.device_of(group, "ffff:ff:1f.7"), ENODEV, "get-device-fd.unknown");
        assert_refused!(client.device_of(group, ""), ENODEV, "get-device-fd.unknown");
        assert_refused!(ask("x"), ENODEV, "get-device-fd.unknown");
        assert_refused!(ask(" junk"), EINVAL, "get-device-fd.option");
        assert_refused!(ask(" vf_token=1234"), EINVAL, "get-device-fd.uuid");
        assert_refused!(ask(" vf_token=1234567-81234-1234-1234-123456789abc"), EINVAL, "get-device-fd.uuid");
        assert_refused!(ask(" vf_token=+2345678-1234-1234-1234-123456789abc"), EINVAL, "get-device-fd.uuid");
        let token = " vf_token=12345678-1234-1234-1234-123456789ABC";
        assert_refused!(ask(token), EINVAL, "bind.token");
        assert_refused!(ask(&format!("{token}{token}")), EINVAL, "get-device-fd.option");
        assert_refused!(ask(&format!("{token}x")), EINVAL, "get-device-fd.option");
        let said = vfio.host().bus(|bus| bus.log.iter().filter(|line| line.contains("VF token")).count());
        assert_eq!(said, 1, "only a well-formed token is looked at");
        ask("   ").unwrap();

        let long = vec![b'a'; 4096];
        client.caller.write(ARGUMENT, &long).unwrap();
        assert_refused!(
            client.number(group, VFIO_GROUP_GET_DEVICE_FD, ARGUMENT),
            EINVAL,
            "get-device-fd.name"
        );
        let last = ARGUMENT + 4096 - NAME.len() as u64;
        client.caller.write(last, NAME.as_bytes()).unwrap();
        assert_refused!(client.number(group, VFIO_GROUP_GET_DEVICE_FD, last), EFAULT, "argument.fault");
        client.caller.write(last - 1, &[NAME.as_bytes(), &[0]].concat()).unwrap();
        client.number(group, VFIO_GROUP_GET_DEVICE_FD, last - 1).expect("the zero is the last byte there is");
    });
}

#[test]
fn b303_to_b307_a_device_of_a_container_holds_its_group() {
    one(|vfio, mut client| {
        let group = client.open_group(0).unwrap();
        let (container, fd) = client.container();
        client.set_container(group, fd).unwrap();
        assert_refused!(client.device_of(group, NAME), EINVAL, "get-device-fd.no-backend");
        client.set_iommu(container, VFIO_NOIOMMU_IOMMU).unwrap();
        client.caller.caps.sys_rawio = false;
        assert_refused!(client.device_of(group, NAME), EPERM, "get-device-fd.capability");
        client.caller.caps.sys_rawio = true;
        let device = client.device_of(group, NAME).unwrap();
        assert_refused!(client.unset_container(group), EBUSY, "unset-container.busy");
        vfio.release(group);
        vfio.release(container);
        assert_refused!(client.open_group(0), EBUSY, "group.open");
        let cdev = client.open(0);
        let (_, iommufd) = client.iommufd();
        assert_refused!(client.bind(cdev, iommufd), EBUSY, "bind.group-open");
        assert_eq!(vfio.usage().containers, 1, "the group keeps it");
        vfio.release(device);
        assert_eq!(vfio.usage().containers, 0);
        client.bind(cdev, iommufd).unwrap();
    });
}

#[test]
fn b308_to_b310_a_device_of_an_iommufd_does_not_hold_its_group() {
    one(|vfio, mut client| {
        let (group, iommufd) = client.joined(Joins::Iommufd);
        let device = client.device_of(group, NAME).unwrap();
        client.unset_container(group).unwrap();
        vfio.release(group);
        vfio.release(iommufd);
        assert_eq!(vfio.usage().contexts, 0);
        let group = client.open_group(0).unwrap();
        vfio.release(group);
        let (cdev, (_, fd)) = (client.open(0), client.iommufd());
        assert_refused!(client.bind(cdev, fd), EINVAL, "bind.device-open");
        assert_eq!(client.call(device, &mut VfioDeviceInfo::new()), Ok(0));
        vfio.release(device);
        client.bind(cdev, fd).unwrap();
    });
}

#[test]
fn b311_b312_several_files_of_a_device_are_one_opening() {
    for joins in BOTH {
        one(|vfio, mut client| {
            let (group, _) = client.joined(joins);
            let first = client.device_of(group, NAME).unwrap();
            vfio.host().take_events();
            let second = client.device_of(group, NAME).unwrap();
            vfio.release(first);
            assert_eq!(vfio.host().take_events(), [""; 0], "neither opened nor closed again");
            assert_eq!(client.call(second, &mut VfioDeviceInfo::new()), Ok(0));
            vfio.release(second);
            assert!(!vfio.host().take_events().is_empty());
        });
    }
}

#[test]
fn b014_b313_to_b317_b321_b322_a_device_of_an_iommufd_is_no_object_there() {
    one(|vfio, mut client| {
        let (group, iommufd) = client.joined(Joins::Iommufd);
        client.caller.caps.sys_rawio = false;
        assert_refused!(client.device_of(group, NAME), EPERM, "get-device-fd.capability");
        client.caller.caps.sys_rawio = true;
        let ioas = client.ioas(iommufd);
        client.device_of(group, NAME).expect("an IOAS for nobody's container is no matter");
        let told = "Warn 0: vfio-noiommu device opened by user (test:1)";
        assert_eq!(vfio.host().bus(|bus| bus.log.last().cloned()), Some(told.to_owned()));
        assert_eq!(vfio.usage().objects, 1, "the IOAS");
        let mut set = VfioIoas::set(ioas);
        client.call(iommufd, &mut set.0).unwrap();
        client.device_of(group, NAME).expect("it is open already");
    });
    one(|_, mut client| {
        let (group, iommufd) = client.joined(Joins::Iommufd);
        let ioas = client.ioas(iommufd);
        client.call(iommufd, &mut VfioIoas::set(ioas).0).unwrap();
        assert_refused!(client.device_of(group, NAME), EPERM, "get-device-fd.ioas");
        let fd = client.caller.install(Descriptor::Ours(iommufd));
        client.unset_container(group).unwrap();
        assert_refused!(client.set_container(group, fd), EINVAL, "set-container.ioas");
    });
}

/// `IOMMU_VFIO_IOAS`
struct VfioIoas(uapi::iommufd::IommuVfioIoas);

impl VfioIoas {
    fn set(ioas_id: u32) -> Self {
        let op = uapi::iommufd::IOMMU_VFIO_IOAS_SET as u16;
        VfioIoas(uapi::iommufd::IommuVfioIoas { ioas_id, op, ..Command::new() })
    }
}

#[test]
fn b301_b302_b318_b319_b652_groups_with_and_without_an_iommu_do_not_mix() {
    let vfio = machine(&[TestFunction::express(), behind_iommu(7)]);
    let mut client = Client::new(&vfio);
    let (noiommu, iommu) = (client.open_group(0).unwrap(), client.open_group(1).unwrap());
    for (first, second) in [(noiommu, iommu), (iommu, noiommu)] {
        let (container, fd) = client.container();
        client.set_container(first, fd).unwrap();
        assert_refused!(client.set_container(second, fd), EPERM, "set-container.mixed");
        client.unset_container(first).unwrap();
        client.set_container(second, fd).expect("it is empty again");
        client.unset_container(second).unwrap();
        vfio.release(container);
    }
    let (_, fd) = client.iommufd();
    client.set_container(noiommu, fd).unwrap();
    assert_refused!(client.set_container(iommu, fd), EINVAL, "set-container.noiommu");
    client.unset_container(noiommu).unwrap();
    assert_refused!(client.set_container(iommu, fd), EINVAL, "set-container.noiommu");
    let (_, fd) = client.iommufd();
    client.set_container(iommu, fd).unwrap();
    assert_refused!(client.set_container(noiommu, fd), EINVAL, "set-container.ioas");
    client.caller.caps.sys_rawio = false;
    let (_, fd) = client.container();
    assert_refused!(client.set_container(noiommu, fd), EPERM, "set-container.capability");
}

#[test]
fn functions_of_one_iommu_group_share_a_group() {
    let vfio = machine(&[behind_iommu(7), behind_iommu(7)]);
    let client = Client::new(&vfio);
    assert_eq!(vfio.usage().groups, 1);
    let group = client.open_group(0).unwrap();
    vfio.remove(Function(0));
    let before = vfio.host().bus(|bus| bus.nodes.len());
    client.status(group).expect("the other one is still there");
    vfio.remove(Function(1));
    assert_eq!(vfio.host().bus(|bus| bus.nodes.len()), before - 2, "the device and the group");
    assert_eq!(vfio.usage().groups, 1, "its file is open");
    vfio.release(group);
    assert_eq!(vfio.usage().groups, 0);
}

/// The file of a group that has lost its last device is that of a group that is gone, and stays so when a device comes back
/// to the same iommu_group.
#[test]
fn a_device_that_comes_back_is_in_another_group() {
    let vfio = machine(&[behind_iommu(7)]);
    let client = Client::new(&vfio);
    let old = client.open_group(0).unwrap();
    vfio.remove(Function(0));
    vfio.probe(Function(0)).unwrap();
    let node = NodeKind::Group { minor: 1, group: 7, noiommu: false };
    assert_eq!(client.group_node(1), node, "the first number is in use yet");
    assert_eq!(client.status(old).unwrap_err().rule().name, "group.gone");
    let new = client.open_node(node).unwrap();
    assert_eq!(client.status(new), Ok(VFIO_GROUP_FLAGS_VIABLE));
    vfio.release(old);
    assert_eq!(vfio.usage().groups, 1);
    assert_eq!(client.status(new), Ok(VFIO_GROUP_FLAGS_VIABLE));
}

#[test]
fn a_group_without_devices_is_gone_for_who_has_it_open() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let node = client.group_node(0);
    let (group, container) = client.joined(Joins::Container);
    vfio.remove(Function(0));
    assert_eq!(client.status(group).unwrap_err().rule().name, "group.gone");
    let (_, fd) = client.container();
    assert_refused!(client.set_container(group, fd), ENODEV, "group.gone");
    assert_refused!(client.device_of(group, NAME), ENODEV, "get-device-fd.unknown");
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), EINVAL, "set-iommu.no-group");
    assert_refused!(client.open_node(node), ENODEV, "group.gone");
    vfio.release(group);
    assert_refused!(client.open_node(node), ENXIO, "group.unknown");
}

#[test]
fn a_device_whose_driver_is_unbound_is_given_out_no_more() {
    let vfio = machine(&[TestFunction::conventional()]);
    let mut client = Client::new(&vfio);
    let (group, _) = client.joined(Joins::Container);
    let device = client.device_of(group, NAME).unwrap();
    let caller = Client::new(&vfio);
    let (machine, asker) = (vfio.clone(), vfio.clone());
    drop(caller);
    vfio.host().during_sleep(move || {
        let client = Client::new(&asker);
        assert_refused!(client.device_of(group, NAME), ENODEV, "get-device-fd.unknown");
        assert_eq!(client.status(group), Ok(3), "the group is as it was");
        machine.release(device);
        subsystem::Slept::Over
    });
    vfio.remove(Function(0));
    vfio.release(group);
    assert_eq!(vfio.usage().groups, 0);
}

#[test]
fn groups_and_containers_are_neither_read_nor_written_nor_mapped() {
    one(|vfio, mut client| {
        let (group, container) = client.joined(Joins::Container);
        for file in [group, container] {
            assert_refused!(client.read(file, 0, 4), EINVAL, "group.read");
            assert_refused!(client.write(file, 0, &[0; 4]), EINVAL, "group.write");
            let map = vfio.map(&client.caller.ctx(), file, subsystem::MapRequest::shared(0, 4096));
            assert_refused!(map, ENODEV, "group.map");
            assert_refused!(vfio.seek(file, Whence::Start, 0), ESPIPE, "file.seek");
        }
    });
}

#[test]
fn a_process_without_room_for_a_descriptor_is_given_no_device() {
    one(|vfio, mut client| {
        let (group, _) = client.joined(Joins::Container);
        let before = crate::client::state(vfio);
        client.caller.descriptor_limit = client.caller.descriptors();
        assert_refused!(client.device_of(group, NAME), EMFILE, "get-device-fd.descriptor");
        assert_eq!(crate::client::state(vfio), before);
        let mut argument = [0; 8];
        argument.copy_from_slice(VfioGroupStatus::new().as_bytes());
        client.caller.descriptor_limit += 1;
        client.device_of(group, NAME).unwrap();
    });
}
