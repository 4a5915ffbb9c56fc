//! FEATURE: `VFIO_DEVICE_FEATURE`.

use std::os::fd::OwnedFd;

use sys::{Mapping, Result, Suite};
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::call::export_dma_buf_with;
use crate::case::{Case, answer, case};
use crate::fixture::{Fixture, Need};
use crate::memory::PAGE;
use crate::outcome::{Got, Outcome, Stop, Way};

const GET: u32 = VFIO_DEVICE_FEATURE_GET;
const SET: u32 = VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = VFIO_DEVICE_FEATURE_PROBE;
const ENTRY: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
const EXIT: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = arguments();
    cases.extend(unsupported());
    cases.extend(low_power());
    cases.extend(dma_bufs());
    cases
}

fn arguments<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-185", |f| {
            let mut short = VfioDeviceFeature { argsz: 7, flags: PROBE | ENTRY };
            answer(f.call(&f.bound()?.device, &mut short))
        }),
        case("B-186", |f| ask(f, 1 << 19)),
        case("B-187", |f| ask(f, GET | SET | ENTRY)),
        case("B-188", |f| ask(f, PROBE | ENTRY)),
        case("B-189", |f| ask(f, PROBE | GET | ENTRY)),
        case("B-190", |f| ask(f, ENTRY)),
    ]
}

/// What vfio-pci has nothing to do with.
fn unsupported<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-191", |f| ask(f, PROBE | VFIO_DEVICE_FEATURE_MIGRATION)),
        case("B-192", |f| ask(f, PROBE | VFIO_DEVICE_FEATURE_DMA_LOGGING_START)),
        case("B-193", |f| ask(f, PROBE | VFIO_DEVICE_FEATURE_BUS_MASTER)),
        case("B-194", |f| ask(f, PROBE | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2)),
        case("B-195", |f| ask(f, PROBE | 500)),
        case("B-196", |f| {
            for address in &f.target.devices {
                if !f.exists(&f.sysfs(address).join("sriov_totalvfs"))? {
                    let device = f.bound_at(address)?.device;
                    return answer(feature(f, &device, PROBE | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN));
                }
            }
            Err(Stop::NotApplicable("every device that was named can have virtual functions".into()))
        }),
    ]
}

fn low_power<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-197", |f| {
            let device = f.bound()?.device;
            feature(f, &device, SET | ENTRY)?;
            answer(feature(f, &device, SET | ENTRY))
        }),
        case("B-198", |f| ask(f, SET | EXIT)),
        case("B-199", |f| {
            let device = f.bound_with(Need::Any)?.device;
            let registers = f.sys.map_region(&device, Mapping::registers(0, PAGE))?;
            let before = f.sys.touch(&registers);
            feature(f, &device, SET | ENTRY)?;
            Ok(Got::equal((Ok(()), Err(Errno::EFAULT)), (before, f.sys.touch(&registers))))
        }),
        case("B-635", |f| {
            let device = f.bound_with(Need::Any)?.device;
            let registers = f.sys.map_region(&device, Mapping::registers(0, PAGE))?;
            feature(f, &device, SET | ENTRY)?;
            let during = f.sys.touch(&registers);
            feature(f, &device, SET | EXIT)?;
            Ok(Got::equal((Err(Errno::EFAULT), Ok(())), (during, f.sys.touch(&registers))))
        }),
    ]
}

/// Exports of a BAR.
fn dma_bufs<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-200", |f| {
            let exported = export(f, |_, _| ())?;
            Ok(Got::truth("a descriptor", &exported, exported.is_ok()))
        }),
        case("B-201", |f| answer(export(f, |dma_buf, _| dma_buf.nr_ranges = 0)?.map(|_| 0u32))),
        case("B-202", |f| {
            let no_bar = |dma_buf: &mut VfioDeviceFeatureDmaBuf, _: &mut Vec<VfioRegionDmaRange>| {
                dma_buf.region_index = VFIO_PCI_CONFIG_REGION_INDEX;
            };
            answer(export(f, no_bar)?.map(|_| 0u32))
        }),
        case("B-203", |f| answer(export(f, |_, ranges| ranges[0].offset = 0x800)?.map(|_| 0u32))),
        case("B-636", |f| {
            let exported = export(f, |_, _| ());
            match exported {
                Err(Stop::NotApplicable(_)) => {
                    answer(feature(f, &f.bound()?.device, GET | VFIO_DEVICE_FEATURE_DMA_BUF))
                }
                _ => Err(Stop::NotApplicable("the system exports dma-bufs of BARs".into())),
            }
        }),
    ]
}

/// Exports the first page of a BAR, with one change.
fn export<S: Suite>(
    f: &Fixture<S>,
    change: fn(&mut VfioDeviceFeatureDmaBuf, &mut Vec<VfioRegionDmaRange>),
) -> Way<Result<OwnedFd>> {
    let device = f.bound_with(Need::Any)?.device;
    match feature(f, &device, PROBE | GET | VFIO_DEVICE_FEATURE_DMA_BUF) {
        Err(error) if error.errno() == Errno::ENOTTY => {
            Err(Stop::NotApplicable("the system does not export dma-bufs of BARs".into()))
        }
        _ => Ok(export_dma_buf_with(f.sys, &device, 0, change)),
    }
}

/// The call on a bound device, without data.
fn ask<S: Suite>(f: &Fixture<S>, flags: u32) -> Outcome {
    answer(feature(f, &f.bound()?.device, flags))
}

/// The call without data.
fn feature<S: Suite>(f: &Fixture<S>, device: &S::File, flags: u32) -> Result<u32> {
    f.call(device, &mut VfioDeviceFeature { flags, ..VfioDeviceFeature::new() })
}
