//! The registers of a device.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use sys::{Mmio, Sys};

use crate::error::Attempt;
use crate::{Command, Device, Error, Result};

/// The registers behind a BAR: 8-, 16-, 32- and 64-bit accesses, little-endian, volatile, in order and bounds-checked.
///
/// The methods are those of [`Mmio`], to which it dereferences: `bar.read32(0x10)` panics on an offset that is out of
/// bounds or unaligned, as indexing does; `bar.try_read32(0x10)` gives an error. Cloning gives another handle.
#[derive(Clone)]
pub struct Bar {
    index: u8,
    mmio: Mmio,
}

impl Bar {
    pub(crate) fn map<S: Sys>(device: &Device<S>, index: u8) -> Result<Self> {
        let missing = || Error::Missing { device: device.label.clone(), what: format!("BAR {index}") };
        if index > 5 {
            return Err(missing());
        }
        let mapped = device.reach.map_bar(index);
        let mmio = mapped.attempt(|| format!("cannot reach BAR {index} of {}", device.label))?;
        let mmio = mmio.ok_or_else(missing)?;
        switch_on(device, index)?;
        Ok(Bar { index, mmio })
    }

    /// Which BAR it is.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }
}

impl Deref for Bar {
    type Target = Mmio;

    fn deref(&self) -> &Mmio {
        &self.mmio
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bar({}, {:?})", self.index, self.mmio)
    }
}

/// Switches the decoding of a BAR on, if it is off: of memory or of I/O ports, as the lowest bit of the BAR says.
fn switch_on<S: Sys>(device: &Device<S>, index: u8) -> Result<()> {
    const FIRST_BAR: u16 = 0x10;
    let config = device.config();
    let ports = config.read_u32(FIRST_BAR + 4 * u16::from(index))? & 1 != 0;
    let decoding = if ports { Command::IO } else { Command::MEMORY };
    let command = config.command()?;
    if command.contains(decoding) { Ok(()) } else { config.set_command(command | decoding) }
}
