//! CONT: the container that VFIO itself provides.

use sys::Suite;
use uapi::vfio::*;

use crate::call::ioctl_at;
use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::group::{Container, Joined, dma_map, dma_unmap};
use crate::memory::{PAGE, Pages};
use crate::outcome::{Got, Outcome, Way};
use crate::space::caller;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = empty();
    cases.extend(extensions());
    cases.extend(backends());
    cases.extend(calls());
    cases
}

/// A container that no group has joined.
fn empty<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-327", |f| answer(ioctl_at(f.sys, &f.native_container()?, VFIO_GET_API_VERSION, 0))),
        case("B-334", |f| answer(f.set_iommu(&f.native_container()?, VFIO_NOIOMMU_IOMMU))),
        case("B-657", |f| {
            let _on = f.noiommu_mode(true)?;
            Ok(Got::equal(vec![1, 3, 8, 9], f.extensions(&f.native_container()?)?))
        }),
        case("B-659", |f| answer(f.ioas(&f.native_container()?))),
    ]
}

fn extensions<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-328", |f| noiommu_extension(f, true)),
        case("B-329", |f| noiommu_extension(f, false)),
        case("B-330", |f| answer(f.check_extension(&f.native_container()?, VFIO_TYPE1_IOMMU))),
        case("B-331", |f| answer(f.check_extension(&noiommu(f)?.container, VFIO_TYPE1_IOMMU))),
        case("B-332", |f| answer(f.check_extension(&noiommu(f)?.container, VFIO_NOIOMMU_IOMMU))),
        case("B-333", |f| {
            let _on = f.noiommu_mode(true)?;
            answer(f.check_extension(&iommu(f)?.container, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-658", |f| {
            let joined = iommu(f)?;
            f.set_iommu(&joined.container, VFIO_TYPE1_IOMMU)?;
            Ok(Got::equal(vec![1, 3, 9, 10], f.extensions(&joined.container)?))
        }),
    ]
}

fn backends<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-335", |f| answer(f.set_iommu(&noiommu(f)?.container, VFIO_TYPE1_IOMMU))),
        case("B-336", |f| answer(f.set_iommu(&noiommu(f)?.container, VFIO_NOIOMMU_IOMMU))),
        case("B-337", |f| answer(f.set_iommu(&set(f)?.container, VFIO_NOIOMMU_IOMMU))),
        case("B-338", |f| {
            let _on = f.noiommu_mode(true)?;
            answer(f.set_iommu(&iommu(f)?.container, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-339", |f| {
            let joined = noiommu(f)?;
            let _off = f.noiommu_mode(false)?;
            answer(f.set_iommu(&joined.container, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-340", |f| {
            let joined = noiommu(f)?;
            answer(f.sys.as_caller(&caller(&[], None), |sys| {
                Fixture::new(sys, f.target).set_iommu(&joined.container, VFIO_NOIOMMU_IOMMU)
            })?)
        }),
    ]
}

/// Calls that a backend has to know.
fn calls<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-341", |f| {
            let memory = Pages::new(2 * PAGE)?;
            let joined = f.joined(f.address()?, Container::Native)?;
            answer(f.call(&joined.container, &mut dma_map(&memory)))
        }),
        case("B-342", |f| {
            let memory = Pages::new(2 * PAGE)?;
            answer(f.call(&set(f)?.container, &mut dma_map(&memory)))
        }),
        case("B-343", |f| answer(f.call(&set(f)?.container, &mut dma_unmap()))),
        case("B-344", |f| {
            let mut info = <VfioIommuType1Info as uapi::Command>::new();
            answer(f.call(&set(f)?.container, &mut info))
        }),
    ]
}

/// Whether a container without groups has the backend for devices without an IOMMU.
fn noiommu_extension<S: Suite>(f: &Fixture<S>, on: bool) -> Outcome {
    let _set = f.noiommu_mode(on)?;
    answer(f.check_extension(&f.native_container()?, VFIO_NOIOMMU_IOMMU))
}

/// A container that a group without an IOMMU has joined.
fn noiommu<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Joined<'a, S>> {
    f.joined(f.address()?, Container::Native)
}

/// The same with its backend.
fn set<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Joined<'a, S>> {
    f.usable(f.address()?, Container::Native)
}

/// A container that a group behind an IOMMU has joined.
fn iommu<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Joined<'a, S>> {
    f.joined(f.address()?, Container::Native)
}
