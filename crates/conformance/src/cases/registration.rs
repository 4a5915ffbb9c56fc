//! REG: what happens when vfio-pci is bound to a device, and what the system shows of a device that is registered.

use std::path::{Path, PathBuf};

use sys::{FileKind, Suite};

use crate::case::{Case, answer, case};
use crate::driver::NOIOMMU_MODE;
use crate::fixture::Fixture;
use crate::outcome::{Got, Outcome, Stop, Way};

/// The class of devices that have a device file.
const CLASS: &str = "/sys/class/vfio-dev";

/// The log line about a device file without an IOMMU.
const TAINT: &str = "Adding kernel taint for vfio-noiommu cdev";

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = parameter();
    cases.extend(said());
    cases.extend(indices());
    cases.extend(mixed());
    cases.extend(shown());
    cases
}

/// What the module parameter decides.
fn parameter<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-001", |f| {
            let address = f.address()?;
            let _parameter = f.noiommu_mode(true)?;
            let driver = f.driver(address);
            driver.unbind()?;
            driver.bind()?;
            let name = f.cdev_name(address)?;
            let kind = f.sys.stat(&f.cdev_path(address)?)?.kind;
            let right = is_noiommu(&name) && matches!(kind, FileKind::CharDevice { .. });
            Ok(Got::truth("a character device", (name, kind), right))
        }),
        case("B-025", |f| {
            let address = f.address()?;
            let _parameter = f.noiommu_mode(true)?;
            let driver = f.driver(address);
            driver.unbind()?;
            let mark = f.sys.log_mark()?;
            driver.bind()?;
            let (name, lines) = (f.cdev_name(address)?, f.sys.log_since(mark)?);
            let tainted = lines.iter().any(|line| line.contains(TAINT));
            let right = !is_noiommu(&name) && !tainted;
            Ok(Got::truth("vfio<idx>, and no taint", (name, lines), right))
        }),
        case("B-004", |f| {
            let driver = f.driver(f.address()?);
            let _parameter = f.noiommu_mode(false)?;
            driver.unbind()?;
            answer(driver.bind().map(|()| 0u32))
        }),
        case("B-006", |f| {
            let address = f.address()?;
            let node = f.cdev_path(address)?;
            let driver = f.driver(address);
            let parameter = f.noiommu_mode(false)?;
            driver.unbind()?;
            let refused = driver.bind();
            parameter.set(true)?;
            let absent = !f.exists(&node)? && !f.exists(&f.sysfs(address).join("vfio-dev"))?;
            driver.bind()?;
            Ok(Got::all([
                Got::truth("the first probe fails", &refused, refused.is_err()),
                Got::truth("no node", absent, absent),
                Got::truth("a node after the second probe", &node, f.exists(&node)?),
            ]))
        }),
        case("B-007", |f| {
            let address = f.address()?;
            let _parameter = f.noiommu_mode(false)?;
            let iommufd = f.iommufd()?;
            let device = f.open_at(address)?;
            let ioas = f.ioas(&iommufd)?;
            answer(f.bind(&device, &iommufd).and_then(|_| f.attach(&device, ioas)).map(|_| 0u32))
        }),
        case("B-022", |f| Ok(Got::equal(0o644, f.sys.stat(Path::new(NOIOMMU_MODE))?.mode))),
        case("B-593", |f| {
            let tables = ["DMAR", "IVRS"].map(|table| Path::new("/sys/firmware/acpi/tables").join(table));
            let present = f.exists(&tables[0])? || f.exists(&tables[1])?;
            let options = f.text(Path::new("/proc/cmdline")).unwrap_or_default();
            if !present || !options.contains("iommu=off") {
                return Err(Stop::NotApplicable("needs an IOMMU that was switched off at boot".into()));
            }
            let name = f.cdev_name(f.address()?)?;
            Ok(Got::truth("noiommu-vfio<idx>", &name, is_noiommu(&name)))
        }),
        case("B-027", |f| {
            const HEADER_TYPE: usize = 0x0e;
            for address in f.sys.read_dir(Path::new("/sys/bus/pci/devices"))? {
                let header = f.real_config::<16>(&address, 0)?[HEADER_TYPE] & 0x7f;
                if header != 0 && !f.exists(&f.sysfs(&address).join("driver"))? {
                    return bind_bridge(f, &address);
                }
            }
            Err(Stop::NotApplicable("needs a bridge without a driver".into()))
        }),
    ]
}

/// What registration leaves in the log and in the kernel's taint flags.
fn said<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-008", |f| {
            let taint = f.sys.taint()?;
            Ok(Got::truth("bit 6", taint, taint & 64 != 0))
        }),
        case("B-010", |f| {
            let address = f.address()?;
            f.cdev_path(address)?;
            let driver = f.driver(address);
            driver.unbind()?;
            let mark = f.sys.log_mark()?;
            driver.bind()?;
            let lines = f.sys.log_since(mark)?;
            let said = lines.iter().any(|line| line.contains(address) && line.contains(TAINT));
            Ok(Got::truth(TAINT, lines, said))
        }),
        case("B-013", |f| {
            let mark = f.sys.log_mark()?;
            f.bound_at(f.address()?)?;
            let lines = f.sys.log_since(mark)?;
            let said = lines.iter().any(|line| line.contains("opened by user") || line.contains("taint"));
            Ok(Got::truth("no warning", lines, !said))
        }),
    ]
}

/// The numbers in the names.
fn indices<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-015", |f| {
            let drivers: Vec<_> = f.target.devices.iter().map(|address| f.driver(address)).collect();
            for driver in &drivers {
                driver.unbind()?;
            }
            if !f.sys.read_dir(Path::new(CLASS))?.is_empty() {
                return Err(Stop::NotApplicable("devices that were not named stay registered".into()));
            }
            let first = f.address()?;
            f.driver(first).bind()?;
            Ok(Got::equal(0, index(&f.cdev_name(first)?)?))
        }),
        case("B-016", |f| {
            let mut devices = Vec::new();
            for address in &f.target.devices {
                devices.push((index(&f.cdev_name(address)?)?, address.as_str()));
            }
            devices.sort_unstable();
            let [(0, zero), (1, _), (_, other), ..] = devices[..] else {
                return Err(Stop::NotApplicable(
                    "needs three devices, two of them with index 0 and 1".into(),
                ));
            };
            let (zero, other_driver) = (f.driver(zero), f.driver(other));
            zero.unbind()?;
            other_driver.unbind()?;
            other_driver.bind()?;
            Ok(Got::equal(0, index(&f.cdev_name(other)?)?))
        }),
        case("B-018", |f| {
            f.cdev_path(f.address()?)?;
            let name = f.cdev_name(f.address()?)?;
            let attribute = f.text(&Path::new(CLASS).join(&name).join("dev"))?;
            let FileKind::CharDevice { major, minor } = f.sys.stat(&node(&name))?.kind else {
                return Err(Stop::Broken(format!("{name} is no character device")));
            };
            let index = index(&name)?;
            Ok(Got::equal((format!("{major}:{index}"), index), (attribute, minor)))
        }),
    ]
}

/// Devices with and without an IOMMU on one system.
fn mixed<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-017", |f| {
            let names = f.sys.read_dir(Path::new(CLASS))?;
            let mut indices = names.iter().map(|name| index(name)).collect::<Way<Vec<_>>>()?;
            indices.sort_unstable();
            indices.dedup();
            Ok(Got::truth("no index twice", &names, indices.len() == names.len()))
        }),
        case("B-594", |f| {
            let mut wrong = Vec::new();
            for address in &f.target.devices {
                let name = f.cdev_name(address)?;
                if is_noiommu(&name) != f.is_noiommu(address)? {
                    wrong.push(name);
                }
            }
            Ok(Got::equal(Vec::<String>::new(), wrong))
        }),
    ]
}

/// What `/sys`, `/dev` and `/proc` show.
fn shown<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-019", |f| {
            let address = f.address()?;
            f.cdev_path(address)?;
            let name = f.cdev_name(address)?;
            let place = f.sys.read_link(&Path::new(CLASS).join(&name))?;
            let below = Path::new(address).join("vfio-dev").join(&name);
            Ok(Got::truth(below.display(), &place, is_noiommu(&name) && place.ends_with(&below)))
        }),
        case("B-026", |f| {
            let address = f.address()?;
            let info = f.sys.fdinfo(&f.open_at(address)?)?;
            let link = f.sys.read_link(&f.sysfs(address))?;
            let place = link.display().to_string();
            let line = format!("vfio-device-syspath: /sys/{}", place.trim_start_matches("../"));
            let there = info.lines().any(|it| it == line);
            Ok(Got::truth(line, info, there))
        }),
        case("B-589", |f| {
            f.cdev_path(f.address()?)?;
            let name = f.cdev_name(f.address()?)?;
            let uevent = f.text(&Path::new(CLASS).join(&name).join("uevent"))?;
            let line = format!("DEVNAME=vfio/devices/{name}");
            let there = is_noiommu(&name) && uevent.lines().any(|it| it == line);
            Ok(Got::truth(line, uevent, there))
        }),
        case("B-591", |f| {
            f.needs_path(Path::new("/dev/vfio/vfio"), "containers")?;
            if f.exists(Path::new("/run/udev/control"))? {
                return Err(Stop::NotApplicable("udev changes the modes".into()));
            }
            let nodes = [
                f.cdev_path(f.address()?)?,
                f.group_path(f.address()?)?,
                "/dev/vfio/vfio".into(),
                "/dev/iommu".into(),
            ];
            let modes = nodes.iter().map(|node| Ok(f.sys.stat(node)?.mode)).collect::<Way<Vec<_>>>()?;
            Ok(Got::truth("600 600 666 660", &modes, modes == [0o600, 0o600, 0o666, 0o660]))
        }),
        case("B-595", |f| {
            f.needs_path(Path::new("/sys/kernel/debug/vfio"), "VFIO's part of debugfs")?;
            let folder = Path::new("/sys/kernel/debug/vfio").join(f.address()?);
            Ok(Got::equal(FileKind::Directory, f.sys.stat(&folder)?.kind))
        }),
    ]
}

/// Binds vfio-pci to a bridge that has no driver.
fn bind_bridge<S: Suite>(f: &Fixture<S>, address: &str) -> Outcome {
    let only = f.sysfs(address).join("driver_override");
    f.sys.write(&only, b"vfio-pci")?;
    let bound = f.sys.write(Path::new("/sys/bus/pci/drivers/vfio-pci/bind"), address.as_bytes());
    f.sys.write(&only, b"\n")?;
    answer(bound.map(|()| 0u32))
}

fn node(name: &str) -> PathBuf {
    Path::new("/dev/vfio/devices").join(name)
}

fn is_noiommu(name: &str) -> bool {
    name.starts_with("noiommu-vfio") && index(name).is_ok()
}

/// The number in a name.
fn index(name: &str) -> Way<u32> {
    let number = name.trim_start_matches("noiommu-").strip_prefix("vfio").and_then(|text| text.parse().ok());
    number.ok_or_else(|| Stop::Broken(format!("{name} has no index")))
}
