//! SIZE: the size rule of iommufd ioctls, unknown commands, and what else an iommufd file answers.

use std::io::SeekFrom;

use sys::{Mapping, Readiness, Result, Suite};
use uapi::iommufd::*;
use uapi::{Command, Errno};

use crate::call::{ioctl_at, ioctl_bytes};
use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{NOWHERE, PAGE};
use crate::outcome::{Got, Way};
use crate::space::{P, RW, Space, UNKNOWN, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-367", |f| answer(ioas_alloc(f, 11, 0)?)),
        case("B-368", |f| answer(ioas_alloc(f, 12, 0)?)),
        case("B-369", |f| answer(ioas_alloc(f, 64, 0)?)),
        case("B-370", |f| answer(ioas_alloc(f, 64, 1)?)),
        case("B-371", |f| answer(ioctl_at(f.sys, &f.iommufd()?, IOMMU_IOAS_ALLOC, NOWHERE as usize))),
        case("B-372", |f| answer(sized(f, 0x3b96, 64, 0)?)),
        case("B-373", |f| answer(sized(f, 0x3b7f, 64, 0)?)),
        case("B-374", |f| {
            const IOWR: u32 = 3 << 30 | (size_of::<IommuIoasAlloc>() as u32) << 16;
            answer(sized(f, IOWR | IOMMU_IOAS_ALLOC, 12, 0)?)
        }),
        case("B-375", |f| answer(sized(f, IOMMU_HWPT_ALLOC, 23, 0)?)),
        case("B-376", |f| answer(sized(f, IOMMU_HWPT_ALLOC, 24, 0)?)),
        case("B-377", |f| answer(short_get_pa(&f.space()?))),
        case("B-378", |f| {
            let mut alloc = IommuVeventqAlloc {
                size: 28,
                viommu_id: UNKNOWN,
                type_: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
                veventq_depth: 1,
                ..IommuVeventqAlloc::new()
            };
            answer(f.call(&f.iommufd()?, &mut alloc))
        }),
        case("B-379", |f| answer(f.space()?.as_caller(&caller(&[], None), short_get_pa)?)),
        case("B-380", |f| answer(f.sys.pread(&f.iommufd()?, &mut [0; 4], 0).map(|count| count as u64))),
        case("B-381", |f| answer(mmap(f, |_| ())?)),
        case("B-382", |f| answer(mmap(f, |mapping| mapping.shared = false)?)),
        case("B-666", |f| answer(mmap(f, |mapping| (mapping.writable, mapping.executable) = (false, true))?)),
        case("B-663", |f| answer(f.sys.pwrite(&f.iommufd()?, &[0; 4], 0).map(|count| count as u64))),
        case("B-664", |f| answer(f.sys.seek(&f.iommufd()?, SeekFrom::Start(0)))),
        case("B-665", |f| Ok(Got::equal(Readiness::IN | Readiness::OUT, f.sys.poll(&f.iommufd()?)?))),
        case("B-667", |f| {
            let space = f.space()?;
            let mut map = IommuIoasMap {
                flags: RW,
                ioas_id: space.id,
                user_va: space.va(),
                iova: 0x77,
                ..IommuIoasMap::new()
            };
            let mut unmap = IommuIoasUnmap { ioas_id: space.id, iova: P, length: P, ..IommuIoasUnmap::new() };
            let before = (map, unmap);
            let map_errno = f.call(space.iommufd(), &mut map).map_err(|error| error.errno());
            let unmap_errno = f.call(space.iommufd(), &mut unmap).map_err(|error| error.errno());
            Ok(Got::all([
                Got::equal((Err(Errno::EINVAL), Err(Errno::ENOENT)), (map_errno, unmap_errno)),
                Got::equal(before, (map, unmap)),
            ]))
        }),
    ]
}

/// A command on a fresh context with an argument that states its size and holds nothing but its last byte.
fn sized<S: Suite>(f: &Fixture<S>, command: u32, size: u32, last: u8) -> Way<Result<u32>> {
    let mut argument = [0; 64];
    argument[..4].copy_from_slice(&size.to_ne_bytes());
    argument[63] = last;
    Ok(ioctl_bytes(f.sys, &f.iommufd()?, command, &mut argument))
}

fn ioas_alloc<S: Suite>(f: &Fixture<S>, size: u32, last: u8) -> Way<Result<u32>> {
    sized(f, IOMMU_IOAS_ALLOC, size, last)
}

fn short_get_pa<S: Suite>(space: &Space<S>) -> Result<u32> {
    space.get_pa_with(|get| get.size = 39)
}

/// Maps a page of a fresh context, with one change.
fn mmap<S: Suite>(f: &Fixture<S>, change: fn(&mut Mapping)) -> Way<Result<u32>> {
    let mut mapping = Mapping::registers(0, PAGE);
    change(&mut mapping);
    Ok(f.sys.map_region(&f.iommufd()?, mapping).map(|_| 0))
}
