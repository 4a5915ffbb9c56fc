//! MAP: the checks of `IOMMU_IOAS_MAP`, in their order, and mappings at fixed IOVAs.

use sys::Suite;
use uapi::iommufd::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{NOWHERE, PAGE, Pages};
use crate::outcome::{Got, Stop, Way};
use crate::process::Child;
use crate::space::{P, RW, Space, UNKNOWN};

/// The last page of all IOVAs.
const LAST_PAGE: u64 = u64::MAX - 0xfff;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = fields();
    cases.extend(fixed());
    cases.extend(aligned());
    cases.extend(behind_iommu());
    cases.extend(processes());
    cases
}

fn fields<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-429", |f| answer(f.space()?.map_with(|map| map.flags = 0))),
        case("B-430", |f| answer(f.space()?.map_with(|map| map.flags = IOMMU_IOAS_MAP_FIXED_IOVA))),
        case("B-431", |f| answer(f.space()?.map_with(|map| map.flags = 8))),
        case("B-432", |f| answer(f.space()?.map_with(|map| map.reserved = 1))),
        case("B-433", |f| answer(f.space()?.map_with(|map| map.length = u64::MAX))),
        case("B-434", |f| answer(f.space()?.map_with(|map| (map.flags, map.iova) = (RW, u64::MAX)))),
        case("B-435", |f| answer(f.space()?.map_with(|map| map.length = 0))),
        case("B-436", |f| answer(f.space()?.map_with(|map| (map.length, map.ioas_id) = (0, UNKNOWN)))),
        case("B-437", |f| answer(f.space()?.map_with(|map| (map.user_va, map.length) = (LAST_PAGE, 2 * P)))),
        case("B-671", |f| {
            let space = f.bound_space()?;
            let devid = space.devid()?;
            answer(space.map_with(|map| map.ioas_id = devid))
        }),
    ]
}

fn fixed<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-438", |f| answer(f.space()?.map(0, P))),
        case("B-439", |f| answer(f.space()?.map(LAST_PAGE, P))),
        case("B-440", |f| answer(f.space()?.map(LAST_PAGE, 2 * P))),
        case("B-441", |f| {
            let space = f.space()?;
            space.map(0x1000, P)?;
            answer(space.map(0x1000, P))
        }),
        case("B-442", |f| {
            let space = f.space()?;
            space.map(0x1000, 2 * P)?;
            answer(space.map(0x2000, P))
        }),
    ]
}

/// What the alignment of an IOAS allows: without a page table everything, with one whole pages.
fn aligned<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-460", |f| {
            let space = f.space()?;
            answer(space.map_at(0x1001, space.va() + 1, 100))
        }),
        case("B-461", |f| answer(f.space()?.map_at(0x1000, NOWHERE, P))),
        case("B-462", |f| answer(f.attached_space()?.map(0x1000, 100))),
        case("B-463", |f| {
            let space = f.attached_space()?;
            answer(space.map_at(0x1000, space.va() + 0x10, P))
        }),
        case("B-464", |f| {
            let space = f.attached_space()?;
            answer(space.place(space.va() + 0x10, P))
        }),
        case("B-465", |f| answer(f.attached_space()?.map(0x800, P))),
    ]
}

/// What an IOMMU can translate: this is asked of one that QEMU emulates as Intel's.
fn behind_iommu<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-684", |f| {
            let space = intel_emulated(f)?;
            let all = vec![(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)];
            Ok(Got::equal(all, space.ranges_in(8).0.ranges))
        }),
        case("B-685", |f| {
            let space = f.attached_space()?;
            let last = space.ranges_in(8).0.ranges.into_iter().map(|(_, last)| last).max();
            let beyond = last.and_then(|last| last.checked_add(1));
            let beyond = beyond.ok_or_else(|| Stop::NotApplicable("the IOMMU takes every IOVA".into()))?;
            answer(space.map(beyond, P))
        }),
    ]
}

/// A mapping belongs to the IOAS, not to the process that made it; its pages stay those of the process that pinned them.
fn processes<S: Suite>() -> Vec<Case<S>> {
    let kept = case("B-673", |f: &mut Fixture<S>| {
        let memory = Pages::new(PAGE)?;
        memory.write(0, b"before");
        let space = f.attached_space()?;
        space.map_at(P, memory.address(), P)?;
        let (pinned, _) = space.get_pa(P, P)?;
        let _child = Child::new()?;
        memory.write(0, b"after");
        Ok(Got::equal(pinned, f.sys.physical_address(memory.address() as usize)?))
    });
    let shared = case("B-674", |f: &mut Fixture<S>| {
        let space = f.attached_space()?;
        let target = f.target;
        let (iommufd, id, va) = (space.iommufd(), space.id, space.va());
        let second = f.sys.second_process(|sys| {
            let mapped = Fixture::new(sys, target).map_at(iommufd, id, va, P, P);
            mapped.map(u64::from).map_err(|error| error.errno())
        });
        if let Err(errno) = second.map_err(|error| Stop::NotApplicable(error.to_string()))? {
            return Err(Stop::Broken(format!("IOAS_MAP in another process: {errno:?}")));
        }
        let query = space.get_pa_with(|_| ());
        Ok(Got::from(query).provided(Got::equal(P, space.unmap(P, P)?)))
    });
    vec![kept, shared]
}

/// An IOAS that a device behind QEMU's Intel IOMMU is attached to: it reaches 39 bits of IOVAs.
fn intel_emulated<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let version = f.text(&f.sysfs(f.address()?).join("iommu/intel-iommu/cap"))?;
    let widths = u64::from_str_radix(&version, 16).unwrap_or(0) >> 16 & 0x3f;
    if widths != 38 {
        return Err(Stop::NotApplicable("needs an Intel IOMMU of 39 bits".into()));
    }
    f.attached_space()
}
