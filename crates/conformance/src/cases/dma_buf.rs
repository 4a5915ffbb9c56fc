//! GETPA: a BAR of the device itself, mapped as a dma-buf.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use sys::{Access, Result, Suite};
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::call::{export_dma_buf, export_dma_buf_with, ioctl_at, udmabuf};
use crate::case::{Case, answer, case};
use crate::fixture::{Bound, Fixture, Need, Target};
use crate::memory::sealed_memfd;
use crate::outcome::{Got, Stop, Way};
use crate::pci::command;
use crate::space::{P, Space};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = mapped();
    cases.extend(revoked());
    cases.extend(refused());
    cases
}

fn mapped<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-544", |f| {
            let space = with_dma_buf(f)?.0;
            let device = space.device()?;
            let index = f.mappable_bar(device)?.index as usize;
            let text = f.text(&f.sysfs(f.address()?).join("resource"))?;
            let start = text.lines().nth(index).and_then(|line| line.split_whitespace().next());
            let start = start.and_then(|start| u64::from_str_radix(start.trim_start_matches("0x"), 16).ok());
            Ok(Got::equal((start, P), (Some(space.get_pa(P, P)?.0), space.get_pa(P, P)?.1)))
        }),
        case("B-699", |f| {
            let (space, _dma_buf) = with_dma_buf(f)?;
            f.set_command(space.device()?, command::MEMORY, false)?;
            let unmapped = space.unmap(P, P);
            let again = space.map(P, P);
            Ok(Got::truth("unmapped, and free", (&unmapped, &again), unmapped.is_ok() && again.is_ok()))
        }),
        case("B-695", |f| {
            let (space, dma_buf) = with_dma_buf(f)?;
            let device = space.device()?;
            f.set_command(device, command::MEMORY, false)?;
            f.set_command(device, command::MEMORY, true)?;
            let mapped = space.map_file_with(dma_buf.as_raw_fd(), |map| map.iova = 2 * P);
            let query = space.get_pa(2 * P, P);
            Ok(Got::from(mapped).provided(Got::truth("GET_PA works", &query, query.is_ok())))
        }),
    ]
}

/// The mapping ends when nothing answers behind it any more.
fn revoked<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-545", |f| {
            let (space, _dma_buf) = with_dma_buf(f)?;
            f.set_command(space.device()?, command::MEMORY, false)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-546", |f| {
            let space = f.attached_space()?;
            let device = space.device()?;
            let dma_buf = export(f, device)?;
            space.map_file_with(dma_buf.as_raw_fd(), |_| ())?;
            space.get_pa(P, P)?;
            f.set_command(device, command::MEMORY, false)?;
            f.set_command(device, command::MEMORY, true)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-694", |f| {
            let address = f.address_with(Need::Reset)?;
            let target = Target { devices: vec![address.to_owned()] };
            let f = &Fixture::new(f.sys, &target);
            let (space, _dma_buf) = with_dma_buf(f)?;
            ioctl_at(f.sys, space.device()?, VFIO_DEVICE_RESET, 0)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-696", |f| {
            let (space, _dma_buf) = with_dma_buf(f)?;
            let flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
            f.call(space.device()?, &mut VfioDeviceFeature { flags, ..VfioDeviceFeature::new() })?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-697", |f| {
            let space = f.attached_space()?;
            let second = f.open_at(f.nth_address(1)?)?;
            f.bind(&second, space.iommufd())?;
            let dma_buf = export(f, &second)?;
            space.map_file_with(dma_buf.as_raw_fd(), |_| ())?;
            space.get_pa(P, P)?;
            drop(second);
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-698", |f| {
            let Bound { device, iommufd, .. } = f.bound()?;
            let ioas = f.ioas(&iommufd)?;
            f.attach(&device, ioas)?;
            let dma_buf = export(f, &device)?;
            f.map_file_at(&iommufd, ioas, dma_buf.as_raw_fd(), P, P)?;
            f.get_pa(&iommufd, ioas, P, P)?;
            drop(device);
            let again = f.bound_in(f.address()?, iommufd)?;
            f.attach(&again.device, ioas)?;
            answer(f.get_pa(&again.iommufd, ioas, P, P).map(|(address, _)| address))
        }),
    ]
}

/// What IOMMUFD does not map.
fn refused<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-547", |f| {
            let space = f.attached_space()?;
            let device = space.device()?;
            let dma_buf = export(f, device)?;
            f.set_command(device, command::MEMORY, false)?;
            answer(space.map_file_with(dma_buf.as_raw_fd(), |_| ()))
        }),
        case("B-700", |f| {
            let space = f.attached_space()?;
            let dma_buf = export(f, space.device()?)?;
            answer(space.map_file_with(dma_buf.as_raw_fd(), |map| map.length = 2 * P))
        }),
        case("B-548", |f| {
            let space = f.attached_space()?;
            let device = space.device()?;
            let bar = f.mappable_bar(device)?;
            if bar.size < 2 * P {
                return Err(Stop::NotApplicable(
                    "the device has no BAR of two pages that can be mapped".into(),
                ));
            }
            let dma_buf = exported(export_dma_buf_with(f.sys, device, bar.index, |dma_buf, ranges| {
                ranges.push(VfioRegionDmaRange { offset: P, length: P });
                dma_buf.nr_ranges = 2;
            }))?;
            answer(space.map_file_with(dma_buf.as_raw_fd(), |map| map.length = 2 * P))
        }),
        case("B-549", |f| {
            let exporter = Path::new("/dev/udmabuf");
            f.needs_path(exporter, "dma-bufs of memory")?;
            let memfd = sealed_memfd(P)?;
            let dma_buf = udmabuf(f.sys, &f.sys.open(exporter, Access::ReadWrite)?, &memfd)?;
            answer(f.attached_space()?.map_file_with(dma_buf.as_raw_fd(), |_| ()))
        }),
    ]
}

/// An IOAS that the first device is attached to, with a page of a BAR of that device at 0x1000.
fn with_dma_buf<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(Space<'a, S>, OwnedFd)> {
    let space = f.attached_space()?;
    let dma_buf = export(f, space.device()?)?;
    space.map_file_with(dma_buf.as_raw_fd(), |_| ())?;
    space.get_pa(P, P)?;
    Ok((space, dma_buf))
}

/// Exports a page of the device's first BAR that can be mapped.
fn export<S: Suite>(f: &Fixture<S>, device: &S::File) -> Way<OwnedFd> {
    let index = f.mappable_bar(device)?.index;
    exported(export_dma_buf(f.sys, device, index))
}

fn exported(dma_buf: Result<OwnedFd>) -> Way<OwnedFd> {
    dma_buf.map_err(|error| match error.errno() {
        Errno::ENOTTY => Stop::NotApplicable("the system does not export dma-bufs of BARs".into()),
        _ => error.into(),
    })
}
