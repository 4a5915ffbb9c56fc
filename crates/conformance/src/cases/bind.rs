//! BIND: the checks of `VFIO_DEVICE_BIND_IOMMUFD`, in their order, and what a binding holds.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use sys::{Access, Result, Suite};
use uapi::vfio::*;
use uapi::{Command, Errno};
use zerocopy::IntoBytes;

use crate::call::{CLOSED, ioctl_at, ioctl_bytes, ioctl_value};
use crate::case::{Case, answer, case};
use crate::driver::UNSAFE_INTERRUPTS;
use crate::fixture::{Bound, Fixture};
use crate::group::Container;
use crate::memory::{NOWHERE, PAGE, Pages, Protection, regular_file};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::pci::{command, register};
use crate::process::Child;
use crate::space::caller;

/// What `out_devid` holds before the call.
const UNTOUCHED: u32 = 0x55;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = sizes();
    cases.extend(fields());
    cases.extend(tokens());
    cases.extend(ids());
    cases.extend(once());
    cases.extend(refused());
    cases.extend(lifetimes());
    cases.extend(groups());
    cases.extend(several());
    cases.extend(interrupts());
    cases
}

fn sizes<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-048", |f| answer(sized(f, 15, 0)?)),
        case("B-049", |f| answer(sized(f, 16, 0)?)),
        case("B-050", |f| answer(sized(f, 24, 0)?)),
        case("B-051", |f| answer(sized(f, 32, 0)?)),
        case("B-052", |f| answer(sized(f, 32, 1)?)),
        case("B-053", |f| answer(ioctl_at(f.sys, &f.opened()?, VFIO_DEVICE_BIND_IOMMUFD, NOWHERE as usize))),
    ]
}

fn fields<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-054", |f| answer(changed(f, |bind| bind.iommufd = -1)?)),
        case("B-055", |f| answer(changed(f, |bind| bind.flags = 2)?)),
        case("B-056", |f| answer(changed(f, |bind| bind.iommufd = CLOSED)?)),
        case("B-057", |f| {
            let file = regular_file()?;
            answer(changed(f, |bind| bind.iommufd = file.as_raw_fd())?)
        }),
        case("B-604", |f| {
            let device = f.opened()?;
            answer(f.bind(&device, &device))
        }),
    ]
}

/// The token is one of SR-IOV, which devices of the suite have nothing to do with.
fn tokens<S: Suite>() -> Vec<Case<S>> {
    const TOKEN: u32 = VFIO_DEVICE_BIND_FLAG_TOKEN;
    const REASON: &str = "VF token incorrectly provided, not a PF or VF";
    vec![
        case("B-069", |f| {
            let uuid = [7u8; 16];
            answer(changed(f, |bind| (bind.flags, bind.token_uuid_ptr) = (TOKEN, uuid.as_ptr() as u64))?)
        }),
        case("B-070", |f| answer(changed(f, |bind| (bind.flags, bind.token_uuid_ptr) = (TOKEN, NOWHERE))?)),
        case("B-085", |f| answer(changed(f, |bind| (bind.argsz, bind.flags) = (16, TOKEN))?)),
        case("B-606", |f| {
            let uuid = [7u8; 16];
            let mark = f.sys.log_mark()?;
            let refused =
                changed(f, |bind| (bind.flags, bind.token_uuid_ptr) = (TOKEN, uuid.as_ptr() as u64))?;
            let lines = f.sys.log_since(mark)?;
            let said = refused.is_err() && lines.iter().any(|line| line.contains(REASON));
            Ok(Got::truth(REASON, lines, said))
        }),
    ]
}

fn ids<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-058", |f| Ok(Got::equal(1, f.bound()?.devid))),
        case("B-059", |f| {
            let iommufd = f.iommufd()?;
            let ioas = f.ioas(&iommufd)?;
            Ok(Got::equal((1, 2), (ioas, f.bound_in(f.address()?, iommufd)?.devid)))
        }),
        case("B-075", |f| {
            let Bound { device, iommufd, devid } = f.bound()?;
            drop(device);
            Ok(Got::equal(devid, f.bound_in(f.address()?, iommufd)?.devid))
        }),
        case("B-073", |f| {
            let Bound { device: _device, iommufd, devid } = f.bound()?;
            answer(f.destroy(&iommufd, devid))
        }),
        case("B-074", |f| {
            let Bound { device, iommufd, devid } = f.bound()?;
            drop(device);
            answer(f.destroy(&iommufd, devid))
        }),
    ]
}

/// A file is bound once, and so is a device.
fn once<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-060", |f| {
            let Bound { device, iommufd, .. } = f.bound()?;
            answer(f.bind(&device, &iommufd))
        }),
        case("B-066", |f| {
            let device = f.bound()?.device;
            let mut bind = VfioDeviceBindIommufd { iommufd: CLOSED, ..VfioDeviceBindIommufd::new() };
            answer(f.call(&device, &mut bind))
        }),
        case("B-061", |f| {
            let Bound { device: _first, iommufd, .. } = f.bound()?;
            answer(f.bind(&f.opened()?, &iommufd))
        }),
        case("B-062", |f| {
            let second = f.opened()?;
            let Bound { device, iommufd, .. } = f.bound()?;
            drop(device);
            answer(f.bind(&second, &iommufd).map(|_| 0u32))
        }),
    ]
}

/// The group and the device file of a device exclude each other, and device files of groups are bound already.
fn groups<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-063", |f| {
            let _group = f.group(f.address()?)?;
            answer(changed(f, |_| ())?)
        }),
        case("B-064", |f| {
            let _group = f.group(f.address()?)?;
            answer(changed(f, |bind| bind.flags = 2)?)
        }),
        case("B-065", |f| {
            let _group = f.group(f.address()?)?;
            answer(changed(f, |bind| bind.iommufd = CLOSED)?)
        }),
        case("B-067", |f| {
            let (device, iommufd) = (f.usable(f.address()?, Container::Native)?.device()?, f.iommufd()?);
            answer(f.bind(&device, &iommufd))
        }),
        case("B-068", |f| {
            let (device, iommufd) = (f.usable(f.address()?, Container::Native)?.device()?, f.iommufd()?);
            answer(f.call(&device, &mut VfioDeviceBindIommufd { argsz: 8, ..whole(&iommufd) }))
        }),
    ]
}

/// Several devices.
fn several<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-077", |f| {
            let parameter = Path::new(UNSAFE_INTERRUPTS);
            if f.exists(parameter)? && f.text(parameter)? != "N" {
                return Err(Stop::NotApplicable("iommufd is told to allow unsafe interrupts".into()));
            }
            answer(changed(f, |_| ())?)
        }),
        case("B-079", |f| {
            let (first, second) = one_group(f)?;
            let driver = f.driver(second);
            let _other = driver.lend(f, "uio_pci_generic")?;
            answer(f.bind(&f.open_at(first)?, &f.iommufd()?))
        }),
        case("B-080", |f| {
            let (first, second) = one_group(f)?;
            let _bound = f.bound_at(first)?;
            answer(f.bind(&f.open_at(second)?, &f.iommufd()?))
        }),
        case("B-081", |f| {
            let first = f.bound()?;
            let second = f.bound_at(f.nth_address(1)?)?;
            Ok(Got::alike([first, second].map(|bound| f.device_info(&bound.device).map(|_| 0u32))))
        }),
        case("B-082", |f| {
            let second = f.open_at(f.nth_address(1)?)?;
            let first = f.bound()?;
            let devid = f.bind(&second, &first.iommufd)?;
            Ok(Got::truth("two ids", (first.devid, devid), first.devid != devid))
        }),
        case("B-607", |f| {
            let (first, second) = one_group(f)?;
            let bound = f.bound_at(first)?;
            answer(f.bind(&f.open_at(second)?, &bound.iommufd).map(|_| 0u32))
        }),
    ]
}

/// Two devices of one group.
fn one_group<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(&'a str, &'a str)> {
    let devices = &f.target.devices;
    for (index, first) in devices.iter().enumerate() {
        for second in devices.iter().skip(index + 1) {
            if f.group_number(first)? == f.group_number(second)? {
                return Ok((first, second));
            }
        }
    }
    Err(Stop::NotApplicable("every device that was named is in a group of its own".into()))
}

/// Where any device can raise every interrupt: this is asked of x86, which shows remapped ones as such.
fn interrupts<S: Suite>() -> Vec<Case<S>> {
    const WARNING: &str = "MSI interrupts are not secure";
    vec![
        case("B-078", |f| {
            needs_open_interrupts(f)?;
            let _off = f.parameter(UNSAFE_INTERRUPTS, false)?;
            answer(changed(f, |_| ())?)
        }),
        case("B-608", |f| {
            needs_open_interrupts(f)?;
            let _on = f.parameter(UNSAFE_INTERRUPTS, true)?;
            let mark = f.sys.log_mark()?;
            let bound = changed(f, |_| ())?;
            let lines = f.sys.log_since(mark)?;
            let warned = lines.iter().any(|line| line.contains(WARNING));
            Ok(Got::from(bound).provided(Got::truth(WARNING, lines, warned)))
        }),
    ]
}

fn needs_open_interrupts<S: Suite>(f: &Fixture<S>) -> Way<()> {
    let interrupts = Path::new("/proc/interrupts");
    f.needs_path(interrupts, "a list of its interrupts")?;
    if f.text(interrupts)?.contains("IR-") {
        return Err(Stop::NotApplicable("the platform isolates message-signalled interrupts".into()));
    }
    Ok(())
}

/// A refused call leaves no trace.
fn refused<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-071", |f| {
            let device = f.opened()?;
            let refused = f.bind(&device, &device);
            let info = f.device_info(&device).map(|_| 0u32);
            Ok(Got::from(info).provided(Got::truth("BIND fails", &refused, refused.is_err())))
        }),
        case("B-072", |f| {
            let device = f.opened()?;
            let mut bind = VfioDeviceBindIommufd { iommufd: CLOSED, ..VfioDeviceBindIommufd::new() };
            let refused = f.call(&device, &mut bind).map_err(|error| error.errno());
            let bound = f.bind(&device, &f.iommufd()?).map(|_| 0u32);
            Ok(Got::from(bound).provided(Got::equal(Err(Errno::EBADF), refused)))
        }),
        case("B-084", |f| {
            let (device, iommufd) = (f.opened()?, f.iommufd()?);
            let argument = Pages::new(PAGE)?;
            argument.write(0, whole(&iommufd).as_bytes());
            argument.protect(Protection::ReadOnly)?;
            let at = argument.address() as usize;
            let refused = ioctl_at(f.sys, &device, VFIO_DEVICE_BIND_IOMMUFD, at);
            // The id is free again, and so is the file.
            Ok(Got::from(refused).provided(Got::equal(1, f.bind(&device, &iommufd)?)))
        }),
        case("B-605", |f| {
            let (device, iommufd) = (f.opened()?, f.iommufd()?);
            let mut bind = VfioDeviceBindIommufd { flags: 2, out_devid: UNTOUCHED, ..whole(&iommufd) };
            let refused = f.call(&device, &mut bind).is_err();
            Ok(Got::equal((true, UNTOUCHED), (refused, bind.out_devid)))
        }),
    ]
}

fn lifetimes<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-076", |f| {
            let Bound { device, iommufd, .. } = f.bound()?;
            let ioas = f.ioas(&iommufd)?;
            drop(iommufd);
            answer(f.attach(&device, ioas).map(|_| 0u32))
        }),
        case("B-083", |f| {
            const MASTER: u16 = command::BUS_MASTER;
            let address = f.address()?;
            let device = f.bound_at(address)?.device;
            let real = || Ok(u16::from_le_bytes(f.real_config(address, register::COMMAND)?) & MASTER);
            f.set_command(&device, MASTER, true)?;
            let before: Way<u16> = real();
            drop(device);
            Ok(Got::equal((MASTER, 0), (before?, real()?)))
        }),
        case("B-086", |f| {
            let Bound { device, iommufd: _iommufd, .. } = f.bound()?;
            drop(Child::new()?);
            answer(f.device_info(&device).map(|_| 0u32))
        }),
        case("B-087", open_while_unbinding),
    ]
}

/// Somebody without capabilities opens the device again and again, by a handle, while its driver is unbound.
fn open_while_unbinding<S: Suite>(f: &mut Fixture<S>) -> Outcome {
    let address = f.address()?;
    let node = f.cdev_path(address)?;
    let handle = f.sys.look_up(&node)?;
    let driver = f.driver(address);
    let device = f.open_at(address)?;
    let unbinding = driver.begin_unbind(&node)?;
    // The mode of a node that is gone allows nobody anything.
    let mut opens = f.sys.as_caller(&caller(&["CAP_DAC_OVERRIDE"], None), |sys| {
        let open = || sys.open_handle(&handle, Access::ReadWrite).map(|_| 0u32);
        let mut opens = vec![open()];
        drop(device);
        while !unbinding.is_over() {
            opens.push(open());
        }
        opens.push(open());
        opens
    })?;
    unbinding.end()??;
    // It is refused as long as the device is there; once the device is gone, that is what every call says.
    let mut errnos: Vec<_> = opens.iter().map(|open| open.as_ref().err().map(sys::Error::errno)).collect();
    errnos.dedup();
    let gone = |errno: &Option<Errno>| matches!(errno, Some(Errno::ENODEV | Errno::ENXIO));
    let in_order = matches!(&errnos[..], [Some(Errno::EPERM), rest @ ..] if rest.iter().all(gone));
    let last = opens.pop().ok_or_else(|| Stop::Broken("nothing was opened".into()))?;
    Ok(Got::from(last).provided(Got::truth("EPERM, then ENODEV or ENXIO", errnos, in_order)))
}

/// An argument that names a context and leaves the rest alone.
fn whole<F: AsFd>(iommufd: &F) -> VfioDeviceBindIommufd {
    VfioDeviceBindIommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..VfioDeviceBindIommufd::new() }
}

/// A well-formed call with one change.
fn changed<S: Suite>(f: &Fixture<S>, change: impl FnOnce(&mut VfioDeviceBindIommufd)) -> Way<Result<u32>> {
    let (device, iommufd) = (f.opened()?, f.iommufd()?);
    let mut bind = whole(&iommufd);
    change(&mut bind);
    Ok(ioctl_value(f.sys, &device, VFIO_DEVICE_BIND_IOMMUFD, &mut bind))
}

/// A call that states its size, with a last byte of 32 as given.
fn sized<S: Suite>(f: &Fixture<S>, argsz: u32, last: u8) -> Way<Result<u32>> {
    let (device, iommufd) = (f.opened()?, f.iommufd()?);
    let mut argument = [0; 32];
    argument[..24].copy_from_slice(whole(&iommufd).as_bytes());
    argument[..4].copy_from_slice(&argsz.to_ne_bytes());
    argument[31] = last;
    Ok(ioctl_bytes(f.sys, &device, VFIO_DEVICE_BIND_IOMMUFD, &mut argument))
}
