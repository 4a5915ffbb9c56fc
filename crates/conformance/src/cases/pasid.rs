//! ATTACH: address spaces of processes (PASIDs), of which a device without an IOMMU has none but the ordinary one.

use sys::{Result, Suite};
use uapi::Command;
use uapi::vfio::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Outcome, Way};
use crate::space::{P, Space, UNKNOWN};

/// The largest PASID that a page table can be attached to.
const LARGEST: u32 = 0x7fff_ffff;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = arguments();
    cases.extend(ordinary());
    cases
}

fn arguments<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-124", |f| with(f, |attach| attach.argsz = 12)),
        case("B-125", |f| with(f, |attach| attach.pasid = 1)),
        case("B-126", |f| with(f, |attach| (attach.pasid, attach.pt_id) = (1, UNKNOWN))),
        case("B-127", |f| with(f, |attach| attach.pasid = LARGEST + 1)),
        case("B-131", |f| {
            let space = f.bound_space()?;
            let mut short = VfioDeviceDetachIommufdPt { argsz: 8, ..detachment(0) };
            answer(f.call(space.device()?, &mut short))
        }),
        case("B-132", |f| answer(detach(f, &f.bound_space()?, 5)?)),
        case("B-612", |f| with(f, |attach| attach.pasid = LARGEST)),
        case("B-613", |f| with(f, |attach| (attach.pasid, attach.pt_id) = (LARGEST + 1, UNKNOWN))),
    ]
}

/// PASID 0 is another name of the ordinary address space.
fn ordinary<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-128", |f| with(f, |_| ())),
        case("B-129", |f| {
            let space = f.bound_space()?;
            space.attach()?;
            answer(attach(f, &space, |_| ())?)
        }),
        case("B-130", |f| {
            let space = attached(f)?;
            answer(f.attach(space.device()?, space.id))
        }),
        case("B-609", |f| answer(attached(f)?.get_pa_with(|_| ()))),
        case("B-610", |f| {
            let space = attached(f)?;
            let detached = f.detach(space.device()?);
            let query = space.get_pa_with(|_| ());
            Ok(Got::from(query).provided(Got::truth("DETACH says yes", &detached, detached.is_ok())))
        }),
        case("B-611", |f| {
            let space = attached(f)?;
            detach(f, &space, 0)??;
            answer(space.get_pa_with(|_| ()))
        }),
    ]
}

/// ATTACH of a bound device to an IOAS by PASID 0, with one change.
fn with<S: Suite>(f: &Fixture<S>, change: fn(&mut VfioDeviceAttachIommufdPt)) -> Outcome {
    answer(attach(f, &f.bound_space()?, change)?)
}

fn attach<S: Suite>(
    f: &Fixture<S>,
    space: &Space<S>,
    change: fn(&mut VfioDeviceAttachIommufdPt),
) -> Way<Result<u32>> {
    let flags = VFIO_DEVICE_ATTACH_PASID;
    let mut attach = VfioDeviceAttachIommufdPt { flags, pt_id: space.id, ..VfioDeviceAttachIommufdPt::new() };
    change(&mut attach);
    Ok(f.call(space.device()?, &mut attach))
}

fn detach<S: Suite>(f: &Fixture<S>, space: &Space<S>, pasid: u32) -> Way<Result<u32>> {
    Ok(f.call(space.device()?, &mut detachment(pasid)))
}

fn detachment(pasid: u32) -> VfioDeviceDetachIommufdPt {
    let flags = VFIO_DEVICE_DETACH_PASID;
    VfioDeviceDetachIommufdPt { flags, pasid, ..VfioDeviceDetachIommufdPt::new() }
}

/// An IOAS with a page at 0x1000 that a device is attached to by PASID 0.
fn attached<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Space<'a, S>> {
    let space = f.bound_space()?;
    attach(f, &space, |_| ())??;
    space.map(P, P)?;
    Ok(space)
}
