//! Virtual functions: made and taken away through sysfs, opened with the token of their physical one.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use machine::{DeviceSpec, Driver, File, Iommu, IommuSpec, Machine, MachineSpec, ModelSpec};
use sys::Sys;
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::common::*;
use crate::container::{
    device_fd, group_node, open_container, open_device, open_group, set_container, sysfs,
};

const PHYSICAL: &str = "0000:01:00.0";
const VIRTUAL: [&str; 3] = ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"];
const PARAMETER: &str = "/sys/module/vfio_pci/parameters/enable_sriov";

const ONE: [u8; 16] = [0x11; 16];
const OTHER: [u8; 16] = [0x22; 16];
/// [`ONE`], behind the name of a device.
const OPTION: &str = " vf_token=11111111-1111-1111-1111-111111111111";

/// An Ethernet controller that can have three virtual functions, and a device that can have none.
fn spec() -> MachineSpec {
    let igb = DeviceSpec { vfs: 3, ..DeviceSpec::new(PHYSICAL.parse().unwrap(), ModelSpec::Igb).inline() };
    let edu = DeviceSpec::new("0000:02:00.0".parse().unwrap(), ModelSpec::Edu).inline();
    let iommu = Iommu::Translating(IommuSpec::default());
    MachineSpec { iommu, devices: vec![igb, edu], ..MachineSpec::default() }
}

fn machine() -> Machine {
    Machine::from_spec(spec()).unwrap()
}

fn set_count(machine: &Machine, text: &str) -> Result<(), Errno> {
    write(machine, &format!("{}/sriov_numvfs", sysfs(PHYSICAL)), text).map_err(|error| error.errno())
}

fn count(machine: &Machine) -> String {
    read(machine, &format!("{}/sriov_numvfs", sysfs(PHYSICAL)))
}

/// Opens a device by its own node, and binds it with a token.
fn bound(machine: &Machine, address: &str, token: Option<[u8; 16]>) -> Result<(File, File), Errno> {
    let (device, iommufd) = (open_device(machine, address).unwrap(), open(machine, "/dev/iommu").unwrap());
    let mut bind = VfioDeviceBindIommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..Command::new() };
    if let Some(token) = &token {
        bind.flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
        bind.token_uuid_ptr = token.as_ptr() as u64;
    }
    // SAFETY: the address is that of the token, which is only read.
    unsafe { machine.ioctl_typed(&device, &mut bind) }.map_err(|error| error.errno())?;
    Ok((device, iommufd))
}

#[test]
fn virtual_functions_appear_and_go() {
    let machine = machine();
    let physical = sysfs(PHYSICAL);
    let before = machine.read_dir(Path::new("/sys/bus/pci/devices")).unwrap();
    let attributes = ["sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_vf_device"];
    let texts = attributes.map(|name| read(&machine, &format!("{physical}/{name}")));
    assert_eq!(texts, ["3\n", "0\n", "128\n", "2\n", "10ca\n"]);
    assert!(!exists(&machine, "/sys/bus/pci/devices/0000:02:00.0/sriov_totalvfs"));

    set_count(&machine, "2\n").unwrap();
    assert_eq!(count(&machine), "2\n");
    for (index, address) in VIRTUAL.iter().enumerate() {
        let made = index < 2;
        assert_eq!(exists(&machine, &sysfs(address)), made, "{address}");
        assert_eq!(exists(&machine, &format!("{physical}/virtfn{index}/vendor")), made);
        if made {
            let text = |name: &str| read(&machine, &format!("{physical}/virtfn{index}/{name}"));
            assert_eq!((text("vendor"), text("device")), ("0x8086\n".into(), "0x10ca\n".into()));
            assert_eq!(text("driver_override"), "vfio-pci\n");
            let link =
                |name: &str| machine.read_link(Path::new(&format!("{}/{name}", sysfs(address)))).unwrap();
            assert_eq!(link("physfn"), Path::new(&format!("../{PHYSICAL}")));
            assert!(link("driver").ends_with("drivers/vfio-pci"));
        }
    }
    let groups = [PHYSICAL, VIRTUAL[0], VIRTUAL[1]].map(|address| group_node(&machine, address));
    assert!(groups[0] != groups[1] && groups[1] != groups[2], "each is in a group of its own: {groups:?}");
    let captured = "vfio-pci 0000:01:00.0: Captured SR-IOV VF 0000:01:10.0 driver_override";
    assert!(machine.log().iter().any(|line| line.contains(captured)));
    assert_eq!(machine.usage().devices, 4);

    set_count(&machine, "0").unwrap();
    assert_eq!(machine.read_dir(Path::new("/sys/bus/pci/devices")).unwrap(), before);
    assert!(!exists(&machine, &format!("{physical}/virtfn0")) && !exists(&machine, &groups[1]));
    assert_eq!((machine.usage().devices, &*count(&machine)), (2, "0\n"));
    set_count(&machine, "0x3").unwrap();
    assert!(exists(&machine, &sysfs(VIRTUAL[2])));
}

#[test]
fn numbers_that_cannot_be_had_are_refused() {
    let machine = machine();
    for (text, errno) in
        [("4", Errno::ERANGE), ("300", Errno::ERANGE), ("70000", Errno::EINVAL), ("x", Errno::EINVAL)]
    {
        assert_eq!(set_count(&machine, text), Err(errno), "{text}");
    }
    write(&machine, PARAMETER, "0").unwrap();
    assert_eq!((set_count(&machine, "1"), &*read(&machine, PARAMETER)), (Err(Errno::ENOENT), "N\n"));
    write(&machine, PARAMETER, "1").unwrap();
    set_count(&machine, "1").unwrap();
    assert_eq!(set_count(&machine, "1"), Ok(()), "it is so already");
    assert_eq!(set_count(&machine, "2"), Err(Errno::EBUSY));
    write(&machine, PARAMETER, "0").unwrap();
    assert_eq!(["2", "0"].map(|text| set_count(&machine, text)), [Err(Errno::EBUSY), Err(Errno::ENOENT)]);
    write(&machine, PARAMETER, "1").unwrap();
    let said = |text: &str| machine.log().iter().any(|line| line.contains(text));
    assert!(said("1 VFs already enabled. Disable before enabling 2 VFs"));
    assert_eq!(count(&machine), "1\n");

    write(&machine, &format!("{DRIVER}/unbind"), PHYSICAL).unwrap();
    assert!(!exists(&machine, &sysfs(VIRTUAL[0])), "they go before the driver does");
    assert_eq!(set_count(&machine, "1"), Err(Errno::ENOENT));
    assert!(said("pci 0000:01:00.0: no driver bound to device; cannot configure SR-IOV"));

    let mut spec = spec();
    spec.devices[0].driver = Driver::Host("igb".into());
    let machine = Machine::from_spec(spec).unwrap();
    assert_eq!(set_count(&machine, "1"), Err(Errno::ENOENT));
    let line = "igb 0000:01:00.0: driver does not support SR-IOV configuration via sysfs";
    assert!(machine.log().iter().any(|it| it.contains(line)));
}

/// By their own nodes: with the token of the physical function, which stays when that is closed, and can be changed.
#[test]
fn a_virtual_function_is_bound_with_the_token() {
    let machine = machine();
    set_count(&machine, "1").unwrap();
    let (physical, _context) = bound(&machine, PHYSICAL, Some(ONE)).unwrap();
    assert_eq!(bound(&machine, VIRTUAL[0], None).err(), Some(Errno::EACCES));
    assert_eq!(bound(&machine, VIRTUAL[0], Some(OTHER)).err(), Some(Errno::EACCES));
    drop(bound(&machine, VIRTUAL[0], Some(ONE)).unwrap());

    let words = [24, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN | VFIO_DEVICE_FEATURE_SET].map(u32::to_le_bytes);
    let mut argument = [&words.concat()[..], &OTHER].concat();
    // SAFETY: the argument is as long as it says, and holds no address.
    unsafe { machine.ioctl_raw(physical.as_fd(), VFIO_DEVICE_FEATURE, argument.as_mut_ptr().cast()) }
        .unwrap();
    drop(physical);
    assert_eq!(bound(&machine, VIRTUAL[0], Some(ONE)).err(), Some(Errno::EACCES));
    let opened = bound(&machine, VIRTUAL[0], Some(OTHER)).unwrap();
    assert_eq!(bound(&machine, PHYSICAL, None).err(), Some(Errno::EACCES), "a virtual function is open");
    drop(opened);
    bound(&machine, PHYSICAL, None).unwrap();
}

/// By their groups: the token stands behind the name.
#[test]
fn a_group_gives_out_a_virtual_function_for_the_token() {
    let machine = machine();
    set_count(&machine, "1").unwrap();
    let container = open_container(&machine);
    let groups = [PHYSICAL, VIRTUAL[0]].map(|address| {
        let group = open_group(&machine, address).unwrap();
        set_container(&machine, &group, &container).unwrap();
        group
    });
    crate::container::set_iommu(&machine, &container, VFIO_TYPE1v2_IOMMU).unwrap();
    let ask = |group: &File, name: &str| device_fd(&machine, group, name).map_err(|error| error.errno());
    let physical = ask(&groups[0], &format!("{PHYSICAL}{OPTION}")).unwrap();
    assert_eq!(ask(&groups[1], VIRTUAL[0]).err(), Some(Errno::EACCES));
    let opened = ask(&groups[1], &format!("{}{OPTION}", VIRTUAL[0])).unwrap();
    drop(physical);
    assert_eq!(ask(&groups[0], PHYSICAL).err(), Some(Errno::EACCES));
    drop(opened);
    ask(&groups[0], PHYSICAL).unwrap();
}

#[test]
fn a_virtual_function_has_registers_and_configuration_space_of_its_own() {
    let spec = MachineSpec { capabilities: vec!["CAP_SYS_ADMIN".into()], ..spec() };
    let machine = Machine::from_spec(spec).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let config = || machine.read(Path::new(&format!("{}/config", sysfs(PHYSICAL)))).unwrap();
    let (off, resource) = (config(), read(&machine, &format!("{}/resource", sysfs(PHYSICAL))));
    assert_eq!((word(&off, 0x100), word(&off, 0x10c)), (0x0001_0010, 0x0003_0003));
    assert_eq!((word(&off, 0x108), word(&off, 0x110)), (0, 0));
    set_count(&machine, "2").unwrap();
    let on = config();
    assert_eq!((word(&on, 0x108), word(&on, 0x110) & 0xffff), (0b1001, 2));

    // The BARs of virtual functions are one behind the other, where the physical one says.
    let base = u64::from(word(&on, 0x124) & !0xf) | u64::from(word(&on, 0x128)) << 32;
    assert!(resource.lines().nth(7).unwrap().starts_with(&format!("{base:#018x} {:#018x}", base + 0xbfff)));
    for (address, at) in VIRTUAL.iter().zip([base, base + 0x4000]) {
        let resource = read(&machine, &format!("{}/resource", sysfs(address)));
        assert!(resource.starts_with(&format!("{at:#018x}")), "{address}: {resource}");
    }

    let _physical = bound(&machine, PHYSICAL, Some(ONE)).unwrap();
    let opened = [VIRTUAL[0], VIRTUAL[1]].map(|address| bound(&machine, address, Some(ONE)).unwrap());
    let bars = opened.each_ref().map(|(device, _)| bar(&machine, device, 0x4000));
    bars[0].write32(0x100, 0x1234_5678);
    assert_eq!(bars.each_ref().map(|bar| bar.read32(0x100)), [0x1234_5678, 0]);
    let command = region(&machine, &opened[0].0, VFIO_PCI_CONFIG_REGION_INDEX).offset + 4;
    machine.pwrite(&opened[0].0, &[0, 0], command).unwrap();
    assert_eq!(bars[0].read32(0x100), 0x1234_5678, "no bit there switches its memory off");
    // SAFETY: there is no argument.
    unsafe { machine.ioctl_raw(opened[0].0.as_fd(), VFIO_DEVICE_RESET, std::ptr::null_mut()) }.unwrap();
    assert_eq!(bars[0].read32(0x100), 0);
}

/// While a virtual function is open, whoever takes it away waits; a rescan of the bus finds none that was taken away.
#[test]
fn taking_away_waits_for_the_last_file() {
    let machine = machine();
    set_count(&machine, "1").unwrap();
    let (device, _context) = {
        drop(bound(&machine, PHYSICAL, Some(ONE)).unwrap());
        bound(&machine, VIRTUAL[0], Some(ONE)).unwrap()
    };
    let (done, answer) = mpsc::channel();
    let other = machine.clone();
    thread::spawn(move || done.send(set_count(&other, "0")));
    while exists(&machine, &format!("{}/vfio-dev/vfio2", sysfs(VIRTUAL[0]))) {
        thread::yield_now();
    }
    assert!(answer.recv_timeout(Duration::from_millis(50)).is_err(), "it is still open");
    drop(device);
    answer.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    write(&machine, "/sys/bus/pci/rescan", "1").unwrap();
    assert!(!exists(&machine, &sysfs(VIRTUAL[0])));

    // One that is taken off the bus by itself does not come back with the others.
    set_count(&machine, "2").unwrap();
    write(&machine, &format!("{}/remove", sysfs(VIRTUAL[0])), "1").unwrap();
    write(&machine, "/sys/bus/pci/rescan", "1").unwrap();
    assert_eq!([0, 1].map(|it| exists(&machine, &sysfs(VIRTUAL[it]))), [false, true]);
    write(&machine, &format!("{}/remove", sysfs(PHYSICAL)), "1").unwrap();
    assert_eq!(machine.usage().devices, 1);
    write(&machine, "/sys/bus/pci/rescan", "1").unwrap();
    assert_eq!((exists(&machine, &sysfs(PHYSICAL)), exists(&machine, &sysfs(VIRTUAL[1]))), (true, false));
}

#[test]
fn without_an_iommu_they_are_devices_without_an_iommu() {
    let machine = Machine::from_spec(MachineSpec { iommu: Iommu::None, ..spec() }).unwrap();
    set_count(&machine, "1").unwrap();
    let names = machine.read_dir(Path::new(&format!("{}/vfio-dev", sysfs(VIRTUAL[0])))).unwrap();
    assert_eq!(names, ["noiommu-vfio2"]);
    set_count(&machine, "0").unwrap();
    assert_eq!(machine.usage().groups, 2);
}
