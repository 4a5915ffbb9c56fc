//! The files of a machine: nodes, sysfs, parameters.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::{CdevName, Driver, Machine, MachineSpec};
use sys::{Access, FileKind, Suite, Sys};
use uapi::iommufd::{IOMMU_OPTION_RLIMIT_MODE, IommuOption};
use uapi::{Command, Errno};

use crate::common::*;

const DEVICE: &str = "/sys/bus/pci/devices/0000:02:00.0";

fn list(machine: &Machine, path: &str) -> Vec<String> {
    machine.read_dir(Path::new(path)).unwrap()
}

fn link(machine: &Machine, path: &str) -> String {
    machine.read_link(Path::new(path)).unwrap().to_str().unwrap().to_string()
}

#[test]
fn a_device_shows_its_identity() {
    let machine = edu_machine();
    for (attribute, text) in [
        ("vendor", "0x1234\n"),
        ("device", "0x11e8\n"),
        ("class", "0x00ff00\n"),
        ("driver_override", "vfio-pci\n"),
    ] {
        assert_eq!(read(&machine, &format!("{DEVICE}/{attribute}")), text, "{attribute}");
    }
    let resource = read(&machine, &format!("{DEVICE}/resource"));
    let first = resource.lines().next().unwrap();
    assert_eq!(first, "0x00000000e0000000 0x00000000e00fffff 0x0000000000040200");
    assert_eq!(resource.lines().count(), 13);
    let config = machine.read(Path::new(&format!("{DEVICE}/config"))).unwrap();
    assert_eq!(
        (config.len(), &config[..4]),
        (64, &[0x34, 0x12, 0xe8, 0x11][..]),
        "the rest is for CAP_SYS_ADMIN"
    );
}

#[test]
fn links_lead_where_they_do_on_linux() {
    let machine = edu_machine();
    assert_eq!(link(&machine, DEVICE), "../../../devices/pci0000:02/0000:02:00.0");
    assert_eq!(link(&machine, &format!("{DEVICE}/driver")), "../../../bus/pci/drivers/vfio-pci");
    assert!(exists(&machine, &format!("{DRIVER}/{EDU}/vendor")));
    assert!(exists(&machine, "/sys/class/vfio-dev/noiommu-vfio0/device/vendor"));
    let error = machine.read_link(Path::new(NODE)).unwrap_err();
    assert_eq!((error.call(), error.errno()), ("readlink", Errno::EINVAL));
}

#[test]
fn a_node_comes_with_its_class_device() {
    let machine = edu_machine();
    let FileKind::CharDevice { major, minor } = machine.stat(Path::new(NODE)).unwrap().kind else {
        panic!("a device node")
    };
    let class = format!("{DEVICE}/vfio-dev/noiommu-vfio0");
    assert_eq!(read(&machine, &format!("{class}/dev")), format!("{major}:{minor}\n"));
    assert!(read(&machine, &format!("{class}/uevent")).contains("DEVNAME=vfio/devices/noiommu-vfio0\n"));
    assert!(read(&machine, "/proc/devices").lines().any(|line| line == format!("{major} vfio-dev")));
    assert_eq!(list(&machine, "/dev/vfio/devices"), ["noiommu-vfio0"]);
    assert_eq!(list(&machine, "/sys/class/vfio-dev"), ["noiommu-vfio0"]);
    assert!(exists(&machine, &format!("/sys/kernel/debug/vfio/{EDU}")));
    assert_eq!(machine.stat(Path::new(NODE)).unwrap().mode, 0o600);
    assert_eq!(machine.stat(Path::new("/dev/iommu")).unwrap().mode, 0o660);
}

/// What no kernel does, for programs that look for no other name.
#[test]
fn a_device_without_an_iommu_may_be_called_like_one_behind_an_iommu() {
    let machine = Machine::from_spec(MachineSpec { cdev_name: CdevName::Vfio, ..edu_spec() }).unwrap();
    let names = ["/dev/vfio/devices", "/sys/class/vfio-dev", &format!("{DEVICE}/vfio-dev")];
    assert_eq!(names.map(|folder| list(&machine, folder)), [["vfio0"]; 3]);
    assert_eq!(list(&machine, "/sys/class/vfio"), ["noiommu-0"]);
    let device = open(&machine, "/dev/vfio/devices/vfio0").unwrap();
    let iommufd = open(&machine, "/dev/iommu").unwrap();
    bind_to(&machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    drop((device, iommufd));
    write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap();
    assert_eq!(list(&machine, "/dev/vfio/devices"), [""; 0], "it goes by the same name");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let machine = edu_machine();
    let error = open(&machine, "/etc/passwd").unwrap_err();
    assert_eq!(error.to_string(), "open on /etc/passwd: ENOENT (no such file or object)");
    let error = open(&machine, &format!("{DEVICE}/vendor/x")).unwrap_err();
    assert_eq!(error.errno(), Errno::ENOTDIR);
    assert_eq!(open(&machine, DEVICE).unwrap_err().errno(), Errno::EISDIR);
    assert_eq!(open(&machine, &format!("{DEVICE}/vendor")).unwrap_err().errno(), Errno::EACCES);
}

#[test]
fn registration_taints_and_says_so() {
    let machine = edu_machine();
    assert_eq!(machine.taint().unwrap() & 64, 64);
    assert_eq!(read(&machine, "/proc/sys/kernel/tainted"), format!("{}\n", machine.taint().unwrap()));
    let line = format!("vfio-pci {EDU}: Adding kernel taint for vfio-noiommu cdev");
    assert!(machine.log().contains(&line), "{:?}", machine.log());
}

#[test]
fn without_the_parameter_the_machine_starts_and_the_log_says_why_there_is_no_node() {
    let machine = Machine::from_spec(MachineSpec { unsafe_noiommu_mode: false, ..edu_spec() }).unwrap();
    assert_eq!(read(&machine, PARAMETER), "N\n");
    assert!(!exists(&machine, NODE) && !exists(&machine, &format!("{DEVICE}/driver")));
    let line = format!("vfio-pci {EDU}: probe with driver vfio-pci failed with error -22");
    assert!(machine.log().contains(&line), "{:?}", machine.log());

    write(&machine, PARAMETER, "Y\n").unwrap();
    assert_eq!(read(&machine, PARAMETER), "Y\n");
    assert!(!exists(&machine, NODE), "until the next probe");
    write(&machine, "/sys/bus/pci/drivers_probe", EDU).unwrap();
    assert!(exists(&machine, NODE));

    write(&machine, PARAMETER, "0").unwrap();
    assert!(exists(&machine, NODE), "what is registered stays");
    assert_eq!(write(&machine, PARAMETER, "maybe").unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(machine.stat(Path::new(PARAMETER)).unwrap().mode, 0o644);
}

#[test]
fn the_driver_is_bound_only_where_it_is_named() {
    let mut spec = edu_spec();
    spec.devices[0].driver = Driver::None;
    let machine = Machine::from_spec(spec).unwrap();
    let bind =
        |address: &str| write(&machine, &format!("{DRIVER}/bind"), address).map_err(|error| error.errno());
    assert_eq!(read(&machine, &format!("{DEVICE}/driver_override")), "(null)\n");
    assert_eq!(bind(EDU), Err(Errno::ENODEV));
    write(&machine, &format!("{DEVICE}/driver_override"), "vfio-pci\n").unwrap();
    assert_eq!(bind("0000:09:00.0"), Err(Errno::ENODEV));
    assert_eq!(bind("nonsense"), Err(Errno::ENODEV));
    assert_eq!(bind(EDU), Ok(()));
    assert_eq!(bind(EDU), Err(Errno::EBUSY));
    assert!(exists(&machine, NODE));
}

#[test]
fn attributes_that_are_only_written_cannot_be_read() {
    let machine = edu_machine();
    let bind = format!("{DRIVER}/bind");
    assert_eq!(machine.read(Path::new(&bind)).unwrap_err().errno(), Errno::EACCES);
    let file = machine.open(Path::new(&bind), Access::Write).unwrap();
    assert_eq!(machine.pread(&file, &mut [0; 4], 0).unwrap_err().errno(), Errno::EBADF);
}

#[test]
fn pagemap_tells_frames_to_the_privileged() {
    let spec =
        MachineSpec { capabilities: vec!["CAP_SYS_ADMIN".into(), "CAP_SYS_RAWIO".into()], ..edu_spec() };
    let machine = Machine::from_spec(spec).unwrap();
    let memory = machine
        .allocate(&sys::MemoryOptions { length: 4096, page_size: sys::PageSize::Base, highest: u64::MAX })
        .unwrap();
    let address = memory.start().as_ptr() as usize;
    let entry = |machine: &Machine| {
        let pagemap = machine.open(Path::new("/proc/self/pagemap"), Access::Read).unwrap();
        let mut entry = [0; 8];
        machine.pread(&pagemap, &mut entry, (address / 4096 * 8) as u64).unwrap();
        u64::from_ne_bytes(entry)
    };
    let frame = machine.physical_address(address).unwrap() / 4096;
    assert_eq!(entry(&machine), 1 << 63 | frame);
    let nobody = sys::Creds { capabilities: Vec::new(), memlock: None };
    assert_eq!(machine.as_caller(&nobody, entry).unwrap(), 1 << 63);
}

#[test]
fn others_are_refused_what_takes_a_capability() {
    let machine = edu_machine();
    let nobody = sys::Creds { capabilities: Vec::new(), memlock: Some(0) };
    let error = machine.as_caller(&nobody, |machine| open(machine, NODE).unwrap_err()).unwrap();
    assert_eq!(error.errno(), Errno::EPERM);
    assert!(error.rule().is_some(), "{error}");
    assert!(open(&machine, NODE).is_ok());
    let unknown = sys::Creds { capabilities: vec!["CAP_WHATEVER".into()], memlock: None };
    assert!(machine.as_caller(&unknown, |_| ()).is_err());
}

#[test]
fn a_device_behind_a_port_is_below_it() {
    let text = "[[port]]\naddress = \"0000:00:1c.0\"\nbus = 2\n[[device]]\naddress = \"0000:02:00.0\"\nmodel = \"edu\"\n\
                [[device]]\naddress = \"0000:02:00.1\"\nmodel = \"edu\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    assert_eq!(link(&machine, DEVICE), "../../../devices/pci0000:00/0000:00:1c.0/0000:02:00.0");
    for below in
        ["driver/bind", "subsystem/devices", "iommu_group/type", "vfio-dev/noiommu-vfio0/device/vendor"]
    {
        assert!(exists(&machine, &format!("{DEVICE}/{below}")), "{below}");
    }
    let port = "/sys/bus/pci/devices/0000:00:1c.0";
    assert_eq!(read(&machine, &format!("{port}/class")), "0x060400\n");
    assert!(exists(&machine, &format!("{port}/0000:02:00.1/vendor")));
    let header = |path: &str| machine.read(Path::new(&format!("{path}/config"))).unwrap()[0x0e];
    assert_eq!((header(DEVICE), header(port)), (0x80, 1), "one of several functions, and a bridge");
}

#[test]
fn the_status_of_a_process_tells_what_it_has_pinned() {
    let machine = edu_machine();
    let attached = Attached::new(&machine);
    let vm_pin = |path: &str| {
        let status = read(&machine, path);
        let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).expect("a line");
        line.trim().strip_suffix(" kB").expect("in kB").parse::<u64>().expect("a number")
    };
    let before = vm_pin("/proc/self/status");
    let options = sys::MemoryOptions { length: 3 << 12, page_size: sys::PageSize::Base, highest: u64::MAX };
    let memory = machine.allocate(&options).expect("memory");
    map(&machine, &attached.iommufd, attached.ioas, &memory).expect("mapped");
    assert_eq!(vm_pin("/proc/self/status"), before + 12);
    assert_eq!(vm_pin(&format!("/proc/{}/status", std::process::id())), before + 12);
    assert!(!exists(&machine, "/proc/0/status") && !exists(&machine, "/proc/none/status"));
    assert_eq!(write(&machine, "/proc/self/status", "").unwrap_err().errno(), Errno::EACCES);
}

#[test]
fn capabilities_go_out_of_effect_and_come_back() {
    const SYS_RAWIO: u64 = 1 << 17;
    const SYS_RESOURCE: u64 = 1 << 24;
    let machine = edu_machine();
    let rlimit_mode = || {
        let iommufd = open(&machine, "/dev/iommu").unwrap();
        let mut option = IommuOption { option_id: IOMMU_OPTION_RLIMIT_MODE, val64: 1, ..Command::new() };
        machine.ioctl(&iommufd, &mut option).map_err(|error| error.errno())
    };
    open(&machine, NODE).expect("who has CAP_SYS_RAWIO may open it");
    machine.change_capabilities(0, SYS_RAWIO);
    assert_eq!(open(&machine, NODE).unwrap_err().errno(), Errno::EPERM);
    machine.change_capabilities(SYS_RAWIO | SYS_RESOURCE, 0);
    open(&machine, NODE).expect("it has it again");
    assert_eq!(rlimit_mode(), Err(Errno::EPERM), "the machine does not take it to hold that one");
}
