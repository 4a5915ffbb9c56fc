//! Giving memory to a device, asking where it is, and taking it back.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::BinaryBytes;
use ioasis::{Device, DmaOptions, Mode, PageSize, Sys};
use uapi::Command;
use uapi::iommufd::{IommuIoasMap, IommuIoasNoiommuGetPa, IommuIoasUnmap};
use uapi::vfio::{VfioIommuType1DmaMap, VfioIommuType1DmaUnmap};

use super::table::Line;
use crate::arguments::Measured;

/// A size in bytes, and its name.
type Size = (&'static str, usize);

const SMALL: Size = ("4 KiB", 4 << 10);
const HUGE: Size = ("2 MiB", 2 << 20);
const CONTIGUOUS: Size = ("512 MiB", 512 << 20);
const LARGE: Size = ("1 GiB", 1 << 30);

/// How long a size is measured, between so few and so many times.
const PART: Duration = Duration::from_secs(1);
const AT_LEAST: usize = 3;
const AT_MOST: usize = 1000;

/// Measures one call for each size.
pub(super) fn measure<S: Sys>(device: &Device<S>, what: Measured) -> Result<Vec<Line>> {
    let call = call(what, device.mode())?;
    let largest = if what == Measured::GetPa { CONTIGUOUS } else { LARGE };
    let line = |(name, size): Size| Line {
        name: name.to_owned(),
        samples: samples(device, what, call, size).map_err(|error| format!("{error:#}")),
    };
    Ok([SMALL, HUGE, largest].into_iter().map(line).collect())
}

/// The call that does it in a mode.
fn call(what: Measured, mode: Mode) -> Result<&'static str> {
    Ok(match (what, mode) {
        (Measured::Map, Mode::Iommufd | Mode::IommufdNoiommu) => IommuIoasMap::NAME,
        (Measured::Unmap, Mode::Iommufd | Mode::IommufdNoiommu) => IommuIoasUnmap::NAME,
        (Measured::GetPa, Mode::IommufdNoiommu) => IommuIoasNoiommuGetPa::NAME,
        (Measured::Map, Mode::Group) => VfioIommuType1DmaMap::NAME,
        (Measured::Unmap, Mode::Group) => VfioIommuType1DmaUnmap::NAME,
        _ => {
            bail!("the device is reached in mode {mode}, which has no such call; --mode chooses another one")
        }
    })
}

/// Gives memory to the device and takes it back, over and over: how long each `call` took.
fn samples<S: Sys>(
    device: &Device<S>,
    what: Measured,
    call: &'static str,
    size: usize,
) -> Result<Vec<Duration>> {
    let options = if is_huge(what, size) {
        DmaOptions::new().page_size(PageSize::Huge2M).contiguous(true)
    } else {
        check_room(size)?;
        DmaOptions::new()
    };
    let trace = device.trace();
    let before = trace.steps().len();
    let start = Instant::now();
    for round in 0..AT_MOST {
        if round >= AT_LEAST && start.elapsed() >= PART {
            break;
        }
        device.address_space().allocate(size, &options)?;
    }
    let steps = trace.steps().split_off(before);
    // Memory that had to be asked about in several pieces was not taken.
    let measured = steps.into_iter().filter(|step| step.call == call && step.times == 1);
    Ok(measured.map(|step| step.duration).collect())
}

/// Whether memory is on huge pages: one call tells the physical address of contiguous memory, which it can be there.
fn is_huge(what: Measured, size: usize) -> bool {
    what == Measured::GetPa && size >= HUGE.1
}

/// Sees that the computer has the memory. One that has not would end processes to get it; huge pages are set apart.
fn check_room(size: usize) -> Result<()> {
    // Where the kernel does not tell, it is tried.
    let Some(available) = available_memory() else { return Ok(()) };
    if available < size as u64 + size as u64 / 4 {
        bail!("only {} of memory is available", BinaryBytes(available));
    }
    Ok(())
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
