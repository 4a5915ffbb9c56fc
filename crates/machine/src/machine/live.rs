//! What the files do that answer for themselves.

use std::sync::atomic::Ordering;

use subsystem::{Function, ModuleParameters};
use uapi::Errno;

use super::Machine;
use super::driver::Binding;
use crate::bus::PciFunction;
use crate::tree::Live;

/// How much of configuration space anybody may read.
const PUBLIC_CONFIG: usize = 64;

impl Machine {
    /// Reads from such a file.
    pub(super) fn live_read(&self, live: Live, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let line = match live {
            Live::UnsafeNoiommuMode => bool_line(self.shared.subsystem.modules().unsafe_noiommu_mode),
            Live::UnsafeInterrupts => bool_line(self.shared.subsystem.modules().unsafe_interrupts),
            Live::Type1UnsafeInterrupts => bool_line(self.shared.subsystem.modules().type1_unsafe_interrupts),
            Live::DmaEntryLimit => format!("{}\n", self.shared.subsystem.modules().dma_entry_limit),
            Live::Tainted => format!("{}\n", self.world().tainted()),
            Live::DriverOverride(function) => {
                let only = self.binding(function)?.only();
                format!("{}\n", only.as_deref().unwrap_or("(null)"))
            }
            Live::EnabledVfs(function) => format!("{}\n", self.function(function)?.enabled_vfs()),
            Live::EnableSriov => bool_line(self.shared.enable_sriov.load(Ordering::Relaxed)),
            Live::Config(function) => return Ok(copy(&self.config(function)?, bytes, offset)),
            Live::Pagemap => return self.pagemap(bytes, offset),
            Live::FailNth => format!("{}\n", self.world().faults().nth.left()),
            Live::Status(process) => self.status(process.unwrap_or_else(|| self.caller.process()))?,
            Live::Fdinfo(number) => self.fdinfo_of(number)?,
            Live::Devices => self.character_devices(),
            Live::Interrupts => self.interrupts(),
            Live::FailslabIgnoresWaiting => {
                bool_line(!self.world().faults().counts_allocations.load(Ordering::Relaxed))
            }
            Live::Bind(_) | Live::Unbind(_) | Live::Probe | Live::Remove(_) | Live::Rescan => {
                return Err(Errno::EIO);
            }
        };
        Ok(copy(line.as_bytes(), bytes, offset))
    }

    /// Writes to such a file: what is written is taken as a whole.
    pub(super) fn live_write(&self, live: Live, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.shared.release_closed();
        if let Live::Config(function) = live {
            return self.write_config(function, bytes, offset);
        }
        let text = str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?.trim_end_matches('\n');
        match live {
            Live::UnsafeNoiommuMode => self.set_switch(text, |modules| &mut modules.unsafe_noiommu_mode)?,
            Live::UnsafeInterrupts => self.set_switch(text, |modules| &mut modules.unsafe_interrupts)?,
            Live::Type1UnsafeInterrupts => {
                self.set_switch(text, |modules| &mut modules.type1_unsafe_interrupts)?;
            }
            Live::DmaEntryLimit => {
                let limit = parse_uint(text)?;
                self.shared.subsystem.set_modules(|modules| modules.dma_entry_limit = limit);
            }
            Live::DriverOverride(function) => {
                self.binding(function)?.set_only(Some(text.to_string()).filter(|name| !name.is_empty()));
            }
            Live::EnabledVfs(function) => {
                let count = parse_uint(text).ok().and_then(|count| u16::try_from(count).ok());
                self.shared.set_vfs(function, count.ok_or(Errno::EINVAL)?)?;
            }
            Live::EnableSriov => self.shared.enable_sriov.store(parse_bool(text)?, Ordering::Relaxed),
            Live::FailNth => {
                let n = parse_uint(text)?;
                self.world().faults().nth.order(Some(n.into()).filter(|n| *n != 0));
            }
            Live::FailslabIgnoresWaiting => {
                self.world().faults().counts_allocations.store(!parse_bool(text)?, Ordering::Relaxed);
            }
            Live::Bind(driver) => self.shared.bind(driver, text)?,
            Live::Unbind(driver) => self.shared.unbind(driver, text)?,
            Live::Probe => self.shared.drivers_probe(text)?,
            Live::Remove(function) if is_nonzero(text)? => self.shared.unplug(function),
            Live::Rescan if is_nonzero(text)? => self.shared.rescan()?,
            Live::Remove(_) | Live::Rescan => {}
            Live::Config(_)
            | Live::Tainted
            | Live::Pagemap
            | Live::Status(_)
            | Live::Fdinfo(_)
            | Live::Devices
            | Live::Interrupts => return Err(Errno::EIO),
        }
        Ok(bytes.len())
    }

    /// Sets a module parameter that is on or off.
    fn set_switch(
        &self,
        text: &str,
        switch: impl FnOnce(&mut ModuleParameters) -> &mut bool,
    ) -> Result<(), Errno> {
        let on = parse_bool(text)?;
        self.shared.subsystem.set_modules(|modules| *switch(modules) = on);
        Ok(())
    }

    /// A function that is on the bus.
    fn function(&self, function: Function) -> Result<&PciFunction, Errno> {
        let found = self.world().bus().get(function).filter(|function| function.is_present());
        found.map(|function| &**function).ok_or(Errno::ENODEV)
    }

    fn binding(&self, function: Function) -> Result<&Binding, Errno> {
        self.shared.binding(self.function(function)?.number()).ok_or(Errno::ENODEV)
    }

    /// The part of configuration space that the caller may read.
    fn config(&self, function: Function) -> Result<Vec<u8>, Errno> {
        let mut config = self.function(function)?.config_bytes();
        if !self.caller.is_admin() {
            config.truncate(PUBLIC_CONFIG);
        }
        Ok(config)
    }

    /// Writes configuration space in naturally aligned pieces of at most 4 bytes.
    fn write_config(&self, function: Function, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        let function = self.function(function)?;
        let mut at = u16::try_from(offset).unwrap_or(u16::MAX).min(function.config_size());
        let length = bytes.len().min(usize::from(function.config_size() - at));
        let mut left = &bytes[..length];
        while !left.is_empty() {
            let width = [4, 2, 1]
                .into_iter()
                .find(|&width| at.is_multiple_of(width) && left.len() >= usize::from(width));
            let (piece, rest) = left.split_at(usize::from(width.unwrap_or(1)));
            let value = piece.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            function.config_write(at, piece.len() as u8, value);
            at += piece.len() as u16;
            left = rest;
        }
        Ok(length)
    }
}

/// The bytes of a file from an offset on, as many as fit.
pub(super) fn copy(content: &[u8], bytes: &mut [u8], offset: u64) -> usize {
    let content = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or(&[]);
    let length = content.len().min(bytes.len());
    bytes[..length].copy_from_slice(&content[..length]);
    length
}

/// How a module parameter tells whether it is on.
fn bool_line(on: bool) -> String {
    if on { "Y\n" } else { "N\n" }.to_string()
}

/// Whether a number that is written to a file of the bus is another one than zero.
fn is_nonzero(text: &str) -> Result<bool, Errno> {
    parse_number(text).map(|number| number != 0).map_err(|_| Errno::EINVAL)
}

/// A number of 32 bits, as module parameters are written.
fn parse_uint(text: &str) -> Result<u32, Errno> {
    u32::try_from(parse_number(text)?).map_err(|_| Errno::ERANGE)
}

/// A number as it is written to sysfs: decimal, octal behind a `0`, hexadecimal behind `0x`.
fn parse_number(text: &str) -> Result<u64, Errno> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Errno::ERANGE)
}

/// A boolean, as module parameters are written.
fn parse_bool(text: &str) -> Result<bool, Errno> {
    match text.as_bytes() {
        [b'y' | b'Y' | b't' | b'T' | b'1', ..] | [b'o' | b'O', b'n' | b'N', ..] => Ok(true),
        [b'n' | b'N' | b'f' | b'F' | b'0', ..] | [b'o' | b'O', b'f' | b'F', ..] => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}
