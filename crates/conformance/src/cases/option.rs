//! OPTION.

use std::path::Path;

use sys::{Access, Result, Suite};
use uapi::Command;
use uapi::iommufd::*;

use super::{answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Way};
use crate::run::Case;
use crate::space::{P, Space, UNKNOWN, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = rlimit_mode();
    cases.extend(huge_pages());
    cases
}

fn rlimit_mode<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-554", |f| Ok(Got::equal(0, get(f, &f.iommufd()?, IOMMU_OPTION_RLIMIT_MODE, 0)?))),
        case("B-555", |f| {
            f.needs_option("IOMMUFD_VFIO_CONTAINER")?;
            let container = f.sys.open(Path::new("/dev/vfio/vfio"), Access::ReadWrite)?;
            Ok(Got::equal(1, get(f, &container, IOMMU_OPTION_RLIMIT_MODE, 0)?))
        }),
        case("B-556", |f| {
            let iommufd = f.iommufd()?;
            let set = as_resource_manager(f, |f| set(f, &iommufd, |option| option.val64 = 1))?;
            Ok(Got::from(set).provided(Got::equal(1, get(f, &iommufd, IOMMU_OPTION_RLIMIT_MODE, 0)?)))
        }),
        case("B-557", |f| {
            let iommufd = f.iommufd()?;
            let nobody = caller(&[], None);
            let target = f.target;
            answer(f.sys.as_caller(&nobody, |sys| {
                set(&Fixture::new(sys, target), &iommufd, |option| option.val64 = 1)
            })?)
        }),
        case("B-558", |f| {
            let space = f.space()?;
            answer(as_resource_manager(f, |f| set(f, space.iommufd(), |option| option.val64 = 1))?)
        }),
        case("B-559", |f| {
            let iommufd = f.iommufd()?;
            answer(as_resource_manager(f, |f| set(f, &iommufd, |option| option.val64 = 2))?)
        }),
        case("B-560", |f| answer(set(f, &f.iommufd()?, |option| option.object_id = 1))),
        case("B-561", |f| answer(set(f, &f.iommufd()?, |option| option.option_id = 7))),
        case("B-562", |f| answer(set(f, &f.iommufd()?, |option| option.op = 2))),
    ]
}

fn huge_pages<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-563", |f| {
            let space = f.space()?;
            Ok(Got::equal(1, get(f, space.iommufd(), IOMMU_OPTION_HUGE_PAGES, space.id)?))
        }),
        case("B-564", |f| answer(get(f, &f.iommufd()?, IOMMU_OPTION_HUGE_PAGES, UNKNOWN))),
        case("B-565", |f| answer(f.space()?.huge_pages(2))),
        case("B-566", |f| {
            let space = f.space()?;
            space.map(P, 100)?;
            answer(space.huge_pages(0))
        }),
        case("B-567", |f| {
            let space = f.space()?;
            space.huge_pages(0)?;
            Ok(Got::equal(4096, space.alignment()))
        }),
        case("B-568", |f| {
            let space = f.attached_space()?;
            space.map(P, P)?;
            answer(space.huge_pages(0))
        }),
        case("B-569", |f| answer(f.attached_space()?.huge_pages(0))),
        case("B-701", |f| answer(attached_without_huge_pages(f)?.huge_pages(0))),
        case("B-702", |f| answer(attached_without_huge_pages(f)?.huge_pages(1))),
    ]
}

/// Reads an option.
fn get<S: Suite>(f: &Fixture<S>, iommufd: &S::File, option_id: u32, object_id: u32) -> Result<u64> {
    let op = IOMMU_OPTION_OP_GET as u16;
    let mut option = IommuOption { option_id, op, object_id, val64: u64::MAX, ..IommuOption::new() };
    f.call(iommufd, &mut option)?;
    Ok(option.val64)
}

/// Sets `RLIMIT_MODE` to 0, with the changes that a row wants.
fn set<S: Suite>(f: &Fixture<S>, iommufd: &S::File, change: impl FnOnce(&mut IommuOption)) -> Result<u32> {
    let mut option = IommuOption { op: IOMMU_OPTION_OP_SET as u16, ..IommuOption::new() };
    change(&mut option);
    f.call(iommufd, &mut option)
}

/// Does something as somebody who has CAP_SYS_RESOURCE.
fn as_resource_manager<S: Suite, R>(f: &Fixture<S>, ask: impl FnOnce(&Fixture<S>) -> R) -> Way<R> {
    Ok(f.sys.as_caller(&caller(&["CAP_SYS_RESOURCE"], None), |sys| ask(&Fixture::new(sys, f.target)))?)
}

/// An IOAS with a mapping, without large pages, and with a device attached.
fn attached_without_huge_pages<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.attached_space()?;
    space.huge_pages(0)?;
    space.map(P, P)?;
    Ok(space)
}
