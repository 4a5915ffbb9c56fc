//! CLOSE: what the last close of a file releases, and when.

use std::path::Path;

use sys::Suite;
use uapi::Errno;
use uapi::vfio::VFIO_PCI_REQ_IRQ_INDEX;

use crate::case::{Case, answer, case};
use crate::driver::until;
use crate::fixture::{Attached, Bound, Fixture};
use crate::interrupts::{Event, Irqs, TARGETS};
use crate::memory::{PAGE, Pages};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::space::P;

/// How much the cases pin, in KiB.
const PINNED: i64 = 64;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = pinned();
    cases.extend(files());
    cases.extend(unbinding());
    cases.extend(order());
    cases
}

fn pinned<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-579", |f| {
            let pinned = Pinned::new(f)?;
            let Pinned { before, during, attached: Attached { bound, ioas, .. }, memory } = pinned;
            drop(bound.device);
            let after = f.vm_pin()?;
            let kept = f.unmap(&bound.iommufd, ioas, P, 16 * P)?;
            drop(memory);
            Ok(Got::equal((PINNED, 0, 16 * P), (during - before, after - before, kept)))
        }),
        case("B-580", |f| {
            let mark = f.sys.log_mark()?;
            let Pinned { before, during, attached: Attached { bound, .. }, memory } = Pinned::new(f)?;
            drop(bound.iommufd);
            let between = f.vm_pin()?;
            drop(bound.device);
            let after = f.vm_pin()?;
            drop(memory);
            let lines = f.sys.log_since(mark)?;
            let warned = lines.iter().any(|line| line.contains("WARN"));
            Ok(Got::all([
                Got::truth("no warning", lines, !warned),
                Got::equal((PINNED, PINNED, 0), (during - before, between - before, after - before)),
            ]))
        }),
        case("B-582", |f| {
            let target = f.target;
            let before = pins_of_all(f)?;
            // Nothing is released in the process itself before its end.
            let mut held = None;
            let second = f.sys.second_process(|sys| {
                let pinned = Pinned::new(&Fixture::new(sys, target)).map_err(|_| Errno::EIO)?;
                let grown = pinned.during - pinned.before;
                held = Some(pinned);
                Ok(grown.cast_unsigned())
            });
            let grown = second.map_err(|error| Stop::NotApplicable(error.to_string()))?;
            drop(held);
            f.bound()?;
            let after = pins_of_all(f)?;
            Ok(Got::equal((Ok(PINNED.cast_unsigned()), before), (grown, after)))
        }),
    ]
}

fn files<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-581", |f| {
            let address = f.address()?;
            let Bound { device, iommufd, .. } = f.bound_at(address)?;
            let ioas = f.ioas(&iommufd)?;
            f.attach(&device, ioas)?;
            drop(device);
            answer(f.bind(&f.open_at(address)?, &iommufd).map(|_| 0u32))
        }),
        case("B-583", |f| {
            let device = f.bound()?.device;
            let duplicate = f.sys.try_clone(&device)?;
            drop(device);
            answer(f.device_info(&duplicate).map(|_| 0u32))
        }),
    ]
}

/// How many pages the system has pinned, as far as it tells. Root of a user namespace is not told.
fn pins_of_all<S: Suite>(f: &Fixture<S>) -> Way<Option<i64>> {
    let (counters, refresh) = (Path::new("/proc/vmstat"), Path::new("/proc/sys/vm/stat_refresh"));
    if !f.exists(counters)? || !f.exists(refresh)? {
        return Ok(None);
    }
    // Each processor counts on its own until it is asked.
    match f.sys.read(refresh) {
        Err(error) if error.errno() == Errno::EACCES => return Ok(None),
        read => read?,
    };
    let text = f.text(counters)?;
    let counter =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<i64>().ok());
    Ok(counter("nr_foll_pin_acquired").zip(counter("nr_foll_pin_released")).map(|(more, less)| more - less))
}

/// Closing a file that the driver's unbinding waits for.
fn unbinding<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-584", |f| {
            let address = f.address()?;
            let node = f.cdev_path(address)?;
            let (driver, bound) = (f.driver(address), f.bound_at(address)?);
            let unbinding = driver.begin_unbind(&node)?;
            let waits = unbinding.waits();
            drop(bound);
            unbinding.end()??;
            let folder = f.sysfs(address).join("vfio-dev");
            Ok(Got::equal((true, false, false), (waits, f.exists(&node)?, f.exists(&folder)?)))
        }),
        case("B-585", |f| {
            let address = f.address()?;
            f.cdev_path(address)?;
            let driver = f.driver(address);
            driver.unbind()?;
            let others = f.sys.read_dir("/sys/class/vfio-dev".as_ref())?;
            let lowest = (0..)
                .map(|index| format!("vfio{index}"))
                .find(|name| !others.iter().any(|other| other.trim_start_matches("noiommu-") == name));
            driver.bind()?;
            Ok(Got::equal(lowest.map(|name| format!("noiommu-{name}")), Some(f.cdev_name(address)?)))
        }),
        case("B-586", |f| said_while_unbinding(f, "No device request channel registered", |_| Ok(None))),
        case("B-704", |f| {
            said_while_unbinding(f, "Relaying device request to user (#0)", |device| {
                let event = Event::new()?;
                let request = Irqs::new(VFIO_PCI_REQ_IRQ_INDEX, TARGETS, 0, 1);
                f.set_irqs(device, request, &[event.fd()])?;
                Ok(Some(event))
            })
        }),
        case("B-587", |f| {
            const BLOCKED: &str = "blocked until device is released";
            let address = f.address()?;
            let node = f.cdev_path(address)?;
            let (driver, device) = (f.driver(address), f.open_at(address)?);
            let mark = f.sys.log_mark()?;
            let unbinding = driver.begin_unbind(&node)?;
            let said = || {
                let lines = f.sys.log_since(mark).unwrap_or_default();
                lines.iter().any(|line| line.contains(address) && line.contains(BLOCKED))
            };
            unbinding.interrupt(said)?;
            let waits = unbinding.waits();
            drop(device);
            unbinding.end()??;
            Ok(Got::truth("the write goes on after the message", waits, waits))
        }),
    ]
}

/// What the log says of a device whose driver is being unbound, `given` a way to ask for it back or none.
fn said_while_unbinding<'a, S: Suite>(
    f: &Fixture<'a, S>,
    notice: &str,
    given: impl FnOnce(&S::File) -> Way<Option<Event>>,
) -> Outcome {
    let address = f.address()?;
    let node = f.cdev_path(address)?;
    let (driver, bound) = (f.driver(address), f.bound_at(address)?);
    let _event = given(&bound.device)?;
    let mark = f.sys.log_mark()?;
    let unbinding = driver.begin_unbind(&node)?;
    let said = until("the line is logged", || {
        let lines = f.sys.log_since(mark).unwrap_or_default();
        lines.iter().any(|line| line.contains(address) && line.contains(notice))
    });
    drop(bound);
    unbinding.end()??;
    Ok(Got::truth(notice, f.sys.log_since(mark)?, said.is_ok()))
}

/// What happens in which order: to be seen from the device's side of the bus alone.
fn order<S: Suite>() -> Vec<Case<S>> {
    fn unseen<S: Suite>(_: &mut Fixture<S>) -> Outcome {
        Err(Stop::NotApplicable("needs to look on from the device's side of the bus".into()))
    }
    vec![case("B-588", unseen), case("B-703", unseen)]
}

/// A device that is attached, with 16 pages mapped.
struct Pinned<S: Suite> {
    attached: Attached<S>,
    memory: Pages,
    /// `VmPin` in KiB.
    before: i64,
    during: i64,
}

impl<S: Suite> Pinned<S> {
    fn new(f: &Fixture<S>) -> Way<Self> {
        let before = f.vm_pin()?;
        let memory = Pages::new(16 * PAGE)?;
        let attached = f.attached()?;
        f.map_at(&attached.bound.iommufd, attached.ioas, memory.address(), 16 * P, P)?;
        let during = f.vm_pin()?;
        Ok(Pinned { attached, memory, before, during })
    }
}
