//! IRQS: `VFIO_DEVICE_SET_IRQS`.

use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, open};
use sys::Suite;
use uapi::Errno;
use uapi::vfio::*;

use crate::call::CLOSED;
use crate::case::{Case, answer, case};
use crate::driver::until;
use crate::fixture::{Fixture, Need};
use crate::interrupts::{Event, Irqs, TARGETS, TRIGGER, UNMASK_BY};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::pci::capability;

const LINE: u32 = VFIO_PCI_INTX_IRQ_INDEX;
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;
/// An index that every device has one vector of, and that nothing has to be enabled for.
const REQUEST: u32 = VFIO_PCI_REQ_IRQ_INDEX;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = checks();
    cases.extend(descriptors());
    cases.extend(messages());
    cases.extend(inactive());
    cases.extend(line());
    cases.extend(msi());
    cases.extend(notices());
    cases
}

/// The checks that all indices have in common.
fn checks<S: Suite>() -> Vec<Case<S>> {
    const BOTH: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER;
    vec![
        case("B-204", |f| {
            let irqs = Irqs::new(REQUEST, TRIGGER, 0, 1);
            answer(f.set_irqs_sized(&f.bound()?.device, 19, irqs, &[]))
        }),
        case("B-205", |f| set(f, Need::Any, Irqs::new(5, TRIGGER, 0, 1), &[])),
        case("B-206", |f| set(f, Need::Any, Irqs::new(REQUEST, TRIGGER | 0x40, 0, 1), &[])),
        case("B-207", |f| set(f, Need::Any, Irqs::new(REQUEST, BOTH, 0, 1), &[0])),
        case("B-208", |f| set(f, Need::Any, Irqs::new(REQUEST, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1), &[])),
        case("B-209", |f| set(f, Need::Any, Irqs::new(REQUEST, VFIO_IRQ_SET_DATA_NONE, 0, 1), &[])),
        case("B-211", |f| {
            for address in &f.target.devices {
                let device = f.bound_at(address)?.device;
                for index in 0..3 {
                    if f.irq_info(&device, index)?.count == 0 {
                        return answer(f.set_irqs(&device, Irqs::new(index, TRIGGER, 0, 0), &[]));
                    }
                }
            }
            Err(Stop::NotApplicable("every device that was named has INTx, MSI and MSI-X".into()))
        }),
        case("B-212", |f| {
            let device = f.bound_with(Need::MsiX)?.device;
            let vectors = f.msix_table(&device)?.vectors;
            let fds = [Event::new()?, Event::new()?];
            let irqs = Irqs::new(MSIX, TARGETS, vectors - 1, 2);
            answer(f.set_irqs(&device, irqs, &[fds[0].fd(), fds[1].fd()]))
        }),
        case("B-213", |f| {
            let event = Event::new()?;
            set(f, Need::MsiX, Irqs::new(MSIX, TARGETS, 0, 4), &[event.fd(); 3])
        }),
    ]
}

/// Descriptors that are no eventfds.
fn descriptors<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-214", |f| {
            let device = f.bound_with(Need::MsiX)?.device;
            let refused = f.set_irqs(&device, Irqs::new(MSIX, TARGETS, 0, 1), &[CLOSED]);
            let disable = f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 0, 0), &[]);
            Ok(Got::from(refused).provided(Got::truth("not enabled", &disable, disable.is_err())))
        }),
        case("B-215", |f| {
            let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            set(f, Need::MsiX, Irqs::new(MSIX, TARGETS, 0, 1), &[null.as_raw_fd()])
        }),
    ]
}

/// MSI-X while it is enabled with a first vector.
fn messages<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-217", |f| {
            let (device, event) = with_msix(f)?;
            if f.irq_info(&device, LINE)?.count == 0 {
                return Err(Stop::NotApplicable("the device with MSI-X has no line".into()));
            }
            answer(f.set_irqs(&device, Irqs::new(LINE, TARGETS, 0, 1), &[event.fd()]))
        }),
        case("B-218", |f| {
            let (device, event) = with_msix(f)?;
            f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 0, 1), &[])?;
            Ok(Got::equal(1, event.take()?))
        }),
        case("B-219", |f| {
            let (device, event) = with_msix(f)?;
            let disabled = f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 0, 0), &[]);
            let trigger = f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 0, 1), &[]);
            let silent = trigger.is_err() && event.take()? == 0;
            Ok(Got::from(disabled).provided(Got::truth("disabled", trigger, silent)))
        }),
        case("B-641", |f| {
            let (device, _first) = with_msix(f)?;
            if f.irq_info(&device, MSIX)?.flags & VFIO_IRQ_INFO_NORESIZE != 0 {
                return Err(Stop::NotApplicable(
                    "MSI-X vectors can not be added while others are enabled".into(),
                ));
            }
            if f.msix_table(&device)?.vectors < 4 {
                return Err(Stop::NotApplicable("needs four MSI-X vectors".into()));
            }
            let fourth = Event::new()?;
            let added = f.set_irqs(&device, Irqs::new(MSIX, TARGETS, 3, 1), &[fourth.fd()]);
            f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 3, 1), &[])?;
            Ok(Got::from(added).provided(Got::equal(1, fourth.take()?)))
        }),
        case("B-642", |f| {
            let (device, event) = with_msix(f)?;
            let cleared = f.set_irqs(&device, Irqs::new(MSIX, TARGETS, 0, 1), &[-1]);
            f.set_irqs(&device, Irqs::new(MSIX, TRIGGER, 0, 1), &[])?;
            Ok(Got::from(cleared).provided(Got::equal(0, event.take()?)))
        }),
    ]
}

/// Kinds of interrupts that are not enabled.
fn inactive<S: Suite>() -> Vec<Case<S>> {
    const UNMASK: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
    vec![
        case("B-220", |f| set(f, Need::MsiX, Irqs::new(MSIX, TRIGGER, 0, 0), &[])),
        case("B-221", |f| set(f, Need::MsiX, Irqs::new(MSIX, TRIGGER, 0, 1), &[])),
        case("B-222", |f| set(f, Need::MsiX, Irqs::new(MSIX, TARGETS, 0, 0), &[])),
        case("B-223", |f| set(f, Need::Line, Irqs::new(LINE, UNMASK, 0, 1), &[])),
        case("B-224", |f| set(f, Need::Line, Irqs::new(LINE, TRIGGER, 0, 0), &[])),
        case("B-228", |f| set(f, Need::Line, Irqs::new(LINE, TARGETS, 0, 1), &[-1])),
    ]
}

/// INTx while it is enabled.
fn line<S: Suite>() -> Vec<Case<S>> {
    const MASK_BY: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK;
    vec![
        case("B-225", |f| {
            let (device, event) = with_line(f)?;
            answer(f.set_irqs(&device, Irqs::new(LINE, MASK_BY, 0, 1), &[event.fd()]))
        }),
        case("B-226", |f| {
            let (device, _target) = with_line(f)?;
            let (first, second) = (Event::new()?, Event::new()?);
            f.set_irqs(&device, Irqs::new(LINE, UNMASK_BY, 0, 1), &[first.fd()])?;
            answer(f.set_irqs(&device, Irqs::new(LINE, UNMASK_BY, 0, 1), &[second.fd()]))
        }),
        case("B-227", |f| {
            let (device, event) = with_line(f)?;
            f.set_irqs(&device, Irqs::new(LINE, TRIGGER, 0, 1), &[])?;
            Ok(Got::equal(1, event.take()?))
        }),
        case("B-643", |f| {
            let (device, _target) = with_line(f)?;
            let (first, second) = (Event::new()?, Event::new()?);
            f.set_irqs(&device, Irqs::new(LINE, UNMASK_BY, 0, 1), &[first.fd()])?;
            let removed = f.set_irqs(&device, Irqs::new(LINE, UNMASK_BY, 0, 1), &[-1]);
            let again = f.set_irqs(&device, Irqs::new(LINE, UNMASK_BY, 0, 1), &[second.fd()]);
            Ok(Got::from(removed).provided(Got::truth("there is room for another", &again, again.is_ok())))
        }),
    ]
}

/// MSI, whose control register holds what the user wrote there, whatever `SET_IRQS` does.
fn msi<S: Suite>() -> Vec<Case<S>> {
    const CONTROL: u64 = 2;
    const ENABLE: u16 = 1;
    const MASK: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
    vec![
        case("B-210", |f| set(f, Need::Msi, Irqs::new(MSI, MASK, 0, 1), &[])),
        case("B-216", |f| {
            for address in &f.target.devices {
                let device = f.bound_at(address)?.device;
                let event = Event::new()?;
                if f.irq_info(&device, MSI)?.count > 0 && f.irq_info(&device, MSIX)?.count > 0 {
                    f.set_irqs(&device, Irqs::new(MSIX, TARGETS, 0, 1), &[event.fd()])?;
                    return answer(f.set_irqs(&device, Irqs::new(MSI, TARGETS, 0, 1), &[event.fd()]));
                }
            }
            Err(Stop::NotApplicable("needs a device with MSI and MSI-X".into()))
        }),
        case("B-637", |f| {
            let (device, event) = (with_msi_vectors(f, 16)?, Event::new()?);
            let got = f.set_irqs(&device, Irqs::new(MSI, TARGETS, 0, 16), &[event.fd(); 16]);
            if matches!(got, Ok(0)) {
                return Err(Stop::NotApplicable("the platform grants 16 vectors".into()));
            }
            answer(got)
        }),
        case("B-638", |f| {
            let (device, event) = (with_msi_vectors(f, 4)?, Event::new()?);
            f.set_irqs(&device, Irqs::new(MSI, TARGETS, 0, 1), &[event.fd()])?;
            answer(f.set_irqs(&device, Irqs::new(MSI, TARGETS, 0, 4), &[event.fd(); 4]))
        }),
        case("B-639", |f| {
            let (device, _event) = enabled(f, Need::Msi, MSI)?;
            let at = f.needed_capability(&device, capability::MSI)?;
            let control = u16::from_le_bytes(f.config_read(&device, at + CONTROL)?);
            Ok(Got::equal(0, control & ENABLE))
        }),
        case("B-640", |f| {
            let (device, event) = (with_msi_vectors(f, 16)?, Event::new()?);
            f.set_irqs(&device, Irqs::new(MSI, TARGETS, 0, 1), &[event.fd()])?;
            let at = f.needed_capability(&device, capability::MSI)?;
            let control = u16::from_le_bytes(f.config_read(&device, at + CONTROL)?);
            Ok(Got::equal(4, control >> 1 & 7))
        }),
    ]
}

/// The notices of errors and of requests to give the device back.
fn notices<S: Suite>() -> Vec<Case<S>> {
    const ERROR: u32 = VFIO_PCI_ERR_IRQ_INDEX;
    const MASK: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
    vec![
        case("B-229", |f| set(f, Need::Any, Irqs::new(REQUEST, TRIGGER, 0, 1), &[])),
        case("B-230", |f| {
            let (device, event) = enabled(f, Need::Any, REQUEST)?;
            f.set_irqs(&device, Irqs::new(REQUEST, TRIGGER, 0, 1), &[])?;
            Ok(Got::equal(1, event.take()?))
        }),
        case("B-231", |f| {
            let (device, _event) = enabled(f, Need::Any, REQUEST)?;
            let clear = || f.set_irqs(&device, Irqs::new(REQUEST, TRIGGER, 0, 0), &[]);
            let first = clear();
            let second = clear().map_err(|error| error.errno());
            Ok(Got::from(first).provided(Got::equal(Err(Errno::EINVAL), second)))
        }),
        case("B-232", |f| set(f, Need::Any, Irqs::new(REQUEST, TARGETS, 0, 1), &[-1])),
        case("B-233", |f| set(f, Need::Any, Irqs::new(REQUEST, TARGETS, 0, 1), &[-2])),
        case("B-234", |f| set(f, Need::Any, Irqs::new(REQUEST, TARGETS, 0, 0), &[])),
        case("B-235", |f| set(f, Need::Any, Irqs::new(ERROR, MASK, 0, 1), &[])),
        case("B-236", |f| set(f, Need::Any, Irqs::new(ERROR, TRIGGER, 0, 2), &[])),
        case("B-237", |f| {
            let address = f.address()?;
            let node = f.cdev_path(address)?;
            let (driver, bound) = (f.driver(address), f.bound_at(address)?);
            let event = Event::new()?;
            f.set_irqs(&bound.device, Irqs::new(REQUEST, TARGETS, 0, 1), &[event.fd()])?;
            let unbinding = driver.begin_unbind(&node)?;
            let asked = || event.take().is_ok_and(|count| count > 0);
            let signalled = until("the eventfd is signalled", asked).is_ok();
            drop(bound);
            unbinding.end()??;
            Ok(Got::truth("signalled while the driver is being unbound", signalled, signalled))
        }),
    ]
}

/// A device with MSI of at least so many vectors.
fn with_msi_vectors<S: Suite>(f: &Fixture<S>, vectors: u32) -> Way<S::File> {
    for address in &f.target.devices {
        let device = f.bound_at(address)?.device;
        if f.irq_info(&device, MSI)?.count >= vectors {
            return Ok(device);
        }
    }
    Err(Stop::NotApplicable(format!("needs a device with {vectors} MSI vectors")))
}

fn set<S: Suite>(f: &Fixture<S>, need: Need, irqs: Irqs, fds: &[i32]) -> Outcome {
    answer(f.set_irqs(&f.bound_with(need)?.device, irqs, fds))
}

/// A device with MSI-X enabled, and the eventfd of its first vector.
fn with_msix<S: Suite>(f: &Fixture<S>) -> Way<(S::File, Event)> {
    enabled(f, Need::MsiX, MSIX)
}

/// A device with INTx enabled, and its eventfd.
fn with_line<S: Suite>(f: &Fixture<S>) -> Way<(S::File, Event)> {
    enabled(f, Need::Line, LINE)
}

fn enabled<S: Suite>(f: &Fixture<S>, need: Need, index: u32) -> Way<(S::File, Event)> {
    let device = f.bound_with(need)?.device;
    let event = Event::new()?;
    f.set_irqs(&device, Irqs::new(index, TARGETS, 0, 1), &[event.fd()])?;
    Ok((device, event))
}
