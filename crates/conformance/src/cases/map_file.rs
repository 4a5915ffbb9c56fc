//! MAP: `IOMMU_IOAS_MAP_FILE`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use sys::Suite;
use uapi::iommufd::IommuIoasMapFile;

use crate::call::CLOSED;
use crate::case::{Case, answer, case};
use crate::fixture::Fixture;
use crate::memory::{memfd, read_only_memfd, regular_file};
use crate::outcome::{Got, Outcome, Way};
use crate::space::P;

const HUGE: u64 = 2 << 20;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-476", |f| answer(f.space()?.map_file_with(CLOSED, |_| ()))),
        case("B-477", |f| lazy(f, memfd(P), |map| map.length = 0)),
        case("B-478", |f| lazy(f, memfd(P), |map| (map.start, map.length) = (u64::MAX - 0xfff, 2 * P))),
        case("B-479", |f| lazy(f, regular_file(), |_| ())),
        case("B-480", |f| pinned(f, regular_file(), |_| ())),
        case("B-481", |f| {
            let file = memfd(4 * P)?;
            let space = f.attached_space()?;
            let mapped = space.map_file_with(file.as_raw_fd(), |map| map.start = P);
            Ok(Got::from(mapped).provided(Got::equal(P, space.get_pa(P, P)?.1)))
        }),
        case("B-482", |f| pinned(f, memfd(P), |map| map.start = P)),
        case("B-483", |f| {
            f.needs_transparent_huge_pages()?;
            let (file, space) = (memfd(HUGE)?, f.space()?);
            Ok(Got::equal(HUGE, space.place_file(file.as_raw_fd(), HUGE)?))
        }),
        case("B-677", |f| {
            let space = f.attached_space()?;
            let files = [space.iommufd().as_fd(), space.device()?.as_fd()];
            Ok(Got::alike(files.map(|file| space.map_file_with(file.as_raw_fd(), |_| ()))))
        }),
        case("B-678", |f| pinned(f, memfd(2 * P), |map| map.start = 100)),
        case("B-679", |f| pinned(f, memfd(P + 1), |map| map.length = 2 * P)),
        case("B-680", |f| pinned(f, memfd(P + 1), |_| ())),
        case("B-681", |f| pinned(f, read_only_memfd(P), |_| ())),
    ]
}

/// Maps a file where no page table makes it pinned.
fn lazy<S: Suite>(f: &Fixture<S>, file: Way<OwnedFd>, change: fn(&mut IommuIoasMapFile)) -> Outcome {
    answer(f.space()?.map_file_with(file?.as_raw_fd(), change))
}

/// Maps a file where a device is attached.
fn pinned<S: Suite>(f: &Fixture<S>, file: Way<OwnedFd>, change: fn(&mut IommuIoasMapFile)) -> Outcome {
    answer(f.attached_space()?.map_file_with(file?.as_raw_fd(), change))
}
