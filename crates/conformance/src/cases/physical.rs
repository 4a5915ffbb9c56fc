//! GETPA: the addresses themselves, and how far memory is contiguous there.

use sys::{Memory, MemoryOptions, PageSize, Suite};

use crate::case::{Case, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::space::{P, Space};

const HUGE: u64 = 2 << 20;

/// Where huge pages are mapped.
const AT: u64 = 0x20_0000;

/// The last page of all IOVAs.
const LAST_PAGE: u64 = u64::MAX - 0xfff;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = small_pages();
    cases.extend(huge_pages());
    cases.extend(ends());
    cases
}

fn small_pages<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-525", |f| one_page(f, (0x1000, 4096), (0, 4096))),
        case("B-526", |f| one_page(f, (0x1234, 1), (0x234, 1))),
        case("B-527", |f| one_page(f, (0x1800, 0x10000), (0x800, 0x800))),
        case("B-528", |f| one_page(f, (0x1fff, 16), (0xfff, 1))),
        case("B-533", |f| {
            const PAGES: u64 = 64;
            let memory = allocate(f, PageSize::Base, PAGES * P)?;
            let space = f.attached_space()?;
            space.map_at(P, va(&memory), PAGES * P)?;
            let addresses: Vec<u64> =
                (0..PAGES).map(|page| space.physical(va(&memory) + page * P)).collect::<Way<_>>()?;
            let runs = (0..PAGES).map(|page| {
                let rest = &addresses[page as usize..];
                let contiguous = rest.windows(2).take_while(|pair| pair[1] == pair[0] + P).count();
                (rest[0], (contiguous as u64 + 1) * P)
            });
            let expected: Vec<_> = runs.collect();
            let told: Vec<_> =
                (0..PAGES).map(|page| space.get_pa(P + page * P, PAGES * P)).collect::<sys::Result<_>>()?;
            Ok(Got::equal(expected, told))
        }),
        case("B-693", |f| {
            let memory = allocate(f, PageSize::Base, P)?;
            let space = f.attached_space()?;
            space.map_at(P, va(&memory), P)?;
            let before = space.get_pa(P, P)?;
            drop(memory);
            Ok(Got::equal(before, space.get_pa(P, P)?))
        }),
    ]
}

fn huge_pages<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-529", |f| one_huge_page(f, (AT, HUGE), (0, HUGE))),
        case("B-530", |f| one_huge_page(f, (AT, 0x3000), (0, 0x3000))),
        case("B-531", |f| one_huge_page(f, (AT + 0x800, HUGE), (0x800, 0x1f_f800))),
        case("B-532", |f| one_huge_page(f, (AT, u64::MAX - 1), (0, HUGE))),
        case("B-534", |f| {
            let memory = huge_page(f)?;
            let space = f.attached_space()?;
            space.map_at(AT, va(&memory), HUGE / 2)?;
            space.map_at(AT + HUGE / 2, va(&memory) + HUGE / 2, HUGE / 2)?;
            let (_, first) = space.get_pa(AT, HUGE)?;
            Ok(Got::equal(HUGE / 2, first))
        }),
        case("B-541", |f| {
            let memory = huge_page(f)?;
            let space = f.bound_space()?;
            space.huge_pages(0)?;
            space.attach()?;
            space.map_at(AT, va(&memory), HUGE)?;
            told(&space, &memory, (AT, HUGE), (0, HUGE))
        }),
    ]
}

/// The end of the address space.
fn ends<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-691", |f| last_page(f, (u64::MAX - 1, 1), (0xffe, 1))),
        case("B-692", |f| last_page(f, (LAST_PAGE, u64::MAX), (0, 4096))),
    ]
}

/// One page is mapped at 0x1000 and asked for; what is expected is the distance from the start of the page, and a length.
fn one_page<S: Suite>(f: &Fixture<S>, query: (u64, u64), expected: (u64, u64)) -> Outcome {
    one(f, allocate(f, PageSize::Base, P)?, P, query, expected)
}

fn last_page<S: Suite>(f: &Fixture<S>, query: (u64, u64), expected: (u64, u64)) -> Outcome {
    one(f, allocate(f, PageSize::Base, P)?, LAST_PAGE, query, expected)
}

fn one_huge_page<S: Suite>(f: &Fixture<S>, query: (u64, u64), expected: (u64, u64)) -> Outcome {
    one(f, huge_page(f)?, AT, query, expected)
}

fn one<S: Suite>(
    f: &Fixture<S>,
    memory: Memory,
    iova: u64,
    query: (u64, u64),
    expected: (u64, u64),
) -> Outcome {
    let space = f.attached_space()?;
    space.map_at(iova, va(&memory), memory.length() as u64)?;
    told(&space, &memory, query, expected)
}

fn told<S: Suite>(space: &Space<S>, memory: &Memory, query: (u64, u64), expected: (u64, u64)) -> Outcome {
    let (distance, length) = expected;
    let start = space.physical(va(memory))?;
    Ok(Got::equal((start + distance, length), space.get_pa(query.0, query.1)?))
}

fn va(memory: &Memory) -> u64 {
    memory.start().as_ptr() as u64
}

fn allocate<S: Suite>(f: &Fixture<S>, page_size: PageSize, length: u64) -> Way<Memory> {
    Ok(f.sys.allocate(&MemoryOptions { length: length as usize, page_size, highest: u64::MAX })?)
}

fn huge_page<S: Suite>(f: &Fixture<S>) -> Way<Memory> {
    allocate(f, PageSize::Huge2M, HUGE)
        .map_err(|_| Stop::NotApplicable("the system has no huge page to give".into()))
}
