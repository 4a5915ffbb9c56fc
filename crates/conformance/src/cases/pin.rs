//! MAP: pinning, and what pinned memory is accounted to.

use sys::{Creds, Mapping, Suite};
use uapi::iommufd::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{NOWHERE, PAGE, Pages, Protection};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::space::{P, Space, caller};

const MIB: usize = 1 << 20;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = pinnable();
    cases.extend(limited());
    cases.extend(counted());
    cases
}

fn pinnable<S: Suite>() -> Vec<Case<S>> {
    const READ: u32 = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE;
    const WRITE: u32 = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE;
    vec![
        case("B-466", |f| {
            let space = f.attached_space()?;
            let refused = space.map_at(P, NOWHERE, P);
            let again = space.map(P, P);
            Ok(Got::from(refused).provided(Got::truth("the IOVA is free", &again, again.is_ok())))
        }),
        case("B-467", |f| map_protected(f, Protection::ReadOnly, WRITE)),
        case("B-468", |f| map_protected(f, Protection::ReadOnly, READ)),
        case("B-469", map_bar),
        case("B-669", |f| answer(f.attached_space()?.map_at(P, 0xffff_8880_0000_0000, P))),
        case("B-670", |f| map_protected(f, Protection::None, READ)),
        case("B-672", |f| {
            let pages = Pages::new(PAGE)?;
            let space = f.attached_space()?;
            let [zero] = pages.read(0);
            space.map_with(|map| (map.flags, map.user_va) = (READ, pages.address()))?;
            let (pinned, _) = space.get_pa(P, P)?;
            pages.write(0, &[zero + 1]);
            Ok(Got::equal(pinned, space.physical(pages.address())?))
        }),
    ]
}

fn limited<S: Suite>() -> Vec<Case<S>> {
    const LIMIT: Option<u64> = Some(64 << 10);
    vec![
        case("B-470", |f| map_mib(f.attached_space(), &caller(&[], LIMIT))),
        case("B-471", |f| {
            let memory = Pages::new(MIB)?;
            let space = f.attached_space()?;
            let (too_much, a_page) = space.as_caller(&caller(&[], LIMIT), |space| {
                (space.map_at(P, memory.address(), MIB as u64), space.map_at(P, memory.address(), P))
            })?;
            Ok(Got::from(a_page).provided(Got::truth("the first map fails", &too_much, too_much.is_err())))
        }),
        case("B-472", |f| map_mib(f.attached_space(), &caller(&["CAP_IPC_LOCK"], Some(0)))),
        case("B-682", |f| map_mib(f.attached_space_by_process(), &caller(&["CAP_IPC_LOCK"], LIMIT))),
        case("B-683", |f| map_mib(f.attached_space_by_process(), &caller(&[], LIMIT))),
    ]
}

/// In KiB of `VmPin`.
fn counted<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-473", |f| {
            let space = f.attached_space()?;
            let before = space.vm_pin()?;
            space.map(0x10000, 16 * P)?;
            Ok(Got::equal(64, space.vm_pin()? - before))
        }),
        case("B-474", |f| {
            let space = f.attached_space()?;
            space.map(0x10000, 16 * P)?;
            let before = space.vm_pin()?;
            space.detach()?;
            let unpinned = Got::equal(64, before - space.vm_pin()?);
            Ok(unpinned.provided(Got::equal(16 * P, space.unmap(0, u64::MAX)?)))
        }),
        case("B-475", |f| {
            let space = f.attached_space()?;
            let before = space.vm_pin()?;
            space.map(0x10000, 16 * P)?;
            space.map(0x20000, 16 * P)?;
            Ok(Got::equal(2 * 64, space.vm_pin()? - before))
        }),
    ]
}

fn map_protected<S: Suite>(f: &Fixture<S>, protection: Protection, flags: u32) -> Outcome {
    let pages = Pages::aligned(PAGE, PAGE, protection)?;
    let space = f.attached_space()?;
    answer(space.map_with(|map| (map.flags, map.user_va) = (flags, pages.address())))
}

fn map_bar<S: Suite>(f: &mut Fixture<S>) -> Outcome {
    let space = f.attached_space()?;
    let bar = f.mappable_bar(space.device()?)?;
    let registers = f.sys.map_region(space.device()?, Mapping::registers(bar.offset, PAGE))?;
    let address =
        registers.address().ok_or_else(|| Stop::NotApplicable("mapped registers have no address".into()))?;
    answer(space.map_at(P, address.as_ptr() as u64, P))
}

/// Maps a MiB as somebody.
fn map_mib<S: Suite>(space: Way<Space<S>>, creds: &Creds) -> Outcome {
    // The memory is unmapped last.
    let memory = Pages::new(MIB)?;
    let space = space?;
    answer(space.as_caller(creds, |space| space.map_at(P, memory.address(), MIB as u64))?)
}
