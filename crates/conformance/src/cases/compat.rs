//! CONT: IOMMUFD as the container, by the calls of VFIO's own.

use std::path::Path;

use sys::Suite;
use uapi::Command;
use uapi::vfio::*;

use crate::call::ioctl_at;
use crate::case::{Case, answer, case};
use crate::driver::NOIOMMU_MODE;
use crate::fixture::Fixture;
use crate::group::{Container, Joined, MAPPED, dma_map, dma_unmap, opened};
use crate::memory::{PAGE, Pages};
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::space::{P, caller};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = fresh();
    cases.extend(builds());
    cases.extend(joined_calls());
    cases.extend(joined_backends());
    cases.extend(mappings());
    cases.extend(compat_backends());
    cases
}

/// A context that nothing was done with.
fn fresh<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-353", |f| {
            let _off = f.noiommu_mode(false)?;
            answer(f.check_extension(&f.iommufd()?, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-354", |f| answer(f.check_extension(&f.iommufd()?, VFIO_TYPE1_IOMMU))),
        case("B-355", |f| answer(f.set_iommu(&f.iommufd()?, VFIO_NOIOMMU_IOMMU))),
        case("B-356", |f| answer(f.set_iommu(&f.iommufd()?, VFIO_TYPE1_IOMMU))),
        case("B-357", |f| answer(f.check_extension(&f.iommufd()?, VFIO_DMA_CC_IOMMU))),
        case("B-358", |f| answer(ioctl_at(f.sys, &f.iommufd()?, VFIO_GET_API_VERSION, 0))),
        case("B-359", |f| {
            let flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
            let mut start = VfioIommuType1DirtyBitmap { flags, ..VfioIommuType1DirtyBitmap::new() };
            answer(f.call(&f.iommufd()?, &mut start))
        }),
    ]
}

/// What depends on how the kernel was built.
fn builds<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-656", |f| {
            if f.exists(Path::new(NOIOMMU_MODE))? {
                return Err(Stop::NotApplicable("the kernel is built with VFIO_NOIOMMU".into()));
            }
            answer(f.check_extension(&f.iommufd()?, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-660", |f| {
            const PROVIDER: &str = "IOMMUFD is providing /dev/vfio/vfio";
            if !f.iommufd_is_container()? {
                return Err(Stop::NotApplicable("VFIO itself provides /dev/vfio/vfio".into()));
            }
            let allocated = opened(f.ioas(&f.container_node()?));
            // It is said once after boot.
            let lines = f.sys.log_since(0)?;
            let said = lines.iter().any(|line| line.contains(PROVIDER));
            Ok(Got::from(allocated).provided(Got::truth(PROVIDER, "nothing of the kind", said)))
        }),
    ]
}

/// A context that a group without an IOMMU has joined has no IOAS for these calls.
fn joined_calls<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-345", |f| map_joined(f, |_| ())),
        case("B-346", |f| answer(f.call(&joined(f)?.container, &mut VfioIommuType1Info::new()))),
        case("B-347", |f| answer(f.call(&joined(f)?.container, &mut dma_unmap()))),
        case("B-348", |f| map_joined(f, |map| map.argsz = 31)),
        case("B-360", |f| answer(opened(joined(f)?.device()))),
        case("B-655", |f| {
            let joined = joined(f)?;
            answer(f.set_compat_ioas(&joined.container, f.ioas(&joined.container)?))
        }),
    ]
}

fn joined_backends<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-349", |f| answer(f.check_extension(&joined(f)?.container, VFIO_TYPE1_IOMMU))),
        case("B-350", |f| answer(f.set_iommu(&joined(f)?.container, VFIO_NOIOMMU_IOMMU))),
        case("B-351", |f| {
            let joined = joined(f)?;
            f.set_iommu(&joined.container, VFIO_NOIOMMU_IOMMU)?;
            answer(f.set_iommu(&joined.container, VFIO_NOIOMMU_IOMMU))
        }),
        case("B-352", |f| answer(f.set_iommu(&joined(f)?.container, VFIO_TYPE1_IOMMU))),
        case("B-653", |f| answer(f.check_extension(&joined(f)?.container, VFIO_NOIOMMU_IOMMU))),
        case("B-654", |f| {
            let joined = joined(f)?;
            answer(f.sys.as_caller(&caller(&[], None), |sys| {
                Fixture::new(sys, f.target).set_iommu(&joined.container, VFIO_NOIOMMU_IOMMU)
            })?)
        }),
    ]
}

/// Mappings in an IOAS that these calls work on.
fn mappings<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-361", |f| answer(Compat::mapped(f)?.unmap(|_| ()))),
        case("B-363", |f| answer(Compat::mapped(f)?.unmap(|unmap| unmap.size = 0))),
        case("B-364", |f| {
            answer(Compat::mapped(f)?.unmap(|unmap| {
                (unmap.flags, unmap.iova, unmap.size) = (VFIO_DMA_UNMAP_FLAG_ALL, 0x1000, 0);
            }))
        }),
        case("B-365", |f| answer(Compat::new(f)?.map(|map| map.flags = VFIO_DMA_MAP_FLAG_VADDR))),
        case("B-661", |f| {
            let all = Compat::mapped(f)?.unmap(|unmap| {
                (unmap.flags, unmap.iova, unmap.size) = (VFIO_DMA_UNMAP_FLAG_ALL, 0, 0);
            });
            Ok(Got::equal(MAPPED, all?))
        }),
    ]
}

fn compat_backends<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-362", |f| {
            let compat = Compat::new(f)?;
            f.set_iommu(&compat.iommufd, VFIO_TYPE1_IOMMU)?;
            compat.map(|_| ())?;
            Ok(Got::equal(P, compat.unmap(|_| ())?))
        }),
        case("B-366", |f| {
            let compat = Compat::new(f)?;
            let mut info = VfioIommuType1Info { cap_offset: 1, ..VfioIommuType1Info::new() };
            f.call(&compat.iommufd, &mut info)?;
            let flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
            Ok(Got::equal((flags, 72, 0), (info.flags, info.argsz, info.cap_offset)))
        }),
        case("B-662", |f| answer(f.set_iommu(&Compat::new(f)?.iommufd, VFIO_TYPE1_IOMMU))),
    ]
}

/// A context that a group without an IOMMU has joined.
fn joined<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<Joined<'a, S>> {
    f.joined(f.address()?, Container::Iommufd)
}

/// `VFIO_IOMMU_MAP_DMA` on such a context, with one change.
fn map_joined<S: Suite>(f: &Fixture<S>, change: fn(&mut VfioIommuType1DmaMap)) -> Outcome {
    let memory = Pages::new(2 * PAGE)?;
    let mut map = dma_map(&memory);
    change(&mut map);
    answer(f.call(&joined(f)?.container, &mut map))
}

/// A context with an IOAS for VFIO's own calls, without a device, and two pages. The context is closed first.
struct Compat<'a, S: Suite> {
    f: Fixture<'a, S>,
    iommufd: S::File,
    memory: Pages,
}

impl<'a, S: Suite> Compat<'a, S> {
    fn new(f: &Fixture<'a, S>) -> Way<Self> {
        let iommufd = f.iommufd()?;
        f.set_compat_ioas(&iommufd, f.ioas(&iommufd)?)?;
        Ok(Compat { f: Fixture::new(f.sys, f.target), iommufd, memory: Pages::new(2 * PAGE)? })
    }

    /// The same with both pages mapped.
    fn mapped(f: &Fixture<'a, S>) -> Way<Self> {
        let compat = Compat::new(f)?;
        compat.map(|_| ())?;
        Ok(compat)
    }

    fn map(&self, change: fn(&mut VfioIommuType1DmaMap)) -> sys::Result<u32> {
        let mut map = dma_map(&self.memory);
        change(&mut map);
        self.f.call(&self.iommufd, &mut map)
    }

    /// Unmaps the first page but for a change; the number of bytes.
    fn unmap(&self, change: fn(&mut VfioIommuType1DmaUnmap)) -> sys::Result<u64> {
        let mut unmap = dma_unmap();
        change(&mut unmap);
        self.f.call(&self.iommufd, &mut unmap)?;
        Ok(unmap.size)
    }
}
