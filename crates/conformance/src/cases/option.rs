//! OPTION: options of a context and of its IOASes, the IOAS that containers use, and the process that memory is
//! accounted to.

use std::os::fd::AsRawFd;

use sys::{Result, Suite};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::VfioIommuType1DmaUnmap;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::memfd;
use crate::outcome::{Got, Stop, Way};
use crate::space::{P, Space, UNKNOWN, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = rlimit_mode();
    cases.extend(huge_pages());
    cases.extend(container_ioas());
    cases.extend(change_process());
    cases
}

fn rlimit_mode<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-554", |f| Ok(Got::equal(0, get(f, &f.iommufd()?, IOMMU_OPTION_RLIMIT_MODE, 0)?))),
        case("B-555", |f| {
            if !f.iommufd_is_container()? {
                return Err(Stop::NotApplicable("VFIO itself provides /dev/vfio/vfio".into()));
            }
            let container = f.container_node()?;
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

/// `IOMMU_VFIO_IOAS`, and what the context then does as a container.
fn container_ioas<S: Suite>() -> Vec<Case<S>> {
    const GET: u32 = IOMMU_VFIO_IOAS_GET;
    vec![
        case("B-570", |f| answer(f.vfio_ioas(&f.iommufd()?, GET, 0))),
        case("B-571", |f| {
            let space = f.space()?;
            f.vfio_ioas(space.iommufd(), IOMMU_VFIO_IOAS_SET, space.id)?;
            Ok(Got::equal(space.id, f.vfio_ioas(space.iommufd(), GET, 0)?))
        }),
        case("B-572", |f| {
            let space = f.space()?;
            f.vfio_ioas(space.iommufd(), IOMMU_VFIO_IOAS_SET, space.id)?;
            space.destroy()?;
            answer(f.vfio_ioas(space.iommufd(), GET, 0))
        }),
        case("B-573", |f| answer(f.vfio_ioas(&f.iommufd()?, 3, 0))),
        case("B-574", |f| answer(f.vfio_ioas(&f.iommufd()?, IOMMU_VFIO_IOAS_CLEAR, 0))),
        case("B-575", |f| {
            let space = f.space()?;
            f.vfio_ioas(space.iommufd(), IOMMU_VFIO_IOAS_SET, space.id)?;
            let mut unmap = VfioIommuType1DmaUnmap { iova: P, size: P, ..VfioIommuType1DmaUnmap::new() };
            f.call(space.iommufd(), &mut unmap)?;
            Ok(Got::equal(0, unmap.size))
        }),
    ]
}

fn change_process<S: Suite>() -> Vec<Case<S>> {
    fn change<S: Suite>(f: &Fixture<S>, space: &Space<S>) -> Result<u32> {
        f.call(space.iommufd(), &mut IommuIoasChangeProcess::new())
    }
    vec![
        case("B-576", |f| answer(change(f, &f.space()?))),
        case("B-577", |f| {
            let space = f.space()?;
            space.map(P, P)?;
            answer(change(f, &space))
        }),
        case("B-578", |f| {
            let (file, space) = (memfd(P)?, f.space()?);
            space.map_file_with(file.as_raw_fd(), |_| ())?;
            answer(change(f, &space))
        }),
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
