//! GROUP: group files, and the device files that a group gives out once it has joined a container.

use std::os::fd::AsFd;

use rustix::io::{FdFlags, fcntl_getfd};
use sys::{Access, Result, Suite};
use uapi::vfio::*;

use crate::call::{CLOSED, ioctl_bytes};
use crate::case::{Case, answer, case};
use crate::fixture::{Bound, Fixture};
use crate::group::{Container, Joined, opened};
use crate::outcome::{Got, Outcome, Way};
use crate::space::caller;

/// A name that no device has.
const NO_DEVICE: &str = "ffff:ff:1f.7";

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = opening();
    cases.extend(status());
    cases.extend(not_joined());
    cases.extend(names());
    cases.extend(joining());
    cases.extend(joining_iommufd());
    cases.extend(devices());
    cases.extend(lifetimes());
    cases.extend(mixed());
    cases
}

fn opening<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-281", |f| open_without_capability(f, f.address()?)),
        case("B-282", |f| open_without_capability(f, f.address()?)),
        case("B-283", |f| {
            let _first = f.group(f.address()?)?;
            open(f, f.address()?)
        }),
        case("B-284", |f| {
            let _bound = f.bound()?;
            open(f, f.address()?)
        }),
        case("B-285", |f| {
            let address = f.address()?;
            let _bound = f.bound_at(address)?;
            open_without_capability(f, address)
        }),
        case("B-286", |f| {
            let Bound { device, iommufd: _iommufd, .. } = f.bound()?;
            drop(device);
            open(f, f.address()?)
        }),
    ]
}

fn status<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-287", |f| answer(f.group_status(&f.group(f.address()?)?, 7))),
        case("B-288", |f| {
            let group = f.group(f.address()?)?;
            Ok(Got::equal(VFIO_GROUP_FLAGS_VIABLE, f.group_status(&group, 8)?))
        }),
        case("B-289", |f| {
            let flags = each(f, |container| {
                let joined = f.joined(f.address()?, container)?;
                Ok(f.group_status(&joined.group, 8)?)
            })?;
            let both = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
            Ok(Got::equal(vec![both; flags.len()], flags))
        }),
    ]
}

/// Calls on a group that is open and has joined nothing.
fn not_joined<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-290", |f| answer(ioctl_bytes(f.sys, &f.group(f.address()?)?, 0x3bff, &mut [0; 64]))),
        case("B-291", |f| answer(f.unset_container(&f.group(f.address()?)?))),
        case("B-292", |f| {
            let address = f.address()?;
            answer(opened(f.device_of(&f.group(address)?, address)))
        }),
        case("B-294", |f| answer(opened(f.device_of(&f.group(f.address()?)?, NO_DEVICE)))),
        case("B-298", |f| answer(f.set_container_number(&f.group(f.address()?)?, CLOSED))),
        case("B-299", |f| {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
            answer(f.set_container(&f.group(f.address()?)?, &null))
        }),
    ]
}

/// What `VFIO_GROUP_GET_DEVICE_FD` makes of its string.
fn names<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-293", |f| named(f, |_| NO_DEVICE.into())),
        case("B-295", |f| named(f, |name| format!("{name}x"))),
        case("B-296", |f| named(f, |name| format!("{name} junk"))),
        case("B-297", |f| named(f, |_| "a".repeat(4999))),
        case("B-324", |f| named(f, |name| format!("{name}   "))),
        case("B-325", |f| named(f, |name| format!("{name} vf_token=12345678-1234-1234-1234-123456789abc"))),
        case("B-326", |f| named(f, |name| format!("{name} vf_token=1234"))),
    ]
}

fn joining<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-300", |f| {
            with_each(f, f.address()?, |joined| Ok(f.set_container(&joined.group, &joined.container)))
        }),
        case("B-303", |f| answer(opened(f.joined(f.address()?, Container::Native)?.device()))),
        case("B-304", |f| {
            let device = f.usable(f.address()?, Container::Native)?.device()?;
            let flags = fcntl_getfd(device.as_fd())?;
            Ok(Got::truth("the descriptor is closed on exec", flags, flags.contains(FdFlags::CLOEXEC)))
        }),
        case("B-305", |f| {
            let joined = f.usable(f.address()?, Container::Native)?;
            let _device = joined.device()?;
            answer(joined.leave())
        }),
        case("B-650", |f| without_capability(f, &f.usable(f.address()?, Container::Native)?)),
    ]
}

fn joining_iommufd<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-308", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            let _device = joined.device()?;
            answer(joined.leave())
        }),
        case("B-313", |f| answer(f.set_container(&f.group(f.address()?)?, &f.iommufd()?))),
        case("B-314", |f| {
            let (group, iommufd) = (f.group(f.address()?)?, f.iommufd()?);
            f.set_compat_ioas(&iommufd, f.ioas(&iommufd)?)?;
            answer(f.set_container(&group, &iommufd))
        }),
        case("B-315", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            f.set_compat_ioas(&joined.container, f.ioas(&joined.container)?)?;
            answer(opened(joined.device()))
        }),
        case("B-316", |f| without_capability(f, &f.joined(f.address()?, Container::Iommufd)?)),
        case("B-317", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            f.ioas(&joined.container)?;
            answer(opened(joined.device()))
        }),
        case("B-320", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            answer(opened(f.compat_ioas(&joined.container)))
        }),
        case("B-321", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            answer(opened(f.compat_ioas(&joined.container)))
        }),
        case("B-322", |f| {
            let joined = f.joined(f.address()?, Container::Iommufd)?;
            let _device = joined.device()?;
            answer(f.destroy(&joined.container, 1))
        }),
    ]
}

fn devices<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-311", |f| {
            with_each(f, f.address()?, |joined| {
                let _first = joined.device()?;
                Ok(opened(joined.device()))
            })
        }),
        case("B-312", |f| {
            with_each(f, f.address()?, |joined| {
                let (first, second) = (joined.device()?, joined.device()?);
                drop(first);
                Ok(opened(f.device_info(&second)))
            })
        }),
    ]
}

/// What keeps a group in use, and what a group in use refuses.
fn lifetimes<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-306", |f| reopen_group(f, Container::Native)),
        case("B-307", |f| bind_without_group(f, Container::Native)),
        case("B-309", |f| reopen_group(f, Container::Iommufd)),
        case("B-310", |f| bind_without_group(f, Container::Iommufd)),
        case("B-651", |f| {
            with_each(f, f.address()?, |joined| {
                let _device = joined.device()?;
                Ok(f.bind(&f.open_at(joined.address)?, &f.iommufd()?))
            })
        }),
    ]
}

/// Groups with and without an IOMMU and one container.
fn mixed<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-301", |f| join_after(f, f.iommu_address()?, f.noiommu_address()?, Container::Native)),
        case("B-302", |f| join_after(f, f.noiommu_address()?, f.iommu_address()?, Container::Native)),
        case("B-318", |f| join_after(f, f.noiommu_address()?, f.iommu_address()?, Container::Iommufd)),
        case("B-319", |f| {
            let (second, first) = (f.iommu_address()?, f.noiommu_address()?);
            let joined = f.joined(first, Container::Iommufd)?;
            joined.leave()?;
            answer(f.set_container(&f.group(second)?, &joined.container))
        }),
        case("B-652", |f| join_after(f, f.iommu_address()?, f.noiommu_address()?, Container::Iommufd)),
    ]
}

/// A second group joins the container that a first one is in.
fn join_after<'a, S: Suite>(
    f: &Fixture<'a, S>,
    first: &'a str,
    second: &str,
    container: Container,
) -> Outcome {
    let joined = f.joined(first, container)?;
    answer(f.set_container(&f.group(second)?, &joined.container))
}

fn open<S: Suite>(f: &Fixture<S>, address: &str) -> Outcome {
    let path = f.group_path(address)?;
    answer(opened(f.sys.open(&path, Access::ReadWrite)))
}

fn open_without_capability<S: Suite>(f: &Fixture<S>, address: &str) -> Outcome {
    let path = f.group_path(address)?;
    answer(f.sys.as_caller(&caller(&[], None), |sys| opened(sys.open(&path, Access::ReadWrite)))?)
}

/// Somebody without capabilities asks a usable group for its device.
fn without_capability<S: Suite>(f: &Fixture<S>, joined: &Joined<S>) -> Outcome {
    answer(f.sys.as_caller(&caller(&[], None), |sys| {
        opened(Fixture::new(sys, f.target).device_of(&joined.group, joined.address))
    })?)
}

/// Asks the first device's group for a device by a name that is made of the right one.
fn named<S: Suite>(f: &Fixture<S>, name: fn(&str) -> String) -> Outcome {
    with_each(f, f.address()?, |joined| Ok(opened(joined.named(&name(joined.address)))))
}

/// A row that does not say which container a group has joined: it holds with each one there is.
fn with_each<'a, S: Suite>(
    f: &Fixture<'a, S>,
    address: &'a str,
    ask: impl Fn(&Joined<'a, S>) -> Way<Result<u32>>,
) -> Outcome {
    Ok(Got::alike(each(f, |container| ask(&f.usable(address, container)?))?))
}

fn each<S: Suite, T>(f: &Fixture<S>, ask: impl Fn(Container) -> Way<T>) -> Way<Vec<T>> {
    f.containers()?.into_iter().map(ask).collect()
}

/// A device file that a group has given out, and the container; the group's own file is closed.
fn device_alone<'a, S: Suite>(
    f: &Fixture<'a, S>,
    address: &'a str,
    container: Container,
) -> Way<(S::File, S::File)> {
    let joined = f.usable(address, container)?;
    Ok((joined.device()?, joined.container))
}

fn reopen_group<S: Suite>(f: &Fixture<S>, container: Container) -> Outcome {
    let address = f.address()?;
    let _alone = device_alone(f, address, container)?;
    open(f, address)
}

fn bind_without_group<S: Suite>(f: &Fixture<S>, container: Container) -> Outcome {
    let address = f.address()?;
    let _alone = device_alone(f, address, container)?;
    answer(f.bind(&f.open_at(address)?, &f.iommufd()?))
}
