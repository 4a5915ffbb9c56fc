//! The programs that `bench run` starts, under a machine and without: each does one thing as often as it is told, line by line,
//! and answers how many nanoseconds that took.

use std::fs::File;
use std::hint::black_box;
use std::io::stdin;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ioasis::{Device, Linux, Options};
use sys::yardstick::{self, Fault};
use uapi::Command as _;
use uapi::iommufd::{IOMMU_OPTION_OP_GET, IOMMU_OPTION_RLIMIT_MODE, IommuOption};

use super::program::DEVICE;
use crate::arguments::Yardstick;
use crate::output::print;

/// A register of `edu` that may be written at any time.
const LIVENESS: usize = 0x04;

pub(crate) fn run(what: Yardstick) -> Result<()> {
    match what {
        Yardstick::Option => {
            let iommufd = open("/dev/iommu")?;
            let mut option = IommuOption {
                option_id: IOMMU_OPTION_RLIMIT_MODE,
                op: IOMMU_OPTION_OP_GET as u16,
                ..IommuOption::new()
            };
            ensure!(yardstick::ioctl(&iommufd, &mut option), "/dev/iommu refuses {}", IommuOption::NAME);
            answer(|| _ = yardstick::ioctl(&iommufd, &mut option))
        }
        Yardstick::Unknown => {
            let file = open("/dev/null")?;
            answer(|| yardstick::unknown_ioctl(&file))
        }
        Yardstick::Load | Yardstick::Store => {
            let device = Device::open(&Linux, DEVICE.parse()?, &Options::new().allow_noiommu(true))?;
            let registers = device.bar(0)?;
            if what == Yardstick::Load {
                answer(|| _ = black_box(registers.read32(LIVENESS)))
            } else {
                answer(|| registers.write32(LIVENESS, black_box(1)))
            }
        }
        Yardstick::Signal => {
            let fault = Fault::new().context("cannot have a page that faults")?;
            answer(|| fault.load())
        }
    }
}

fn open(path: &str) -> Result<File> {
    let path = Path::new(path);
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn answer(mut work: impl FnMut()) -> Result<()> {
    yardstick::call_by_libc_alone();
    for line in stdin().lines() {
        let times: u32 = line?.trim().parse().context("not a number of times")?;
        let start = Instant::now();
        for _ in 0..times {
            work();
        }
        print(&format!("{}\n", start.elapsed().as_nanos()))?;
    }
    Ok(())
}
