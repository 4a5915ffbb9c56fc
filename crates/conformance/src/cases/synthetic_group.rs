//! REG: the groups that VFIO makes up for devices without an IOMMU, and kernels that are built without them.

use std::path::Path;

use sys::{FileKind, Suite};

use crate::case::{Case, answer, case};
use crate::driver::NOIOMMU_MODE;
use crate::fixture::Fixture;
use crate::group::Container;
use crate::outcome::{Got, Stop, Way};

/// The log lines about a group and about a device file without an IOMMU.
const GROUP_TAINT: &str = "Adding kernel taint for vfio-noiommu group";
const CDEV_TAINT: &str = "Adding kernel taint for vfio-noiommu cdev";

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = groups();
    cases.extend(said());
    cases.extend(without_groups());
    cases
}

fn groups<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-002", |f| {
            needs_groups(f)?;
            let address = f.address()?;
            let driver = f.driver(address);
            driver.unbind()?;
            driver.bind()?;
            let node = f.group_path(address)?;
            let kind = f.sys.stat(&node)?.kind;
            let right = node.to_string_lossy().starts_with("/dev/vfio/noiommu-")
                && matches!(kind, FileKind::CharDevice { .. });
            Ok(Got::truth("/dev/vfio/noiommu-<id>", (node, kind), right))
        }),
        case("B-020", |f| Ok(Got::equal("vfio-noiommu".to_owned(), attribute(f, "name")?))),
        case("B-021", |f| {
            let groups = [f.group_number(f.address()?)?, f.group_number(f.nth_address(1)?)?];
            Ok(Got::truth("two groups", groups, groups[0] != groups[1]))
        }),
        case("B-590", |f| Ok(Got::equal("unknown".to_owned(), attribute(f, "type")?))),
        case("B-592", |f| {
            needs_groups(f)?;
            let address = f.address()?;
            let link = f.sysfs(address).join("iommu_group");
            let before = f.exists(&link)?;
            let driver = f.driver(address);
            driver.unbind()?;
            Ok(Got::equal((true, false), (before, f.exists(&link)?)))
        }),
    ]
}

/// What is logged about them.
fn said<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-009", |f| {
            needs_groups(f)?;
            let lines = logged_by_bind(f)?;
            let said = lines.iter().any(|line| line.contains(GROUP_TAINT));
            Ok(Got::truth(GROUP_TAINT, lines, said))
        }),
        case("B-011", |f| {
            needs_groups(f)?;
            f.cdev_path(f.address()?)?;
            let lines = logged_by_bind(f)?;
            let at = |taint| lines.iter().position(|line| line.contains(taint));
            let ordered =
                matches!((at(GROUP_TAINT), at(CDEV_TAINT)), (Some(group), Some(cdev)) if group < cdev);
            Ok(Got::truth("the group's line, then the device file's", &lines, ordered))
        }),
        case("B-014", |f| {
            let line = format!("vfio-noiommu device opened by user ({}:", thread_name()?);
            let joined = f.usable(f.address()?, Container::Native)?;
            let mark = f.sys.log_mark()?;
            let _device = joined.device()?;
            let lines = f.sys.log_since(mark)?;
            let said = lines.iter().any(|it| it.contains(&line));
            Ok(Got::truth(line, lines, said))
        }),
    ]
}

/// Kernels that have device files alone, or no way to do without an IOMMU.
fn without_groups<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-003", |f| {
            needs_no_groups(f)?;
            let address = f.address()?;
            let link = f.sysfs(address).join("iommu_group");
            Ok(Got::equal((true, false), (f.exists(&f.cdev_path(address)?)?, f.exists(&link)?)))
        }),
        case("B-005", |f| {
            needs_no_groups(f)?;
            let driver = f.driver(f.address()?);
            let _parameter = f.noiommu_mode(false)?;
            driver.unbind()?;
            answer(driver.bind().map(|()| 0u32))
        }),
        case("B-012", |f| {
            needs_no_groups(f)?;
            let lines = logged_by_bind(f)?;
            let said = lines.iter().any(|line| line.contains(GROUP_TAINT));
            Ok(Got::truth("nothing of a group", lines, !said))
        }),
        case("B-024", |f| {
            f.needs_path(Path::new(NOIOMMU_MODE), "a no-IOMMU mode")?;
            needs_groups(f)?;
            if !f.lacks_noiommu()? {
                let reason = "IOMMUFD_NOIOMMU is built, as on every architecture with 64-bit atomics";
                return Err(Stop::NotApplicable(reason.into()));
            }
            let folder = f.sysfs(f.address()?).join("vfio-dev");
            let names = f.sys.read_dir(&folder)?;
            let [name] = &names[..] else {
                return Ok(Got::truth("one device of the class", names, false));
            };
            let attribute = f.exists(&folder.join(name).join("dev"))?;
            let node = f.exists(&Path::new("/dev/vfio/devices").join(name))?;
            Ok(Got::equal((true, false, false), (name.starts_with("vfio"), attribute, node)))
        }),
        case("B-023", |f| {
            // A device without an IOMMU that has a driver is enough to tell.
            if f.noiommu_address().is_ok() || !f.lacks_noiommu()? {
                return Err(Stop::NotApplicable("the kernel is built with VFIO_NOIOMMU".into()));
            }
            Ok(Got::equal(false, f.exists(Path::new(NOIOMMU_MODE))?))
        }),
    ]
}

/// An attribute of the first device's group.
fn attribute<S: Suite>(f: &Fixture<S>, name: &str) -> Way<String> {
    let group = f.group_number(f.address()?)?.to_string();
    f.text(&Path::new("/sys/kernel/iommu_groups").join(group).join(name))
}

/// The lines that are logged when the first device gets its driver.
fn logged_by_bind<S: Suite>(f: &Fixture<S>) -> Way<Vec<String>> {
    let driver = f.driver(f.address()?);
    driver.unbind()?;
    let mark = f.sys.log_mark()?;
    driver.bind()?;
    Ok(f.sys.log_since(mark)?)
}

/// The name of this thread, as the kernel knows it.
fn thread_name() -> Way<String> {
    Ok(std::fs::read_to_string("/proc/thread-self/comm")?.trim_end().to_owned())
}

/// Whether VFIO has groups: their files have a major number of their own.
fn has_groups<S: Suite>(f: &Fixture<S>) -> Way<bool> {
    Ok(f.text(Path::new("/proc/devices"))?.lines().any(|line| line.ends_with(" vfio")))
}

fn needs_groups<S: Suite>(f: &Fixture<S>) -> Way<()> {
    match has_groups(f)? {
        true => Ok(()),
        false => Err(Stop::NotApplicable("the kernel is built without VFIO_GROUP".into())),
    }
}

fn needs_no_groups<S: Suite>(f: &Fixture<S>) -> Way<()> {
    match has_groups(f)? {
        true => Err(Stop::NotApplicable("the kernel is built with VFIO_GROUP".into())),
        false => Ok(()),
    }
}
