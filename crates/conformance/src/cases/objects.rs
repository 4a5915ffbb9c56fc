//! OBJ: ids and destruction of objects.

use sys::Suite;
use uapi::Command;
use uapi::iommufd::*;

use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::outcome::{Got, Outcome};
use crate::space::P;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-383", |f| {
            let iommufd = f.iommufd()?;
            Ok(Got::equal([1, 2, 3], [f.ioas(&iommufd)?, f.ioas(&iommufd)?, f.ioas(&iommufd)?]))
        }),
        case("B-384", |f| {
            let iommufd = f.iommufd()?;
            for _ in 0..3 {
                f.ioas(&iommufd)?;
            }
            f.destroy(&iommufd, 2)?;
            Ok(Got::equal(2, f.ioas(&iommufd)?))
        }),
        case("B-385", |f| destroy(f, 0)),
        case("B-386", |f| destroy(f, 99)),
        case("B-387", |f| destroy(f, u32::MAX)),
        case("B-388", |f| {
            let space = f.space()?;
            space.destroy()?;
            answer(space.destroy())
        }),
        case("B-389", |f| {
            let space = f.space()?;
            space.map(P, P)?;
            answer(space.destroy())
        }),
        case("B-390", |f| {
            let iommufd = f.iommufd()?;
            let refused = f.call(&iommufd, &mut IommuIoasAlloc { flags: 1, ..IommuIoasAlloc::new() });
            Ok(Got::from(refused).provided(Got::equal(1, f.ioas(&iommufd)?)))
        }),
        case("B-398", |f| {
            let before = f.vm_pin()?;
            let space = f.attached_space()?;
            space.map(P, 16 * P)?;
            space.another()?.map(P, P)?;
            let during = f.vm_pin()?;
            drop(space);
            Ok(Got::equal((64, 0), (during - before, f.vm_pin()? - before)))
        }),
    ]
}

fn destroy<S: Suite>(f: &Fixture<S>, id: u32) -> Outcome {
    answer(f.destroy(&f.iommufd()?, id))
}
