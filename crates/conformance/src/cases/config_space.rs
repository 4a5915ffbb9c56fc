//! RW: which registers of configuration space are the user's own, which are the function's, and which are read-only.

use sys::Suite;

use super::info::absent_bar;
use crate::case::{Case, case};
use crate::fixture::{Fixture, Need};
use crate::outcome::{Got, Outcome};
use crate::pci::{capability, command, register};

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = base_addresses();
    cases.extend(registers());
    cases.extend(capabilities());
    cases
}

fn base_addresses<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-261", |f| {
            let device = f.bound_with(Need::Any)?.device;
            let size = f.region_info(&device, 0)?.size;
            let [first, ..] = f.config_read::<4>(&device, register::BAR0)?;
            f.config_write(&device, register::BAR0, &[0xff; 4])?;
            let mask = (!(size - 1)) as u32 | u32::from(first & 0xf);
            Ok(Got::equal(mask, u32::from_le_bytes(f.config_read(&device, register::BAR0)?)))
        }),
        case("B-262", |f| {
            let address = f.address()?;
            let device = f.bound_at(address)?.device;
            let resource = f.sysfs(address).join("resource");
            let real =
                || Ok::<_, crate::Stop>((f.text(&resource)?, f.real_config::<4>(address, register::BAR0)?));
            let before = real()?;
            f.config_write(&device, register::BAR0, &0x1234_0000u32.to_le_bytes())?;
            Ok(Got::equal(before, real()?))
        }),
        case("B-263", |f| {
            let (address, index) = absent_bar(f)?;
            let device = f.bound_at(address)?.device;
            let at = register::BAR0 + 4 * u64::from(index);
            f.config_write(&device, at, &[0xff; 4])?;
            Ok(Got::equal([0; 4], f.config_read(&device, at)?))
        }),
    ]
}

fn registers<S: Suite>() -> Vec<Case<S>> {
    const MASTER: u16 = command::BUS_MASTER;
    vec![
        case("B-264", |f| Ok(Got::equal(0, f.command(&f.bound()?.device)? & MASTER))),
        case("B-265", |f| {
            let device = f.bound()?.device;
            f.set_command(&device, MASTER, true)?;
            Ok(Got::equal(MASTER, f.command(&device)? & MASTER))
        }),
        case("B-266", |f| write_ignored(f, register::VENDOR)),
        case("B-267", |f| write_ignored(f, register::STATUS)),
        case("B-268", |f| {
            let device = f.bound()?.device;
            let [before] = f.config_read(&device, register::INTERRUPT_LINE)?;
            f.config_write(&device, register::INTERRUPT_LINE, &[!before])?;
            Ok(Got::equal([!before], f.config_read(&device, register::INTERRUPT_LINE)?))
        }),
        case("B-269", |f| {
            let device = f.bound()?.device;
            let before: [u8; 1] = f.config_read(&device, register::INTERRUPT_PIN)?;
            f.config_write(&device, register::INTERRUPT_PIN, &[before[0] ^ 3])?;
            Ok(Got::equal(before, f.config_read(&device, register::INTERRUPT_PIN)?))
        }),
    ]
}

fn capabilities<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-270", |f| {
            let device = f.bound_with(Need::MsiX)?.device;
            let at = f.needed_capability(&device, capability::MSIX)? + 2;
            let before: [u8; 2] = f.config_read(&device, at)?;
            f.config_write(&device, at, &[before[0], before[1] ^ 0x80])?;
            Ok(Got::equal(before, f.config_read(&device, at)?))
        }),
        case("B-273", |f| {
            let device = f.bound_with(Need::FunctionReset)?.device;
            let at = f.needed_capability(&device, capability::EXPRESS)? + 8;
            let [low, high] = f.config_read(&device, at)?;
            f.config_write(&device, at, &[low, high | 0x80])?;
            let [_, after] = f.config_read(&device, at)?;
            Ok(Got::equal(0, after & 0x80))
        }),
    ]
}

/// Writes the complement of a register of 16 bits; what the write answers is compared, and the register is as before.
fn write_ignored<S: Suite>(f: &Fixture<S>, at: u64) -> Outcome {
    let device = f.bound()?.device;
    let before: [u8; 2] = f.config_read(&device, at)?;
    let written = f.config_write(&device, at, &before.map(|byte| !byte));
    Ok(Got::from(written).provided(Got::equal(before, f.config_read(&device, at)?)))
}
