//! HWPT: page tables that are made by name (`IOMMU_HWPT_ALLOC`), and what else is only there with an IOMMU.

use sys::{Result, Suite};
use uapi::Command;
use uapi::iommufd::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{PAGE, Pages};
use crate::outcome::{Got, Outcome, Way};
use crate::space::{P, Space, UNKNOWN};

/// The first flag that has no meaning.
const UNKNOWN_FLAG: u32 = 1 << 4;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = allocation();
    cases.extend(objects());
    cases.extend(dirty_tracking());
    cases.extend(hardware());
    cases.extend(virtual_iommus());
    cases.extend(attaching());
    cases
}

fn allocation<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-399", |f| allocate(f, |_| ())),
        case("B-400", |f| {
            let space = f.bound_space()?;
            space.map(P, P)?;
            space.page_table()?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-401", |f| allocate(f, |alloc| alloc.flags = IOMMU_HWPT_ALLOC_NEST_PARENT)),
        case("B-402", |f| allocate(f, |alloc| alloc.flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING)),
        case("B-403", |f| allocate(f, |alloc| alloc.flags = IOMMU_HWPT_ALLOC_PASID)),
        case("B-404", |f| allocate(f, |alloc| alloc.flags = UNKNOWN_FLAG)),
        case("B-407", |f| {
            let data = Pages::new(PAGE)?;
            let length = size_of::<IommuHwptVtdS1>() as u32;
            allocate(f, |alloc| {
                (alloc.data_type, alloc.data_len) = (IOMMU_HWPT_DATA_VTD_S1, length);
                alloc.data_uptr = data.address();
            })
        }),
        case("B-408", |f| allocate(f, |alloc| alloc.data_type = IOMMU_HWPT_DATA_VTD_S1)),
        case("B-409", |f| allocate(f, |alloc| alloc.data_len = 8)),
        case("B-414", |f| allocate(f, |alloc| alloc.reserved = 1)),
        case("B-428", |f| {
            let space = f.bound_space()?;
            space.map(P, 100)?;
            answer(space.page_table_with(|_| ())?)
        }),
        case("B-668", |f| {
            // Whether it can follow PASIDs is a matter of the IOMMU and its driver, not of the device.
            allocate(f, |alloc| alloc.flags = IOMMU_HWPT_ALLOC_PASID)
        }),
    ]
}

/// What page tables are made of and for.
fn objects<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-410", |f| allocate(f, |alloc| alloc.pt_id = UNKNOWN)),
        case("B-411", |f| allocate(f, |alloc| alloc.dev_id = UNKNOWN)),
        case("B-412", |f| {
            let space = f.bound_space()?;
            let pt_id = space.page_table()?;
            answer(space.page_table_with(|alloc| alloc.pt_id = pt_id)?)
        }),
        case("B-413", |f| allocate(f, |alloc| alloc.pt_id = alloc.dev_id)),
    ]
}

fn dirty_tracking<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-418", |f| {
            let (space, hwpt_id) = with_page_table(f)?;
            answer(track(f, space.iommufd(), hwpt_id))
        }),
        case("B-419", |f| {
            let space = f.space()?;
            answer(track(f, space.iommufd(), space.id))
        }),
        case("B-420", |f| dirty_bitmap(f, 0)),
        case("B-421", |f| dirty_bitmap(f, P)),
        case("B-422", |f| {
            let (space, hwpt_id) = with_page_table(f)?;
            let mut invalidate = IommuHwptInvalidate { hwpt_id, ..IommuHwptInvalidate::new() };
            answer(f.call(space.iommufd(), &mut invalidate))
        }),
    ]
}

/// `IOMMU_GET_HW_INFO`
fn hardware<S: Suite>() -> Vec<Case<S>> {
    fn ask<S: Suite>(f: &Fixture<S>, iommufd: &S::File, dev_id: u32, flags: u32) -> Result<u32> {
        f.call(iommufd, &mut IommuHwInfo { dev_id, flags, ..IommuHwInfo::new() })
    }
    vec![
        case("B-415", |f| {
            let bound = f.bound()?;
            answer(ask(f, &bound.iommufd, bound.devid, 0))
        }),
        case("B-416", |f| answer(ask(f, &f.iommufd()?, UNKNOWN, 0))),
        case("B-417", |f| answer(ask(f, &f.iommufd()?, UNKNOWN, 2))),
    ]
}

fn virtual_iommus<S: Suite>() -> Vec<Case<S>> {
    const TYPE: u32 = IOMMU_VIOMMU_TYPE_ARM_SMMUV3;
    vec![
        case("B-423", |f| {
            let (space, hwpt_id) = with_page_table(f)?;
            let dev_id = space.devid()?;
            let mut alloc = IommuViommuAlloc { type_: TYPE, dev_id, hwpt_id, ..IommuViommuAlloc::new() };
            answer(f.call(space.iommufd(), &mut alloc))
        }),
        case("B-424", |f| answer(f.call(&f.iommufd()?, &mut IommuViommuAlloc::new()))),
        case("B-425", |f| {
            let mut alloc = IommuViommuAlloc { type_: TYPE, dev_id: UNKNOWN, ..IommuViommuAlloc::new() };
            answer(f.call(&f.iommufd()?, &mut alloc))
        }),
        case("B-426", |f| {
            let mut alloc = IommuVdeviceAlloc { viommu_id: UNKNOWN, ..IommuVdeviceAlloc::new() };
            answer(f.call(&f.iommufd()?, &mut alloc))
        }),
        case("B-427", |f| {
            let type_ = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
            answer(f.call(&f.iommufd()?, &mut IommuHwQueueAlloc { type_, ..IommuHwQueueAlloc::new() }))
        }),
    ]
}

/// ATTACH to a page table that was made by name.
fn attaching<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-133", |f| {
            let (space, made) = with_page_table(f)?;
            let attached = space.attach()?;
            Ok(Got::truth("another page table", (made, attached), made != attached))
        }),
        case("B-134", |f| {
            let (space, made) = with_page_table(f)?;
            Ok(Got::equal(made, f.attach(space.device()?, made)?))
        }),
        case("B-135", |f| {
            let (space, made) = with_page_table(f)?;
            f.attach(space.device()?, made)?;
            space.detach()?;
            answer(f.destroy(space.iommufd(), made))
        }),
        case("B-136", |f| {
            let (space, made) = with_page_table(f)?;
            f.attach(space.device()?, made)?;
            answer(f.destroy(space.iommufd(), made))
        }),
        case("B-137", |f| {
            let memory = Pages::new(PAGE)?;
            let bound = f.bound()?;
            let ioas = f.ioas(&bound.iommufd)?;
            let mut alloc = IommuHwptAlloc { dev_id: bound.devid, pt_id: ioas, ..IommuHwptAlloc::new() };
            f.call(&bound.iommufd, &mut alloc)?;
            f.map_at(&bound.iommufd, ioas, memory.address(), P, P)?;
            let pinned = f.vm_pin()?;
            drop(bound.device);
            let query = f.get_pa(&bound.iommufd, ioas, P, P).map(|_| 0u32);
            let kept = f.vm_pin()?;
            f.destroy(&bound.iommufd, alloc.out_hwpt_id)?;
            let ended = f.get_pa(&bound.iommufd, ioas, P, P).is_err();
            Ok(Got::from(query).provided(Got::all([
                Got::equal(pinned, kept),
                Got::truth("no query without the page table", ended, ended),
            ])))
        }),
    ]
}

/// `IOMMU_HWPT_ALLOC` for a bound device with one change.
fn allocate<S: Suite>(f: &Fixture<S>, change: impl FnOnce(&mut IommuHwptAlloc)) -> Outcome {
    answer(f.bound_space()?.page_table_with(change)?)
}

/// An IOAS of a bound device, and a page table of it.
fn with_page_table<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(Space<'a, S>, u32)> {
    let space = f.bound_space()?;
    let hwpt = space.page_table()?;
    Ok((space, hwpt))
}

/// `IOMMU_HWPT_SET_DIRTY_TRACKING`
fn track<S: Suite>(f: &Fixture<S>, iommufd: &S::File, hwpt_id: u32) -> Result<u32> {
    let flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE;
    f.call(iommufd, &mut IommuHwptSetDirtyTracking { hwpt_id, flags, ..IommuHwptSetDirtyTracking::new() })
}

/// `IOMMU_HWPT_GET_DIRTY_BITMAP` from IOVA 0 on.
fn dirty_bitmap<S: Suite>(f: &Fixture<S>, length: u64) -> Outcome {
    let (space, hwpt_id) = with_page_table(f)?;
    let (page_size, data) = (P, space.va());
    let mut get =
        IommuHwptGetDirtyBitmap { hwpt_id, length, page_size, data, ..IommuHwptGetDirtyBitmap::new() };
    answer(f.call(space.iommufd(), &mut get))
}
