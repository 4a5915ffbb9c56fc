//! The registers of a device.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use sys::{Mapping, Mmio, MmioError, Registers, Sys, Width};
use uapi::Command as _;
use uapi::vfio::{VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VfioRegionInfo};

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
        let region = region(device, index.into())?;
        let length = usize::try_from(region.size).map_err(|_| missing())?;
        if length == 0 || region.flags & VFIO_REGION_INFO_FLAG_READ == 0 {
            return Err(missing());
        }
        switch_on(device, index)?;
        let mmio = if region.flags & VFIO_REGION_INFO_FLAG_MMAP != 0 {
            let mapping = Mapping::registers(region.offset, length);
            device
                .calls
                .map_region(&device.file, mapping)
                .attempt(|| format!("cannot map BAR {index} of {}", device.label))?
        } else {
            let file = device
                .calls
                .sys
                .try_clone(&device.file)
                .attempt(|| format!("cannot reach BAR {index} of {}", device.label))?;
            let registers = ByCall { sys: device.calls.sys.clone(), file, start: region.offset };
            Mmio::called(Arc::new(registers), length)
        };
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

/// What the kernel tells of a region of the device file.
pub(crate) fn region<S: Sys>(device: &Device<S>, index: u32) -> Result<VfioRegionInfo> {
    let argument = VfioRegionInfo { index, ..VfioRegionInfo::new() };
    device
        .calls
        .ioctl(&device.file, argument, |done| format!("region {index}: {} bytes", done.size))
        .attempt(|| format!("cannot ask about region {index} of {}", device.label))
}

/// Registers that cannot be mapped, such as I/O ports: each access is a system call.
struct ByCall<S: Sys> {
    sys: S,
    file: S::File,
    start: u64,
}

impl<S: Sys> Registers for ByCall<S> {
    fn read(&self, offset: usize, width: Width) -> std::result::Result<u64, MmioError> {
        let mut bytes = [0; 8];
        let part = &mut bytes[..width.bytes()];
        match self.sys.pread(&self.file, part, self.start + offset as u64) {
            Ok(count) if count == width.bytes() => Ok(u64::from_le_bytes(bytes)),
            _ => Err(MmioError::Revoked { offset }),
        }
    }

    fn write(&self, offset: usize, width: Width, value: u64) -> std::result::Result<(), MmioError> {
        let bytes = value.to_le_bytes();
        let part = &bytes[..width.bytes()];
        match self.sys.pwrite(&self.file, part, self.start + offset as u64) {
            Ok(count) if count == width.bytes() => Ok(()),
            _ => Err(MmioError::Revoked { offset }),
        }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
