//! MAP: where the system places a mapping that has no fixed IOVA, and which IOVAs it says are usable.

use sys::Suite;
use uapi::Errno;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{PAGE, Pages, Protection};
use crate::outcome::{Got, Outcome, Way};
use crate::space::{P, Ranges, Space};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// The list that most rows about allowed IOVAs start from.
const ALLOWED: (u64, u64) = (0x10_0000, 0x1f_ffff);

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = natural();
    cases.extend(allowed());
    cases.extend(ranges());
    cases
}

/// The alignment that the memory itself has.
fn natural<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-443", |f| placed(f, 0x1000, PAGE, PAGE)),
        case("B-444", |f| placed(f, 0x10000, 16 * PAGE, 16 * PAGE)),
        case("B-445", |f| {
            let (memory, space) = (Pages::new(PAGE)?, f.space()?);
            space.place(space.va(), 16 * P)?;
            Ok(Got::equal(0x1000, space.place(memory.address(), P)?))
        }),
        case("B-446", |f| {
            f.needs_transparent_huge_pages()?;
            placed(f, 0x20_0000, 2 * MIB, 2 * MIB)
        }),
        case("B-447", |f| {
            f.needs_transparent_huge_pages()?;
            placed(f, 0x20_0000, GIB, GIB)
        }),
        case("B-448", |f| placed(f, 0x1000, 3 * PAGE, PAGE)),
        case("B-449", |f| placed(f, 0x4000, 3 * PAGE, 4 * PAGE)),
        case("B-675", |f| placed_after_100_bytes(f, 0x10, 0x1070)),
        case("B-676", |f| placed_after_100_bytes(f, 0x23, 0x1067)),
    ]
}

fn allowed<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-450", |f| {
            let space = with_list(f)?;
            Ok(Got::equal(0x10_0000, space.place(space.va(), P)?))
        }),
        case("B-451", |f| answer(with_list(f)?.map(0x1000, P))),
        case("B-452", |f| {
            let space = f.space()?;
            space.allow(&[(0x10_0000, 0x10_0fff)])?;
            space.place(space.va(), P)?;
            answer(space.place(space.va(), P))
        }),
        case("B-453", |f| answer(f.space()?.allow(&[(0x1000, 0x1000)]))),
        case("B-454", |f| {
            let space = with_list(f)?;
            let refused = space.allow(&[(0x1000, 0x2fff), (0x2000, 0x3fff)]);
            Ok(Got::from(refused).provided(Got::equal(0x10_0000, space.place(space.va(), P)?)))
        }),
        case("B-455", |f| {
            let space = with_list(f)?;
            let cleared = space.allow(&[]);
            Ok(Got::from(cleared).provided(Got::equal(0x10000, space.place(space.va(), 16 * P)?)))
        }),
    ]
}

fn ranges<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-456", |f| Ok(Got::equal((everything(1), None), f.space()?.ranges_in(1)))),
        case("B-457", |f| {
            let (told, errno) = f.space()?.ranges_in(0);
            Ok(Got::equal((Some(Errno::EMSGSIZE), 1), (errno, told.total)))
        }),
        case("B-458", |f| Ok(Got::equal((everything(4096), None), f.attached_space()?.ranges_in(1)))),
        case("B-459", |f| {
            let space = f.attached_space()?;
            let attached = space.alignment();
            space.detach()?;
            Ok(Got::equal((4096, 1), (attached, space.alignment())))
        }),
    ]
}

/// Where memory of a length, at a multiple of `align` and of no more, goes in an empty IOAS.
fn placed<S: Suite>(f: &Fixture<S>, expected: u64, length: usize, align: usize) -> Outcome {
    let memory = Pages::aligned(length, align, Protection::ReadWrite)?;
    Ok(Got::equal(expected, f.space()?.place(memory.address(), length as u64)?))
}

fn placed_after_100_bytes<S: Suite>(f: &Fixture<S>, offset: u64, expected: u64) -> Outcome {
    let space = f.space()?;
    space.map(0x1000, 100)?;
    Ok(Got::equal(expected, space.place(space.va() + offset, 64)?))
}

fn with_list<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.space()?;
    space.allow(&[ALLOWED])?;
    Ok(space)
}

/// The one range of an IOAS that nothing is reserved in.
fn everything(alignment: u64) -> Ranges {
    Ranges { ranges: vec![(0, u64::MAX)], total: 1, alignment }
}
