//! UNMAP.

use sys::Suite;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Way};
use crate::space::{P, Space};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = whole_mappings();
    cases.extend(everything());
    cases.extend(pinned());
    cases
}

fn whole_mappings<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-484", |f| Ok(Got::equal(0x2000, with_map(f, 0x1000, 0x2000)?.unmap(0x1000, 0x2000)?))),
        case("B-485", |f| answer(with_map(f, 0x1000, 0x2000)?.unmap(0x1000, 0x1000))),
        case("B-486", |f| answer(with_map(f, 0x1000, 0x2000)?.unmap(0x2000, 0x1000))),
        case("B-487", |f| Ok(Got::equal(0x1000, with_map(f, 0x2000, 0x1000)?.unmap(0x1000, 0x3000)?))),
        case("B-488", |f| answer(with_two_maps(f)?.unmap(0x1000, 0x2000))),
        case("B-489", |f| {
            let space = with_two_maps(f)?;
            let partial = space.unmap(0x1000, 0x2000);
            let again = space.map(0x1000, P);
            Ok(Got::from(again).provided(Got::truth("the unmap fails", &partial, partial.is_err())))
        }),
        case("B-490", |f| answer(f.space()?.unmap(0x1000, 0x1000))),
        case("B-686", |f| answer(with_map(f, 0x10_0000, 0x1000)?.unmap(0x10_0001, 0x1000))),
        case("B-494", |f| answer(with_map(f, 0x1000, 0x1000)?.unmap(0x1000, 0))),
        case("B-495", |f| answer(f.space()?.unmap(u64::MAX - 0xfff, 0x2000))),
        case("B-496", |f| answer(f.unmap(&f.iommufd()?, 99, 0x1000, 0))),
    ]
}

fn everything<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-491", |f| answer(f.space()?.unmap(0, u64::MAX))),
        case("B-492", |f| {
            let space = f.space()?;
            for (iova, length) in [(0, P), (0x10_0000, 3 * P), (u64::MAX - 0xfff, P)] {
                space.map(iova, length)?;
            }
            Ok(Got::equal(5 * P, space.unmap(0, u64::MAX)?))
        }),
        case("B-493", |f| answer(with_map(f, 0x1000, 0x1000)?.unmap(0x1000, u64::MAX))),
    ]
}

fn pinned<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-497", |f| {
            let space = attached_with_map(f)?;
            space.get_pa(0x10000, P)?;
            space.unmap(0x10000, 16 * P)?;
            answer(space.get_pa(0x10000, P).map(|(address, _)| address))
        }),
        case("B-498", |f| {
            let space = attached_with_map(f)?;
            let before = space.vm_pin()?;
            space.unmap(0x10000, 16 * P)?;
            Ok(Got::equal(64, before - space.vm_pin()?))
        }),
    ]
}

fn with_map<'a, S: Suite>(f: &Fixture<'a, S>, iova: u64, length: u64) -> Way<Space<'a, S>> {
    let space = f.space()?;
    space.map(iova, length)?;
    Ok(space)
}

fn with_two_maps<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = with_map(f, 0x1000, 0x1000)?;
    space.map(0x2000, 0x2000)?;
    Ok(space)
}

fn attached_with_map<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.attached_space()?;
    space.map(0x10000, 16 * P)?;
    Ok(space)
}
