//! RW: which places of a device file can be read, written and mapped.

use sys::{Mapping, Mmio, Result, Suite};
use uapi::Errno;
use uapi::vfio::*;

use super::info::{absent_bar, without_vga};
use crate::call::ioctl_at;
use crate::case::{Case, answer, case};
use crate::fixture::{Bound, Fixture, Need};
use crate::memory::PAGE;
use crate::outcome::{Got, Outcome, Stop, Way};
use crate::pci::{capability, command, config, region};

/// What a load answers that would be a signal.
const REFUSED: std::result::Result<(), Errno> = Err(Errno::EFAULT);

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = config_bounds();
    cases.extend(bars());
    cases.extend(msix_table());
    cases.extend(mappings());
    cases.extend(ports());
    cases.extend(other_regions());
    cases.extend(revoked());
    cases.extend(registers());
    cases
}

fn config_bounds<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-238", |f| {
            let address = f.address()?;
            let [vendor, device] = ["vendor", "device"].map(|name| f.text(&f.sysfs(address).join(name)));
            let mut bytes = [0; 4];
            let read = read(f, &f.bound_at(address)?.device, &mut bytes, config(0));
            let word = |at: usize| format!("{:#06x}", u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            Ok(Got::from(read).provided(Got::equal((vendor?, device?), (word(0), word(2)))))
        }),
        case("B-239", |f| {
            let device = f.bound()?.device;
            answer(read(f, &device, &mut [0; 8], config(config_size(f, &device)? - 4)))
        }),
        case("B-240", |f| {
            let device = f.bound()?.device;
            answer(read(f, &device, &mut [0; 4], config(config_size(f, &device)?)))
        }),
        case("B-241", |f| {
            let device = f.bound()?.device;
            let size = config_size(f, &device)?;
            Ok(Got::equal(size, read(f, &device, &mut vec![0; size as usize], config(0))?))
        }),
        case("B-242", |f| {
            let device = f.bound()?.device;
            Ok(Got::alike([0, region(20), u64::MAX >> 1].map(|offset| read(f, &device, &mut [], offset))))
        }),
        case("B-243", |f| answer(read(f, &f.bound()?.device, &mut [0; 4], region(20)))),
        case("B-275", |f| {
            let device = f.bound()?.device;
            let whole: [u8; 8] = f.config_read(&device, 0)?;
            let mut part = [0; 4];
            let read = read(f, &device, &mut part, config(1));
            Ok(Got::from(read).provided(Got::equal(&whole[1..5], &part[..])))
        }),
    ]
}

fn bars<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-244", |f| {
            let (device, bar) = with_bar(f)?;
            answer(read(f, &device, &mut [0; 8], bar.offset + bar.size - 4))
        }),
        case("B-245", |f| {
            let (device, bar) = with_bar(f)?;
            answer(read(f, &device, &mut [0; 4], bar.offset + bar.size))
        }),
        case("B-246", |f| {
            let (address, index) = absent_bar(f)?;
            answer(read(f, &f.bound_at(address)?.device, &mut [0; 4], region(index)))
        }),
        case("B-249", |f| {
            let (device, bar) = with_bar(f)?;
            read(f, &device, &mut [0; 4], bar.offset)?;
            f.set_command(&device, command::MEMORY, false)?;
            answer(read(f, &device, &mut [0; 4], bar.offset))
        }),
        case("B-252", |f| {
            let device = f.bound_with(Need::Reset)?.device;
            let bar = f.mappable_bar(&device)?;
            let registers = f.sys.map_region(&device, Mapping::registers(bar.offset, PAGE))?;
            let before = registers.try_read32(0);
            let reset = ioctl_at(f.sys, &device, VFIO_DEVICE_RESET, 0);
            let after = registers.try_read32(0);
            Ok(Got::from(reset).provided(Got::all([
                Got::truth("the mapping answers", before, before.is_ok()),
                Got::truth("it does after the reset", after, after == before),
            ])))
        }),
    ]
}

/// The MSI-X table is out of the user's reach.
fn msix_table<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-253", |f| {
            let (device, at) = with_table(f)?;
            let mut bytes = [0; 16];
            read(f, &device, &mut bytes, at)?;
            Ok(Got::equal([0xff; 16], bytes))
        }),
        case("B-254", |f| {
            let (device, at) = with_table(f)?;
            let written = f.sys.pwrite(&device, &[0; 16], at)?;
            let mut bytes = [0; 16];
            read(f, &device, &mut bytes, at)?;
            Ok(Got::equal((16, [0xff; 16]), (written, bytes)))
        }),
    ]
}

fn mappings<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-255", |f| map_bar(f, |mapping, _| mapping.shared = false)),
        case("B-256", |f| map_bar(f, |mapping, _| mapping.offset = config(0))),
        case("B-649", |f| map_bar(f, |mapping, _| (mapping.writable, mapping.executable) = (false, true))),
        case("B-258", |f| map_bar(f, |mapping, size| mapping.length = size as usize + PAGE)),
        case("B-259", |f| map_bar(f, |mapping, size| mapping.offset += size)),
    ]
}

/// I/O ports.
fn ports<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-646", |f| {
            let (address, index) = f.io_bar_address()?;
            let device = f.bound_at(address)?.device;
            f.set_command(&device, command::IO, false)?;
            answer(read(f, &device, &mut [0; 4], region(index)))
        }),
        case("B-647", |f| {
            let (address, index) = f.io_bar_address()?;
            let device = f.bound_at(address)?.device;
            answer(map(f, &device, Mapping::registers(region(index), PAGE)))
        }),
        case("B-644", |f| {
            let (address, _) = f.io_bar_address()?;
            let device = f.bound_at(address)?.device;
            f.mappable_bar(&device)?;
            Ok(Got::equal(3, f.command(&device)? & (command::IO | command::MEMORY)))
        }),
    ]
}

/// The ROM and the registers of a graphics adapter.
fn other_regions<S: Suite>() -> Vec<Case<S>> {
    const ROM: u64 = region(VFIO_PCI_ROM_REGION_INDEX);
    vec![
        case("B-247", |f| answer(f.sys.pwrite(&f.bound()?.device, &[0; 4], ROM).map(|count| count as u64))),
        case("B-248", |f| {
            let device = without_vga(f)?;
            answer(read(f, &device, &mut [0; 4], region(VFIO_PCI_VGA_REGION_INDEX)))
        }),
        case("B-257", |f| answer(map(f, &f.bound()?.device, Mapping::registers(ROM, PAGE)))),
        case("B-648", |f| {
            for address in &f.target.devices {
                let device = f.bound_at(address)?.device;
                if f.region_info(&device, VFIO_PCI_ROM_REGION_INDEX)?.size > 0 {
                    let mut bytes = [0; 4];
                    let count = read(f, &device, &mut bytes, ROM);
                    return Ok(Got::from(count).provided(Got::equal([0x55, 0xaa], [bytes[0], bytes[1]])));
                }
            }
            Err(Stop::NotApplicable("needs a device with a ROM".into()))
        }),
    ]
}

/// Mappings while nothing answers behind them, and after their file is closed.
fn revoked<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-250", |f| {
            let (device, registers) = with_mapping(f, Need::Any)?;
            let before = f.sys.touch(&registers);
            f.set_command(&device, command::MEMORY, false)?;
            Ok(Got::equal((Ok(()), REFUSED), (before, f.sys.touch(&registers))))
        }),
        case("B-251", |f| {
            let (device, registers) = with_mapping(f, Need::Any)?;
            f.set_command(&device, command::MEMORY, false)?;
            let off = f.sys.touch(&registers);
            f.set_command(&device, command::MEMORY, true)?;
            let on = f.sys.touch(&registers);
            Ok(Got::equal((REFUSED, Ok(())), (off, on)))
        }),
        case("B-260", |f| {
            let address = f.address_with(Need::Any)?;
            let Bound { device, iommufd, .. } = f.bound_at(address)?;
            let registers = f.sys.map_region(&device, Mapping::registers(0, PAGE))?;
            drop(device);
            let device = f.open_at(address)?;
            let bind = f.bind(&device, &iommufd).map(|_| 0u32);
            drop(registers);
            let again = f.bind(&device, &iommufd);
            Ok(Got::from(bind).provided(Got::truth("bound after the unmap", &again, again.is_ok())))
        }),
        case("B-274", |f| {
            let device = f.bound_with(Need::PowerManagement)?.device;
            let bar = f.mappable_bar(&device)?.offset;
            sleep(f, &device)?;
            answer(read(f, &device, &mut [0; 4], bar))
        }),
        case("B-645", |f| {
            let (device, registers) = with_mapping(f, Need::PowerManagement)?;
            let before = f.sys.touch(&registers);
            sleep(f, &device)?;
            Ok(Got::equal((Ok(()), REFUSED), (before, f.sys.touch(&registers))))
        }),
    ]
}

/// Registers of configuration space that stand in for the real ones.
fn registers<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-271", |f| {
            let device = f.bound_with(Need::Msi)?.device;
            let control = f.needed_capability(&device, capability::MSI)? + 2;
            let [low, high] = f.config_read(&device, control)?;
            f.config_write(&device, control, &[low | 1, high])?;
            Ok(Got::equal(0, f.config_read::<1>(&device, control)?[0] & 1))
        }),
        case("B-272", |f| {
            let device = f.bound()?.device;
            f.set_command(&device, command::NO_INTX, true)?;
            Ok(Got::equal(command::NO_INTX, f.command(&device)? & command::NO_INTX))
        }),
    ]
}

/// Puts a device to sleep by its own register.
fn sleep<S: Suite>(f: &Fixture<S>, device: &S::File) -> Way<()> {
    const CONTROL: u64 = 4;
    const D3_HOT: u8 = 3;
    let at = f.needed_capability(device, capability::POWER_MANAGEMENT)? + CONTROL;
    let [control] = f.config_read(device, at)?;
    f.config_write(device, at, &[control & !3 | D3_HOT])?;
    Ok(())
}

/// A device, and a page of its first BAR that can be mapped.
fn with_mapping<S: Suite>(f: &Fixture<S>, need: Need) -> Way<(S::File, Mmio)> {
    let device = f.bound_with(need)?.device;
    let bar = f.mappable_bar(&device)?;
    let registers = f.sys.map_region(&device, Mapping::registers(bar.offset, PAGE))?;
    Ok((device, registers))
}

fn read<S: Suite>(f: &Fixture<S>, device: &S::File, bytes: &mut [u8], offset: u64) -> Result<u64> {
    f.sys.pread(device, bytes, offset).map(|count| count as u64)
}

fn map<S: Suite>(f: &Fixture<S>, device: &S::File, mapping: Mapping) -> Result<u32> {
    f.sys.map_region(device, mapping).map(|_| 0)
}

/// Maps the first page of a BAR with one change, for which the BAR's size is given.
fn map_bar<S: Suite>(f: &Fixture<S>, change: fn(&mut Mapping, u64)) -> Outcome {
    let (device, bar) = with_bar(f)?;
    if !bar.size.is_multiple_of(PAGE as u64) {
        return Err(Stop::NotApplicable("the BAR has no whole number of pages".into()));
    }
    let mut mapping = Mapping::registers(bar.offset, PAGE);
    map(f, &device, mapping)?;
    change(&mut mapping, bar.size);
    answer(map(f, &device, mapping))
}

fn config_size<S: Suite>(f: &Fixture<S>, device: &S::File) -> Way<u64> {
    Ok(f.region_info(device, VFIO_PCI_CONFIG_REGION_INDEX)?.size)
}

/// A bound device, and its BAR0 in memory.
fn with_bar<S: Suite>(f: &Fixture<S>) -> Way<(S::File, VfioRegionInfo)> {
    let device = f.bound_with(Need::Any)?.device;
    let bar = f.region_info(&device, 0)?;
    Ok((device, bar))
}

/// A bound device, and where its MSI-X table is in the device file.
fn with_table<S: Suite>(f: &Fixture<S>) -> Way<(S::File, u64)> {
    let device = f.bound_with(Need::MsiX)?.device;
    let table = f.msix_table(&device)?;
    Ok((device, region(table.bar) + table.offset))
}
