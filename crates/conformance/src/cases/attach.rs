//! ATTACH: attaching to a page table, replacing it, and detaching.

use sys::{Result, Suite};
use uapi::iommufd::*;
use uapi::vfio::*;
use uapi::{Command, Errno};
use zerocopy::IntoBytes;

use crate::call::{fault_queue, ioctl_at, ioctl_bytes};
use crate::case::{Case, answer, case};
use crate::fixture::{Attached, Bound, Fixture};
use crate::group::Container;
use crate::memory::{NOWHERE, PAGE, Pages, Protection};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::space::{P, Space, UNKNOWN, caller};

const MIB: u64 = 1 << 20;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = arguments();
    cases.extend(page_tables());
    cases.extend(replacing());
    cases.extend(in_use());
    cases.extend(detaching());
    cases.extend(existing_mappings());
    cases
}

fn arguments<S: Suite>() -> Vec<Case<S>> {
    const ATTACH: u32 = VFIO_DEVICE_ATTACH_IOMMUFD_PT;
    const DETACH: u32 = VFIO_DEVICE_DETACH_IOMMUFD_PT;
    vec![
        case("B-090", |f| answer(sized(f, ATTACH, 11, 0)?)),
        case("B-091", |f| answer(sized(f, ATTACH, 12, 0)?)),
        case("B-092", |f| answer(sized(f, ATTACH, 64, 0xa5)?)),
        case("B-093", |f| answer(flagged(f, ATTACH)?)),
        case("B-112", |f| answer(sized(f, DETACH, 7, 0)?)),
        case("B-113", |f| answer(flagged(f, DETACH)?)),
        case("B-114", |f| {
            let joined = f.usable(f.address()?, Container::Native)?;
            answer(f.attach(&joined.device()?, 1))
        }),
        case("B-115", |f| {
            let joined = f.usable(f.address()?, Container::Native)?;
            answer(f.detach(&joined.device()?))
        }),
        case("B-142", |f| {
            let space = f.attached_space()?;
            space.map(P, P)?;
            space.get_pa(P, P)?;
            let argument = Pages::new(PAGE)?;
            let attach = VfioDeviceAttachIommufdPt { pt_id: space.id, ..VfioDeviceAttachIommufdPt::new() };
            argument.write(0, attach.as_bytes());
            argument.protect(Protection::ReadOnly)?;
            let refused = ioctl_at(f.sys, space.device()?, ATTACH, argument.address() as usize);
            let query = space.get_pa(P, P).map_err(|error| error.errno());
            Ok(Got::from(refused).provided(Got::equal(Err(Errno::EOPNOTSUPP), query)))
        }),
        case("B-614", |f| {
            let device = f.bound()?.device;
            let mut attach = VfioDeviceAttachIommufdPt { pt_id: UNKNOWN, ..VfioDeviceAttachIommufdPt::new() };
            let refused = f.call(&device, &mut attach).is_err();
            Ok(Got::equal((true, UNKNOWN), (refused, attach.pt_id)))
        }),
        case("B-615", |f| {
            let device = f.bound()?.device;
            answer(f.call(&device, &mut IommuIoasAlloc::new()))
        }),
    ]
}

/// What can be attached to.
fn page_tables<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-089", |f| {
            let Attached { bound, ioas, hwpt } = f.attached()?;
            Ok(Got::equal((1, 2, 3), (bound.devid, ioas, hwpt)))
        }),
        case("B-088", |f| {
            let Attached { ioas, hwpt, .. } = f.attached()?;
            Ok(Got::truth("a page table", (ioas, hwpt), ioas != hwpt))
        }),
        case("B-094", |f| attach_to(f, |_| UNKNOWN)),
        case("B-095", |f| attach_to(f, |_| 0)),
        case("B-096", |f| attach_to(f, |devid| devid)),
        case("B-098", |f| {
            let Bound { device, iommufd: _iommufd, devid } = f.bound()?;
            let other = f.iommufd()?;
            let id = [f.ioas(&other)?, f.ioas(&other)?].into_iter().find(|id| *id != devid);
            let ioas = id.ok_or_else(|| Stop::Broken("two objects with one id".into()))?;
            answer(f.attach(&device, ioas))
        }),
        case("B-626", |f| {
            let space = f.bound_space()?;
            let (fault_id, _queue) = fault_queue(f.sys, space.iommufd())?;
            let mut hwpt = IommuHwptAlloc {
                flags: IOMMU_HWPT_FAULT_ID_VALID,
                dev_id: space.devid()?,
                pt_id: space.id,
                fault_id,
                ..IommuHwptAlloc::new()
            };
            f.call(space.iommufd(), &mut hwpt)?;
            answer(f.attach(space.device()?, hwpt.out_hwpt_id).map(|_| 0u32))
        }),
    ]
}

/// A device that is attached already.
fn replacing<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-099", |f| {
            let Attached { bound, ioas, hwpt } = f.attached()?;
            Ok(Got::equal(hwpt, f.attach(&bound.device, ioas)?))
        }),
        case("B-100", |f| {
            let Attached { bound, hwpt, .. } = f.attached()?;
            Ok(Got::equal(hwpt, f.attach(&bound.device, hwpt)?))
        }),
        case("B-101", |f| {
            let (first, hwpt, replaced) = replaced(f)?;
            let gone = f.destroy(first.iommufd(), hwpt).is_err();
            Ok(Got::from(replaced).provided(Got::truth("the old page table is gone", gone, gone)))
        }),
        case("B-102", |f| {
            let (first, hwpt, replaced) = replaced(f)?;
            replaced?;
            answer(f.destroy(first.iommufd(), hwpt))
        }),
        case("B-103", |f| {
            let space = f.attached_space()?;
            space.map(P, P)?;
            let refused = f.attach(space.device()?, UNKNOWN);
            let query = space.get_pa(P, P);
            Ok(Got::from(refused).provided(Got::truth("GET_PA works", &query, query.is_ok())))
        }),
    ]
}

/// Objects that a device is attached to cannot be destroyed.
fn in_use<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-107", |f| {
            let Attached { bound, hwpt, .. } = f.attached()?;
            answer(f.destroy(&bound.iommufd, hwpt))
        }),
        case("B-108", |f| answer(f.attached_space()?.destroy())),
        case("B-109", |f| {
            let space = f.attached_space()?;
            space.map(P, P)?;
            space.detach()?;
            answer(space.destroy())
        }),
    ]
}

fn detaching<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-104", |f| {
            let (space, second, hwpt) = two_attached(f)?;
            Ok(Got::equal((hwpt, hwpt), (space.attach()?, f.attach(&second, space.id)?)))
        }),
        case("B-105", |f| {
            let (space, second, _) = two_attached(f)?;
            space.map(P, P)?;
            f.detach(space.device()?)?;
            let query = space.get_pa(P, P).map(|_| 0u32);
            drop(second);
            answer(query)
        }),
        case("B-106", |f| {
            let (space, second, hwpt) = two_attached(f)?;
            f.detach(space.device()?)?;
            f.detach(&second)?;
            answer(f.destroy(space.iommufd(), hwpt))
        }),
        case("B-110", |f| answer(f.detach(&f.bound()?.device))),
        case("B-111", |f| {
            let Attached { bound, .. } = f.attached()?;
            Ok(Got::alike([f.detach(&bound.device), f.detach(&bound.device)]))
        }),
    ]
}

/// What was mapped before there was a page table is checked, pinned and accounted when there is one.
fn existing_mappings<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-116", |f| {
            let space = f.bound_space()?;
            space.map_at(P, NOWHERE, P)?;
            answer(attach(f, &space))
        }),
        case("B-117", |f| {
            let space = f.bound_space()?;
            space.map_at(P, NOWHERE, P)?;
            let refused = attach(f, &space);
            Ok(Got::from(space.destroy()).provided(Got::truth("ATTACH fails", &refused, refused.is_err())))
        }),
        case("B-118", |f| attach_with_map(f, |map| map.length = 100)),
        case("B-119", |f| attach_with_map(f, |map| map.iova = 0x800)),
        case("B-120", |f| attach_with_map(f, |map| map.user_va += 0x10)),
        case("B-121", |f| {
            let memory = Pages::new(MIB as usize)?;
            let space = f.bound_space()?;
            // Who maps is who memory is accounted to, whoever attaches.
            answer(space.as_caller(&caller(&[], Some(64 << 10)), |space| {
                space.map_at(P, memory.address(), MIB)?;
                attach(f, space)
            })?)
        }),
        case("B-122", |f| answer(attach_with_reserved(f)?)),
        case("B-123", |f| answer(attach_with_reserved(f)?)),
    ]
}

fn attach<S: Suite>(f: &Fixture<S>, space: &Space<S>) -> Result<u32> {
    let device = space.device().map_err(|_| sys::Error::new("ATTACH", "no device", Errno::ENODEV))?;
    f.attach(device, space.id)
}

/// ATTACH to an IOAS that holds one page at 0x1000, with one change to that.
fn attach_with_map<S: Suite>(f: &Fixture<S>, change: fn(&mut IommuIoasMap)) -> Outcome {
    let space = f.bound_space()?;
    space.map_with(change)?;
    answer(attach(f, &space))
}

/// ATTACH to an IOAS that is to use where an x86 platform has its interrupts.
fn attach_with_reserved<S: Suite>(f: &Fixture<S>) -> Way<Result<u32>> {
    let space = f.bound_space()?;
    space.allow(&[(0xfee0_0000, 0xfeef_ffff)])?;
    Ok(attach(f, &space).map(|_| 0))
}

/// ATTACH of a bound device to an object that is chosen by the device's own id.
fn attach_to<S: Suite>(f: &Fixture<S>, object: fn(u32) -> u32) -> Outcome {
    let Bound { device, iommufd: _iommufd, devid } = f.bound()?;
    answer(f.attach(&device, object(devid)))
}

/// An IOAS whose device has been attached to another one since, the page table that it had, and what the second ATTACH
/// answered but for the id.
fn replaced<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(Space<'a, S>, u32, Result<u32>)> {
    let first = f.bound_space()?;
    let hwpt = first.attach()?;
    let second = first.another()?;
    let answer = attach(f, &second).map(|_| 0);
    Ok((first, hwpt, answer))
}

/// An IOAS that two devices are attached to, the second device, and the page table.
fn two_attached<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(Space<'a, S>, S::File, u32)> {
    let second = f.open_at(f.nth_address(1)?)?;
    let space = f.bound_space()?;
    let hwpt = space.attach()?;
    f.bind(&second, space.iommufd())?;
    f.attach(&second, space.id)?;
    Ok((space, second, hwpt))
}

/// A call on a bound device that states its size, with 64 bytes of which those behind the fields are as given.
fn sized<S: Suite>(f: &Fixture<S>, command: u32, argsz: u32, tail: u8) -> Way<Result<u32>> {
    let Bound { device, iommufd, .. } = f.bound()?;
    let mut argument = [tail; 64];
    let attach = VfioDeviceAttachIommufdPt { argsz, flags: 0, pt_id: f.ioas(&iommufd)?, pasid: 0 };
    argument[..12].copy_from_slice(&attach.as_bytes()[..12]);
    Ok(ioctl_bytes(f.sys, &device, command, &mut argument).map(|_| 0))
}

/// A call on a bound device with an unknown flag.
fn flagged<S: Suite>(f: &Fixture<S>, command: u32) -> Way<Result<u32>> {
    let Bound { device, iommufd, .. } = f.bound()?;
    let mut attach =
        VfioDeviceAttachIommufdPt { flags: 2, pt_id: f.ioas(&iommufd)?, ..VfioDeviceAttachIommufdPt::new() };
    Ok(ioctl_bytes(f.sys, &device, command, attach.as_mut_bytes()))
}
