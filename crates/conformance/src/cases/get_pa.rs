//! GETPA: the order of the checks of `IOMMU_IOAS_NOIOMMU_GET_PA`, and which IOASes have physical addresses to tell.

use sys::{Result, Suite};
use uapi::iommufd::*;
use uapi::{Command, Errno};
use zerocopy::IntoBytes;

use crate::call::ioctl_bytes;
use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Stop, Way};
use crate::space::{P, Space, UNKNOWN, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = fields();
    cases.extend(ioases());
    cases.extend(page_tables());
    cases
}

fn fields<S: Suite>() -> Vec<Case<S>> {
    const RAWIO: &[&str] = &["CAP_SYS_RAWIO"];
    vec![
        case("B-514", |f| answer(as_who(&f.telling_space()?, &[], |get| (get.flags, get.length) = (1, 0))?)),
        case("B-515", |f| answer(as_who(&f.space()?, RAWIO, |get| get.flags = 1)?)),
        case("B-516", |f| answer(as_who(&f.space()?, RAWIO, |get| get.reserved = 1)?)),
        case("B-517", |f| answer(as_who(&f.space()?, RAWIO, |get| (get.flags, get.length) = (1, 0))?)),
        case("B-518", |f| answer(as_who(&f.telling_space()?, RAWIO, |get| get.length = 0)?)),
        case("B-519", |f| {
            answer(as_who(&f.telling_space()?, RAWIO, |get| (get.length, get.iova) = (0, u64::MAX))?)
        }),
        case("B-520", |f| {
            answer(as_who(&f.telling_space()?, RAWIO, |get| (get.length, get.iova) = (1, u64::MAX))?)
        }),
        case("B-536", |f| {
            let space = f.attached_space()?;
            let before = IommuIoasNoiommuGetPa {
                ioas_id: space.id,
                iova: P,
                length: P,
                out_phys: 0x55,
                ..IommuIoasNoiommuGetPa::new()
            };
            let mut after = before;
            let errno = f.call(space.iommufd(), &mut after).map_err(|error| error.errno());
            Ok(Got::equal((Err(Errno::ENOENT), before), (errno, after)))
        }),
        case("B-550", |f| answer(with_map(f)?.get_pa_with(|_| ()))),
        case("B-551", |f| {
            needs_no_noiommu(f)?;
            answer(f.space()?.get_pa_with(|_| ()))
        }),
        case("B-552", |f| {
            needs_no_noiommu(f)?;
            answer(as_who(&f.space()?, &[], |_| ())?)
        }),
        case("B-553", |_| Err(Stop::NotApplicable("needs a kernel older than 7.3".into()))),
        case("B-687", |f| answer(longer(f, 0)?)),
        case("B-688", |f| answer(longer(f, 1)?)),
    ]
}

fn ioases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-521", |f| answer(f.telling_space()?.get_pa_with(|get| get.ioas_id = UNKNOWN))),
        case("B-522", |f| {
            f.needs_get_pa()?;
            let space = f.bound_space()?;
            let hwpt = space.attach()?;
            answer(space.get_pa_with(|get| get.ioas_id = hwpt))
        }),
        case("B-689", |f| {
            let space = f.bound_space()?;
            let devid = space.devid()?;
            answer(space.get_pa_with(|get| get.ioas_id = devid))
        }),
        case("B-690", |f| {
            answer(f.telling_space()?.get_pa_with(|get| (get.ioas_id, get.length) = (UNKNOWN, 0)))
        }),
    ]
}

/// With and without a page table.
fn page_tables<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-523", |f| answer(f.telling_space()?.get_pa_with(|_| ()))),
        case("B-524", |f| {
            let space = f.space()?;
            space.map(P, P)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-535", |f| {
            let space = with_map(f)?;
            space.map(0x3000, P)?;
            answer(space.get_pa_with(|get| get.iova = 0x2000))
        }),
        case("B-537", |f| {
            let space = with_map(f)?;
            space.get_pa(P, P)?;
            space.detach()?;
            let query = space.get_pa_with(|_| ());
            Ok(Got::from(query).provided(Got::equal(P, space.unmap(P, P)?)))
        }),
        case("B-538", |f| {
            let space = with_map(f)?;
            space.detach()?;
            space.attach()?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-539", |f| {
            let first = with_map(f)?;
            first.get_pa(P, P)?;
            let second = first.another()?;
            f.attach(first.device()?, second.id)?;
            answer(first.get_pa_with(|_| ()))
        }),
        case("B-540", |f| {
            let space = f.bound_space()?;
            space.map(P, P)?;
            space.attach()?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-542", |f| {
            let space = f.attached_space()?;
            space.map_with(|map| map.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE)?;
            answer(space.get_pa_with(|_| ()))
        }),
        case("B-543", |f| {
            let space = f.attached_space()?;
            space.map(0, P)?;
            answer(space.get_pa_with(|get| get.iova = 0))
        }),
    ]
}

/// The query as somebody with these capabilities.
fn as_who<S: Suite>(
    space: &Space<S>,
    capabilities: &[&str],
    change: fn(&mut IommuIoasNoiommuGetPa),
) -> Way<Result<u32>> {
    space.as_caller(&caller(capabilities, None), |space| space.get_pa_with(change))
}

/// A query that would succeed, with an argument of 48 bytes, of which the last is given.
fn longer<S: Suite>(f: &Fixture<S>, last: u8) -> Way<Result<u32>> {
    let space = with_map(f)?;
    let mut argument = [0; 48];
    let head =
        IommuIoasNoiommuGetPa { size: 48, ioas_id: space.id, iova: P, length: P, ..Default::default() };
    argument[..40].copy_from_slice(head.as_bytes());
    argument[47] = last;
    Ok(ioctl_bytes(f.sys, space.iommufd(), IOMMU_IOAS_NOIOMMU_GET_PA, &mut argument))
}

/// The call is only a stub in kernels that cannot have devices without an IOMMU.
fn needs_no_noiommu<S: Suite>(f: &Fixture<S>) -> Way<()> {
    if f.lacks_noiommu()? {
        return Ok(());
    }
    Err(Stop::NotApplicable("the kernel is built with IOMMUFD_NOIOMMU".into()))
}

/// An IOAS that a device is attached to, with one page mapped at 0x1000.
fn with_map<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.attached_space()?;
    space.map(P, P)?;
    Ok(space)
}
