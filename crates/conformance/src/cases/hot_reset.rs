//! PCIINFO: the reset of a bus, for which whoever asks must have every device on it.

use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use sys::{Result, Suite};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::call::{CLOSED, ioctl_bytes, ioctl_value};
use crate::case::{Case, answer, case};
use crate::fixture::{Bound, Fixture};
use crate::group::Container;
use crate::outcome::{Got, Outcome, Stop, Way};

/// Devices are told by their ids, and all of them are the caller's.
const OWNED: u32 = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;

/// Room for as many devices as a bus can have functions of one device.
const ROOM: usize = 8;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = arguments();
    cases.extend(alone());
    cases.extend(siblings());
    cases.extend(siblings_of_a_group());
    cases.extend(through_groups());
    cases
}

fn arguments<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-171", |f| answer(info_sized(f, &f.bound_at(on_root_bus(f)?)?.device, 12))),
        case("B-172", |f| answer(info_sized(f, &f.bound_at(behind_port(f)?)?.device, 12))),
        case("B-173", |f| answer(info_sized(f, &f.bound()?.device, 11))),
        case("B-177", |f| answer(reset(f, &f.bound()?.device, &[CLOSED]))),
        case("B-181", |f| {
            let mut flagged = VfioPciHotReset { flags: 1, ..VfioPciHotReset::new() };
            answer(f.call(&f.bound()?.device, &mut flagged))
        }),
    ]
}

/// A device that has its bus to itself.
fn alone<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-174", |f| {
            let Bound { device, iommufd: _iommufd, devid } = f.bound_at(alone_behind_port(f)?)?;
            let Info { flags, devices } = info(f, &device)?;
            let ids = devices.iter().map(|device| device.devid).collect();
            Ok(Got::equal((OWNED, vec![devid]), (flags, ids)))
        }),
        case("B-628", |f| {
            let address = alone_behind_port(f)?;
            needs_stalling_port(f, address)?;
            let Bound { device, iommufd: _iommufd, .. } = f.bound_at(address)?;
            let refused = reset(f, &device, &[]);
            let usable = f.config_read::<4>(&device, 0)? != [0xff; 4];
            Ok(Got::from(refused).provided(Got::truth("the device answers", usable, usable)))
        }),
    ]
}

/// Two functions behind a port. Each is the whole of its group.
fn siblings<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-175", |f| {
            let (bound, (first, sibling)) = with_sibling(f)?;
            let info = info(f, &bound.device)?;
            Ok(Got::equal(
                (VFIO_PCI_HOT_RESET_FLAG_DEV_ID, [Some(bound.devid), Some(VFIO_PCI_DEVID_NOT_OWNED)]),
                (info.flags, [info.id_of(first), info.id_of(sibling)]),
            ))
        }),
        case("B-176", |f| {
            let (bound, (_, sibling)) = with_sibling(f)?;
            let other = f.open_at(sibling)?;
            f.bind(&other, &bound.iommufd)?;
            Ok(Got::equal(OWNED, info(f, &bound.device)?.flags))
        }),
        case("B-182", |f| {
            let (bound, _) = with_sibling(f)?;
            answer(reset(f, &bound.device, &[]))
        }),
        case("B-627", |f| {
            let (bound, (_, sibling)) = with_sibling(f)?;
            let other = f.open_at(sibling)?;
            f.bind(&other, &bound.iommufd)?;
            needs_slow_port(f, sibling)?;
            answer(reset(f, &bound.device, &[]))
        }),
        case("B-629", |f| {
            let (bound, (_, sibling)) = with_sibling(f)?;
            let _other = f.bound_at(sibling)?;
            let info = info(f, &bound.device)?;
            let expected = (VFIO_PCI_HOT_RESET_FLAG_DEV_ID, Some(VFIO_PCI_DEVID_NOT_OWNED));
            Ok(Got::equal(expected, (info.flags, info.id_of(sibling))))
        }),
        case("B-630", |f| {
            let (bound, (_, sibling)) = with_sibling(f)?;
            let _other = f.bound_at(sibling)?;
            answer(reset(f, &bound.device, &[]))
        }),
    ]
}

/// Two functions behind a port and in one group: whoever has one has both.
fn siblings_of_a_group<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-631", |f| {
            let (bound, (first, sibling)) = with_sibling(f)?;
            needs_one_group(f, first, sibling)?;
            let info = info(f, &bound.device)?;
            Ok(Got::equal((OWNED, Some(VFIO_PCI_DEVID_OWNED)), (info.flags, info.id_of(sibling))))
        }),
        case("B-632", |f| {
            let (bound, (first, sibling)) = with_sibling(f)?;
            needs_one_group(f, first, sibling)?;
            needs_slow_port(f, sibling)?;
            answer(reset(f, &bound.device, &[]))
        }),
    ]
}

/// Device files of groups: who asks shows the groups of all devices.
fn through_groups<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-323", |f| {
            let address = behind_port(f)?;
            let mut told = Vec::new();
            for container in f.containers()? {
                let joined = f.usable(address, container)?;
                let info = info(f, &joined.device()?)?;
                told.push((info.flags, info.id_of(address)));
            }
            Ok(Got::equal(vec![(0, Some(f.group_number(address)?)); told.len()], told))
        }),
        case("B-178", |f| grouped(f, f.address()?, &[])),
        case("B-179", |f| {
            let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            grouped(f, behind_port(f)?, &[null.as_raw_fd()])
        }),
        case("B-180", |f| grouped(f, behind_port(f)?, &[CLOSED])),
        case("B-633", |f| grouped(f, on_root_bus(f)?, &[CLOSED])),
        case("B-634", |f| grouped(f, on_root_bus(f)?, &[])),
    ]
}

/// What `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO` tells.
struct Info {
    flags: u32,
    devices: Vec<VfioPciDependentDevice>,
}

impl Info {
    /// The id of the device with an address.
    fn id_of(&self, address: &str) -> Option<u32> {
        let place = |it: &VfioPciDependentDevice| {
            let VfioPciDependentDevice { segment, bus, devfn, .. } = *it;
            format!("{segment:04x}:{bus:02x}:{:02x}.{}", devfn >> 3, devfn & 7)
        };
        self.devices.iter().find(|it| place(it) == address).map(|it| it.devid)
    }
}

fn info<S: Suite>(f: &Fixture<S>, device: &S::File) -> Result<Info> {
    #[derive(FromBytes, IntoBytes)]
    #[repr(C)]
    struct Whole {
        info: VfioPciHotResetInfo,
        devices: [VfioPciDependentDevice; ROOM],
    }
    let argsz = size_of::<Whole>() as u32;
    let info = VfioPciHotResetInfo { argsz, ..VfioPciHotResetInfo::new() };
    let mut whole = Whole { info, devices: Default::default() };
    ioctl_value(f.sys, device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &mut whole)?;
    let devices = whole.devices.into_iter().take(whole.info.count as usize).collect();
    Ok(Info { flags: whole.info.flags, devices })
}

fn info_sized<S: Suite>(f: &Fixture<S>, device: &S::File, argsz: u32) -> Result<u32> {
    f.call(device, &mut VfioPciHotResetInfo { argsz, ..VfioPciHotResetInfo::new() })
}

/// `VFIO_DEVICE_PCI_HOT_RESET` with the files of groups.
fn reset<S: Suite>(f: &Fixture<S>, device: &S::File, groups: &[RawFd]) -> Result<u32> {
    let argsz = (size_of::<VfioPciHotReset>() + size_of_val(groups)) as u32;
    let mut argument = VfioPciHotReset { argsz, flags: 0, count: groups.len() as u32 }.as_bytes().to_vec();
    argument.extend(groups.as_bytes());
    ioctl_bytes(f.sys, device, VFIO_DEVICE_PCI_HOT_RESET, &mut argument)
}

/// The reset by a device file that a group has given out.
fn grouped<S: Suite>(f: &Fixture<S>, address: &str, groups: &[RawFd]) -> Outcome {
    let joined = f.usable(address, Container::Native)?;
    answer(reset(f, &joined.device()?, groups))
}

/// The name of what a device is attached to: a root bus (`pci0000:00`) or the address of a port.
fn parent<S: Suite>(f: &Fixture<S>, address: &str) -> Way<String> {
    let place = f.sys.read_link(&f.sysfs(address))?;
    let parent = place.parent().and_then(|parent| parent.file_name());
    Ok(parent.unwrap_or_default().to_string_lossy().into_owned())
}

fn on_root_bus<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<&'a str> {
    find(f, |parent| parent.starts_with("pci"), "directly on a root bus")
}

fn behind_port<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<&'a str> {
    find(f, |parent| !parent.starts_with("pci"), "behind a port")
}

fn find<'a, S: Suite>(f: &Fixture<'a, S>, right: fn(&str) -> bool, place: &str) -> Way<&'a str> {
    for address in &f.target.devices {
        if right(&parent(f, address)?) {
            return Ok(address);
        }
    }
    Err(Stop::NotApplicable(format!("no device that was named is {place}")))
}

/// A device that has the bus behind a port to itself.
fn alone_behind_port<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<&'a str> {
    for address in &f.target.devices {
        let parent = parent(f, address)?;
        if parent.starts_with("pci") {
            continue;
        }
        let entries = f.sys.read_dir(&f.sysfs(&parent))?;
        if entries.iter().filter(|name| name.matches(':').count() == 2 && !name.contains("pcie")).count() == 1
        {
            return Ok(address);
        }
    }
    Err(Stop::NotApplicable("needs a device alone behind a port".into()))
}

/// Two functions of one device behind a port.
fn sibling_addresses<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(&'a str, &'a str)> {
    let devices = &f.target.devices;
    let slot = |address: &'a str| address.rsplit_once('.').map(|(slot, _)| slot);
    for (index, first) in devices.iter().enumerate() {
        let sibling = devices.iter().skip(index + 1).find(|other| slot(other) == slot(first));
        if let Some(sibling) = sibling.filter(|_| parent(f, first).is_ok_and(|it| !it.starts_with("pci"))) {
            return Ok((first, sibling));
        }
    }
    Err(Stop::NotApplicable("needs two functions of one device behind a port".into()))
}

/// The first of two functions behind a port, bound, and the addresses of both.
fn with_sibling<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(Bound<S>, (&'a str, &'a str))> {
    let (first, sibling) = sibling_addresses(f)?;
    Ok((f.bound_at(first)?, (first, sibling)))
}

fn needs_one_group<S: Suite>(f: &Fixture<S>, first: &str, second: &str) -> Way<()> {
    if f.group_number(first)? == f.group_number(second)? {
        return Ok(());
    }
    Err(Stop::NotApplicable("each function is in a group of its own".into()))
}

/// QEMU's faster ports do not report their link as up again after a reset, and the reset then fails.
fn needs_slow_port<S: Suite>(f: &Fixture<S>, address: &str) -> Way<()> {
    match port_speed(f, address)? {
        (_, true) => Ok(()),
        (speed, false) => {
            Err(Stop::NotApplicable(format!("needs a port of at most 5 GT/s, this one has {speed}")))
        }
    }
}

/// The opposite: one of QEMU's faster ports, with an NVMe controller behind it. With a network card the link comes back.
fn needs_stalling_port<S: Suite>(f: &Fixture<S>, address: &str) -> Way<()> {
    /// Red Hat's vendor id, and the id of the port.
    const QEMU_PORT: [u8; 4] = [0x36, 0x1b, 0x0c, 0x00];
    const NVME_CLASS: [u8; 3] = [0x02, 0x08, 0x01];
    let (_, slow) = port_speed(f, address)?;
    let known =
        f.real_config(&parent(f, address)?, 0)? == QEMU_PORT && f.real_config(address, 9)? == NVME_CLASS;
    if slow || !known {
        return Err(Stop::NotApplicable(
            "needs an NVMe controller behind a fast port that QEMU emulates".into(),
        ));
    }
    Ok(())
}

/// The speed of the port that a device is behind, and whether that is at most 5 GT/s.
fn port_speed<S: Suite>(f: &Fixture<S>, address: &str) -> Way<(String, bool)> {
    let speed = f.text(&f.sysfs(&parent(f, address)?).join("max_link_speed"))?;
    let slow = ["2.5 GT/s", "5.0 GT/s"].iter().any(|slow| speed.starts_with(slow));
    Ok((speed, slow))
}
