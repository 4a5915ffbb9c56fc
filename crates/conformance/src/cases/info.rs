//! PCIINFO: what a device says of itself, and its reset.

use sys::{Result, Suite};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::call::{ioctl_at, ioctl_bytes};
use crate::case::{Case, answer, case};
use crate::fixture::{Fixture, Need};
use crate::interrupts::{Event, Irqs, TARGETS};
use crate::outcome::{Got, Stop, Way};
use crate::pci::{capability, region};

const READ_WRITE: u32 = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = device();
    cases.extend(regions());
    cases.extend(capabilities());
    cases.extend(interrupts());
    cases.extend(reset());
    cases
}

fn device<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-143", |f| answer(sized(f, VFIO_DEVICE_GET_INFO, 15)?)),
        case("B-144", |f| {
            let mut argument = [0xaa; 24];
            argument[..4].copy_from_slice(&16u32.to_ne_bytes());
            let device = f.bound()?.device;
            let answer = ioctl_bytes(f.sys, &device, VFIO_DEVICE_GET_INFO, &mut argument);
            Ok(Got::from(answer).provided(Got::equal(&[0xaa; 8][..], &argument[16..])))
        }),
        case("B-145", |f| {
            let info = f.device_info(&f.bound()?.device)?;
            Ok(Got::equal((9, 5), (info.num_regions, info.num_irqs)))
        }),
        case("B-146", |f| {
            Ok(Got::equal(VFIO_DEVICE_FLAGS_PCI, f.device_info(&f.bound()?.device)?.flags & 2))
        }),
        case("B-147", |f| Ok(Got::equal(1, f.device_info(&f.bound_with(Need::Reset)?.device)?.flags & 1))),
        case("B-148", |f| Ok(Got::equal(0, f.device_info(&f.bound_with(Need::NoReset)?.device)?.flags & 1))),
        case("B-170", |f| answer(ioctl_bytes(f.sys, &f.bound()?.device, 0x3bff, &mut [0; 64]))),
    ]
}

fn regions<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-149", |f| answer(sized(f, VFIO_DEVICE_GET_REGION_INFO, 31)?)),
        case("B-150", |f| {
            let info = f.region_info(&f.bound()?.device, VFIO_PCI_CONFIG_REGION_INDEX)?;
            let size = info.size;
            Ok(Got::all([
                Got::truth("256 or 4096 bytes", size, [256, 4096].contains(&size)),
                Got::equal((READ_WRITE, 0x700_0000_0000), (info.flags, info.offset)),
            ]))
        }),
        case("B-151", |f| {
            let device = f.bound_with(Need::Any)?.device;
            let info = f.region_info(&device, 0)?;
            Ok(Got::truth("7, and a page", (info.flags, info.size), info.flags & 7 == 7 && info.size >= 4096))
        }),
        case("B-152", |f| {
            let device = f.bound()?.device;
            let infos = (0..8).map(|index| f.region_info(&device, index));
            let offsets: Vec<u64> = infos.map(|info| Ok(info?.offset)).collect::<Result<_>>()?;
            Ok(Got::equal((0..8).map(region).collect::<Vec<u64>>(), offsets))
        }),
        case("B-153", |f| {
            let (address, index) = absent_bar(f)?;
            let info = f.region_info(&f.bound_at(address)?.device, index)?;
            Ok(Got::equal((0, 0), (info.size, info.flags)))
        }),
        case("B-154", |f| {
            let (address, index) = f.io_bar_address()?;
            Ok(Got::equal(READ_WRITE, f.region_info(&f.bound_at(address)?.device, index)?.flags))
        }),
        case("B-155", |f| answer(f.region_info(&without_vga(f)?, VFIO_PCI_VGA_REGION_INDEX).map(|_| 0u32))),
        case("B-156", |f| answer(f.region_info(&f.bound()?.device, 9).map(|_| 0u32))),
        case("B-157", |f| answer(f.region_info(&f.bound()?.device, u32::MAX).map(|_| 0u32))),
    ]
}

/// The capability chain behind the information about a region.
fn capabilities<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-158", |f| {
            let (info, _) = msix_region(f, 32)?;
            let caps = info.flags & VFIO_REGION_INFO_FLAG_CAPS;
            Ok(Got::equal((40, 0, VFIO_REGION_INFO_FLAG_CAPS), (info.argsz, info.cap_offset, caps)))
        }),
        case("B-159", |f| {
            let (info, header) = msix_region(f, 40)?;
            let VfioInfoCapHeader { id, version, next } = header;
            Ok(Got::equal((32, 3, 1, 0), (info.cap_offset, id, version, next)))
        }),
        case("B-160", |f| {
            for address in &f.target.devices {
                let device = f.bound_at(address)?.device;
                let mut info = VfioRegionInfo { cap_offset: 0x55, ..VfioRegionInfo::new() };
                f.call(&device, &mut info)?;
                if info.size > 0 && f.capability(&device, capability::MSIX)?.is_none() {
                    return Ok(Got::equal(0x55, info.cap_offset));
                }
            }
            Err(Stop::NotApplicable("needs a device without MSI-X".into()))
        }),
    ]
}

fn interrupts<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-161", |f| answer(sized(f, VFIO_DEVICE_GET_IRQ_INFO, 15)?)),
        case("B-162", |f| answer(f.irq_info(&f.bound()?.device, 5).map(|_| 0u32))),
        case("B-163", |f| {
            Ok(Got::equal((1, 7), irq(f, &f.bound_with(Need::Line)?.device, VFIO_PCI_INTX_IRQ_INDEX)?))
        }),
        case("B-164", |f| {
            for address in &f.target.devices {
                let device = f.bound_at(address)?.device;
                if f.capability(&device, capability::MSI)?.is_none() {
                    return Ok(Got::equal(0, f.irq_info(&device, VFIO_PCI_MSI_IRQ_INDEX)?.count));
                }
            }
            Err(Stop::NotApplicable("every device that was named has MSI".into()))
        }),
        case("B-165", |f| {
            let device = f.bound_with(Need::Msi)?.device;
            Ok(Got::equal(9, f.irq_info(&device, VFIO_PCI_MSI_IRQ_INDEX)?.flags))
        }),
        case("B-166", |f| {
            let device = f.bound_with(Need::MsiX)?.device;
            if is_dynamic(f, &device)? {
                return Err(Stop::NotApplicable(
                    "MSI-X vectors can be added while others are enabled".into(),
                ));
            }
            let vectors = f.msix_table(&device)?.vectors;
            Ok(Got::equal((vectors, 9), irq(f, &device, VFIO_PCI_MSIX_IRQ_INDEX)?))
        }),
        case("B-167", |f| {
            let device = f.bound_with(Need::MsiX)?.device;
            if !is_dynamic(f, &device)? {
                return Err(Stop::NotApplicable(
                    "MSI-X vectors can not be added while others are enabled".into(),
                ));
            }
            let vectors = f.msix_table(&device)?.vectors;
            Ok(Got::equal((vectors, 1), irq(f, &device, VFIO_PCI_MSIX_IRQ_INDEX)?))
        }),
        case("B-168", |f| Ok(Got::equal((1, 9), irq(f, &f.bound()?.device, VFIO_PCI_ERR_IRQ_INDEX)?))),
        case("B-169", |f| Ok(Got::equal((1, 9), irq(f, &f.bound()?.device, VFIO_PCI_REQ_IRQ_INDEX)?))),
    ]
}

fn reset<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-183", |f| answer(reset_with(f, Need::Reset)?)),
        case("B-184", |f| answer(reset_with(f, Need::NoReset)?)),
    ]
}

fn reset_with<S: Suite>(f: &Fixture<S>, need: Need) -> Way<Result<u32>> {
    Ok(ioctl_at(f.sys, &f.bound_with(need)?.device, VFIO_DEVICE_RESET, 0))
}

/// A call on a bound device that states its size and asks for the first of what it asks for.
fn sized<S: Suite>(f: &Fixture<S>, command: u32, argsz: u32) -> Way<Result<u32>> {
    let mut argument = [0; 64];
    argument[..4].copy_from_slice(&argsz.to_ne_bytes());
    Ok(ioctl_bytes(f.sys, &f.bound()?.device, command, &mut argument))
}

/// Count and flags of an interrupt index.
fn irq<S: Suite>(f: &Fixture<S>, device: &S::File, index: u32) -> Way<(u32, u32)> {
    let info = f.irq_info(device, index)?;
    Ok((info.count, info.flags))
}

/// A bound device that is no graphics adapter.
pub(super) fn without_vga<S: Suite>(f: &Fixture<S>) -> Way<S::File> {
    for address in &f.target.devices {
        if !f.text(&f.sysfs(address).join("class"))?.starts_with("0x0300") {
            return Ok(f.bound_at(address)?.device);
        }
    }
    Err(Stop::NotApplicable("every device that was named is a graphics adapter".into()))
}

/// A device, and a BAR that it does not have.
pub(super) fn absent_bar<'a, S: Suite>(f: &Fixture<'a, S>) -> Way<(&'a str, u32)> {
    for address in &f.target.devices {
        // First and last address and flags of each BAR; the upper half of a wide one is empty too, and does not count.
        let text = f.text(&f.sysfs(address).join("resource"))?;
        let mut wide = false;
        for (line, index) in text.lines().take(6).zip(0..) {
            let flags = line.split_whitespace().nth(2).unwrap_or_default().trim_start_matches("0x");
            let flags = u64::from_str_radix(flags, 16).unwrap_or(0);
            if flags == 0 && !wide {
                return Ok((address, index));
            }
            wide = flags & 0x10_0000 != 0;
        }
    }
    Err(Stop::NotApplicable("needs a device without one of the BARs".into()))
}

/// Information about the BAR with the MSI-X table, and the capability behind it.
fn msix_region<S: Suite>(f: &Fixture<S>, argsz: u32) -> Way<(VfioRegionInfo, VfioInfoCapHeader)> {
    #[derive(FromBytes, IntoBytes)]
    #[repr(C)]
    struct Whole {
        info: VfioRegionInfo,
        header: VfioInfoCapHeader,
    }
    let device = f.bound_with(Need::MsiX)?.device;
    let index = f.msix_table(&device)?.bar;
    let info = VfioRegionInfo { argsz, index, cap_offset: 0x55, ..VfioRegionInfo::new() };
    let mut whole = Whole { info, header: VfioInfoCapHeader::default() };
    ioctl_bytes(f.sys, &device, VFIO_DEVICE_GET_REGION_INFO, whole.as_mut_bytes())?;
    Ok((whole.info, whole.header))
}

/// Whether a vector can be added while only the first one is enabled.
fn is_dynamic<S: Suite>(f: &Fixture<S>, device: &S::File) -> Way<bool> {
    let event = Event::new()?;
    let enable = |vector| Irqs::new(VFIO_PCI_MSIX_IRQ_INDEX, TARGETS, vector, 1);
    f.set_irqs(device, enable(0), &[event.fd()])?;
    Ok(f.set_irqs(device, enable(1), &[event.fd()]).is_ok())
}
