//! COPY.

use sys::Suite;
use uapi::iommufd::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::Pages;
use crate::outcome::{Got, Way};
use crate::space::{P, RW, Space, UNKNOWN};

/// Where copies go.
const COPY: u64 = 0x10_0000;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = checks();
    cases.extend(pieces());
    cases.extend(pinned());
    cases
}

fn checks<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-500", |f| answer(with_map(f)?.copy_with(|copy| copy.length = 0))),
        case("B-501", |f| answer(with_map(f)?.copy_with(|copy| copy.length = 2 * P))),
        case("B-504", |f| {
            let space = f.space()?;
            space.map_with(|map| map.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE)?;
            answer(space.copy_with(|_| ()))
        }),
        case("B-505", |f| answer(with_map(f)?.copy_with(|_| ()))),
        case("B-506", |f| {
            let space = with_map(f)?;
            space.map(COPY, P)?;
            answer(space.copy_with(|_| ()))
        }),
        case("B-507", |f| answer(with_map(f)?.copy_with(|copy| copy.flags = 0))),
        case("B-508", |f| answer(with_map(f)?.copy_with(|copy| copy.src_ioas_id = UNKNOWN))),
        case("B-509", |f| {
            answer(with_map(f)?.copy_with(|copy| (copy.flags, copy.dst_iova) = (RW, u64::MAX)))
        }),
    ]
}

/// Copies that begin or end in the middle of a mapping, or span several.
fn pieces<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-499", |f| {
            let source = f.space()?;
            source.map(0x10000, 4 * P)?;
            let target = source.another()?;
            let copied = source.copy_with(|copy| {
                (copy.dst_ioas_id, copy.src_iova, copy.length) = (target.id, 0x11000, 2 * P);
            });
            Ok(Got::from(copied).provided(Got::equal(2 * P, target.unmap(COPY, 2 * P)?)))
        }),
        case("B-502", |f| {
            let space = with_map(f)?;
            space.map(0x2000, P)?;
            let copied = space.copy_with(|copy| copy.length = 2 * P);
            // Two mappings can be unmapped one by one.
            Ok(Got::from(copied)
                .provided(Got::equal((P, P), (space.unmap(COPY, P)?, space.unmap(COPY + P, P)?))))
        }),
        case("B-503", |f| {
            let space = with_map(f)?;
            space.map(0x3000, P)?;
            answer(space.copy_with(|copy| copy.length = 3 * P))
        }),
    ]
}

fn pinned<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-510", |f| {
            let second = f.nth_address(1)?;
            let source = f.attached_space()?;
            source.map(P, P)?;
            let target = source.another()?;
            let device = f.open_at(second)?;
            f.bind(&device, source.iommufd())?;
            f.attach(&device, target.id)?;
            let before = source.vm_pin()?;
            source.copy_with(|copy| copy.dst_ioas_id = target.id)?;
            target.get_pa(COPY, P)?;
            Ok(Got::equal(0, source.vm_pin()? - before))
        }),
        case("B-511", |f| {
            let target = f.attached_space()?;
            let source = target.another()?;
            source.map(P, P)?;
            source.copy_with(|copy| copy.dst_ioas_id = target.id)?;
            let before = target.get_pa(COPY, P)?;
            source.unmap(P, P)?;
            let after = target.get_pa(COPY, P);
            let same = Got::equal(Some(before), after.as_ref().ok().copied());
            Ok(Got::from(after.map(|_| 0u32)).provided(same))
        }),
        case("B-512", |f| {
            let target = f.attached_space()?;
            let source = target.another()?;
            source.map(P, 16 * P)?;
            let before = target.vm_pin()?;
            let copied = source.copy_with(|copy| copy.dst_ioas_id = target.id);
            Ok(Got::from(copied).provided(Got::equal(4, target.vm_pin()? - before)))
        }),
        case("B-513", |f| {
            let memory = Pages::new(2 * P as usize)?;
            let target = f.attached_space()?;
            let source = target.another()?;
            source.map_at(0x1_0000, memory.address(), 2 * P)?;
            answer(source.copy_with(|copy| (copy.dst_ioas_id, copy.src_iova) = (target.id, 0x1_0010)))
        }),
    ]
}

/// An IOAS with one page mapped at 0x1000.
fn with_map<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.space()?;
    space.map(P, P)?;
    Ok(space)
}
