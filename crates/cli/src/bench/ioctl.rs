//! What any call takes at least.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use ioasis::{Errno, Sys};
use sys::Access;
use uapi::Command;
use uapi::vfio::VfioDeviceInfo;

use super::table::Line;

const SAMPLES: usize = 1000;
/// Calls in one sample: a single one is as short as reading the clock.
const CALLS: u32 = 100;

/// A command that `/dev/iommu` does not know.
pub(super) fn measure<S: Sys>(sys: &S) -> Result<Line> {
    let iommufd = sys.open(Path::new("/dev/iommu"), Access::ReadWrite)?;
    let refused = || sys.ioctl(&iommufd, &mut VfioDeviceInfo::new()).map_err(|error| error.errno());
    let answer = refused();
    ensure!(
        answer == Err(Errno::ENOTTY),
        "/dev/iommu answers {} with {answer:?}, which is not the refusal of an unknown command",
        VfioDeviceInfo::NAME
    );
    let sample = || {
        let start = Instant::now();
        for _ in 0..CALLS {
            // Each answers what the first one did.
            let _refused = refused();
        }
        start.elapsed() / CALLS
    };
    let samples = (0..SAMPLES).map(|_| sample()).collect();
    Ok(Line { name: "refused ioctl".to_owned(), samples: Ok(samples) })
}
