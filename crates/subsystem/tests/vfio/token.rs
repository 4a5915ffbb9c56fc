//! SR-IOV: the tokens that opening the functions of one device takes, and the memory of virtual ones.

use subsystem::{FileId, Function, NodeKind, Refusal, Sriov, UserMemory};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{Client, Vfio, assert_refused, machine};
use crate::group::behind_iommu;
use crate::support::function::TestFunction;
use crate::support::host::ARGUMENT;
use crate::support::memory::Layout;

type Token = [u8; 16];

const ONE: Token = *b"\x52\xac\x9b\xff\x3a\x88\x4f\xbd\x90\x1a\x0d\x76\x7c\x3b\x6c\x97";
const OTHER: Token = [2; 16];
/// [`ONE`] as text.
const ONE_TEXT: &str = "52ac9bff-3a88-4fbd-901a-0d767c3b6c97";

const PHYSICAL: u32 = 0;
const VIRTUAL: [u32; 2] = [1, 2];

/// A physical function and two virtual ones of it, each in an iommu_group of its own.
fn functions() -> [TestFunction; 3] {
    let physical = function(0, Sriov::Physical { enabled: 0 });
    [physical, function(1, Sriov::Virtual(Function(0))), function(2, Sriov::Virtual(Function(0)))]
}

fn function(group: u32, sriov: Sriov) -> TestFunction {
    TestFunction { sriov, ..behind_iommu(group) }
}

/// A way to open a function with a token, or without.
#[derive(Clone, Copy, Debug)]
enum Way {
    Bind,
    Group,
}

const WAYS: [Way; 2] = [Way::Bind, Way::Group];

/// A process, and what it opens functions with.
struct User<'a> {
    client: Client<'a>,
    iommufd: i32,
    /// The groups of all functions, in one container; empty: it opens them by their own nodes.
    groups: Vec<FileId>,
}

impl<'a> User<'a> {
    fn new(vfio: &'a Vfio, way: Way) -> Self {
        let mut client = Client::new(vfio);
        let (_, iommufd) = client.iommufd();
        let mut groups = Vec::new();
        if let Way::Group = way {
            let (container, fd) = client.container();
            let is_group = |kind: &NodeKind| matches!(kind, NodeKind::Group { .. });
            let count = vfio.host().bus(|bus| bus.nodes.iter().filter(|node| is_group(&node.kind)).count());
            groups = (0..count as u32).map(|minor| client.open_group(minor).unwrap()).collect();
            for group in &groups {
                client.set_container(*group, fd).unwrap();
            }
            client.set_iommu(container, VFIO_TYPE1v2_IOMMU).unwrap();
        }
        User { client, iommufd, groups }
    }

    fn open(&self, function: u32, token: Option<Token>) -> Result<FileId, Refusal> {
        let client = &self.client;
        if let Some(group) = self.groups.get(function as usize) {
            let token = token.map_or(String::new(), |token| format!(" vf_token={}", text(token)));
            return client.device_of(*group, &format!("0000:00:{function:02x}.0{token}"));
        }
        let device = client.open(function);
        let place = ARGUMENT + 0x100;
        client.caller.write(place, &token.unwrap_or_default()).unwrap();
        let mut argument = VfioDeviceBindIommufd { iommufd: self.iommufd, ..Command::new() };
        if token.is_some() {
            (argument.flags, argument.token_uuid_ptr) = (VFIO_DEVICE_BIND_FLAG_TOKEN, place);
        }
        let bound = client.call(device, &mut argument);
        bound.map(|_| device).inspect_err(|_| client.vfio.release(device))
    }

    fn set_token(&self, device: FileId, token: Token) -> Result<u32, Refusal> {
        let flags = VFIO_DEVICE_FEATURE_PCI_VF_TOKEN | VFIO_DEVICE_FEATURE_SET;
        self.feature(device, flags, &token)
    }

    fn feature(&self, device: FileId, flags: u32, payload: &[u8]) -> Result<u32, Refusal> {
        let argsz = 8 + payload.len() as u32;
        let mut bytes = [VfioDeviceFeature { argsz, flags }.as_bytes(), payload].concat();
        self.client.raw(device, VFIO_DEVICE_FEATURE, &mut bytes)
    }

    fn close(&self, device: FileId) {
        self.client.vfio.release(device);
    }
}

fn text(token: Token) -> String {
    let digits: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[test]
fn a_virtual_function_is_opened_with_the_token_of_its_physical_one() {
    for way in WAYS {
        let vfio = machine(&functions());
        let user = User::new(&vfio, way);
        let physical = user.open(PHYSICAL, Some(ONE)).unwrap();
        assert_refused!(user.open(1, None), EACCES, "token.required");
        assert_refused!(user.open(1, Some(OTHER)), EACCES, "token.wrong");
        let virtual_one = user.open(1, Some(ONE)).unwrap();
        user.close(physical);
        assert_refused!(user.open(2, None), EACCES, "token.required");
        let other = user.open(2, Some(ONE)).expect("it stays when the physical function is closed");
        [virtual_one, other].into_iter().for_each(|device| user.close(device));
        let lines: Vec<String> =
            vfio.host().bus(|bus| bus.log.iter().filter(|line| line.contains("token")).cloned().collect());
        let required = |function| format!("Info {function}: VF token required to access device");
        let wrong = "Info 1: Incorrect VF token provided for device".to_string();
        assert_eq!(lines, [required(1), wrong, required(2)], "{way:?}");
    }
    assert_eq!(text(ONE), ONE_TEXT);
}

#[test]
fn nobody_knows_the_first_token() {
    for way in WAYS {
        let vfio = machine(&functions());
        let user = User::new(&vfio, way);
        assert_refused!(user.open(1, Some([0; 16])), EACCES, "token.wrong");
        let physical = user.open(PHYSICAL, None).expect("nobody has a virtual function");
        assert_refused!(user.open(1, Some([0; 16])), EACCES, "token.wrong");
        user.set_token(physical, ONE).unwrap();
        user.open(1, Some(ONE)).unwrap();
    }
}

#[test]
fn a_physical_function_is_opened_with_the_token_while_virtual_ones_are_open() {
    for way in WAYS {
        let vfio = machine(&functions());
        let user = User::new(&vfio, way);
        user.close(user.open(PHYSICAL, Some(ONE)).unwrap());
        let opened = VIRTUAL.map(|function| user.open(function, Some(ONE)).unwrap());
        assert_refused!(user.open(PHYSICAL, None), EACCES, "token.required");
        assert_refused!(user.open(PHYSICAL, Some(OTHER)), EACCES, "token.wrong");
        user.close(opened[0]);
        assert_refused!(user.open(PHYSICAL, None), EACCES, "token.required");
        user.close(user.open(PHYSICAL, Some(ONE)).unwrap());
        user.close(opened[1]);
        user.close(user.open(PHYSICAL, None).unwrap());
        user.close(user.open(PHYSICAL, Some(OTHER)).expect("another one from now on"));
        assert_refused!(user.open(1, Some(ONE)), EACCES, "token.wrong");
        user.open(1, Some(OTHER)).unwrap();
    }
}

/// An opening that is undone leaves no user behind.
#[test]
fn who_could_not_open_a_virtual_function_does_not_count() {
    let vfio = machine(&functions());
    let user = User::new(&vfio, Way::Bind);
    user.close(user.open(PHYSICAL, Some(ONE)).unwrap());
    // The argument is in memory that can be read only: the reply cannot be told.
    let (caller, at) = (&user.client.caller, 0x10_0000);
    vfio.host().ram(|ram| ram.map(caller.task, at, 1, Layout::Scattered, true));
    let (flags, token_uuid_ptr) = (VFIO_DEVICE_BIND_FLAG_TOKEN, at + 0x100);
    let iommufd = user.iommufd;
    let argument = VfioDeviceBindIommufd { iommufd, flags, token_uuid_ptr, ..Command::new() };
    caller.write(at, argument.as_bytes()).unwrap();
    caller.write(token_uuid_ptr, &ONE).unwrap();
    vfio.host().ram(|ram| ram.protect(caller.task, at, false));
    let device = user.client.open(1);
    let bound = vfio.ioctl(&caller.ctx(), device, VFIO_DEVICE_BIND_IOMMUFD, at);
    assert_refused!(bound, EFAULT, "reply.fault");
    user.close(user.open(PHYSICAL, None).expect("no virtual function is open"));
}

#[test]
fn the_token_is_set_while_the_physical_function_is_open() {
    let vfio = machine(&functions());
    let user = User::new(&vfio, Way::Bind);
    let physical = user.open(PHYSICAL, Some(ONE)).unwrap();
    user.set_token(physical, OTHER).unwrap();
    assert_refused!(user.open(1, Some(ONE)), EACCES, "token.wrong");
    let virtual_one = user.open(1, Some(OTHER)).unwrap();
    let token = VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;
    let (get, set, probe) = (VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE);
    assert_eq!(user.feature(physical, token | set | probe, &[]), Ok(0));
    assert_refused!(user.feature(physical, token | get, &ONE), EINVAL, "feature.direction");
    assert_refused!(user.feature(physical, token | get | probe, &ONE), EINVAL, "feature.direction");
    assert_refused!(user.feature(physical, token, &ONE), EINVAL, "feature.no-action");
    assert_refused!(user.feature(physical, token | set, &ONE[..15]), EINVAL, "feature.payload");
    assert_refused!(user.set_token(virtual_one, ONE), ENOTTY, "feature.unknown");
}

#[test]
fn a_virtual_function_takes_no_token_whose_physical_one_has_another_driver() {
    for way in WAYS {
        let vfio = machine(&[function(0, Sriov::Virtual(Function(1)))]);
        let physical = vfio.host().add_function(function(1, Sriov::Physical { enabled: 1 }));
        assert_refused!(vfio.probe(physical), EBUSY, "probe.sriov");
        let last = || vfio.host().bus(|bus| bus.log.last().cloned());
        assert_eq!(last().as_deref(), Some("Warn 1: Cannot bind to PF with SR-IOV enabled"));
        let user = User::new(&vfio, way);
        assert_refused!(user.open(0, Some(ONE)), EINVAL, "token.physical");
        let line = "Info 0: VF token incorrectly provided, PF not bound to vfio-pci";
        assert_eq!(last().as_deref(), Some(line));
        user.open(0, None).unwrap();
    }
}

/// The enable bit of memory is not there on hardware: the user has one that nothing depends on.
#[test]
fn the_memory_of_a_virtual_function_answers_whatever_its_command_register_says() {
    let mut functions = functions();
    functions[1].writable[4] &= !2;
    functions[1].config[4] &= !2;
    let vfio = machine(&functions);
    let user = User::new(&vfio, Way::Bind);
    user.close(user.open(PHYSICAL, Some(ONE)).unwrap());
    let device = user.open(1, Some(ONE)).unwrap();
    let command = || user.client.config(device, 4, 2) & 2;
    let mapped = || vfio.host().function(Function(1), |function| function.mappings);
    for bit in [2, 0, 2] {
        user.client.set_config(device, 4, 2, bit);
        assert_eq!((command(), mapped()), (bit, true));
        assert!(user.client.read(device, 0, 4).is_ok());
    }
    assert!(vfio.host().bus(|bus| !bus.log.iter().any(|line| line.contains("restoring BARs"))));
    vfio.host().function(Function(1), |function| assert_eq!(function.config[4] & 2, 0));
}
