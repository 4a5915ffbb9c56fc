//! The configuration space of a function (PCI Local Bus 3.0, chapter 6; PCI Express Base 6.0, chapter 7).
#![forbid(unsafe_code)]

mod capability;

pub use capability::{Capability, ExpressCapability, MsiCapability, MsixCapability, PowerCapability};

use std::sync::OnceLock;

use sys::{MmioError, Sys, Width};
use uapi::vfio::VFIO_PCI_CONFIG_REGION_INDEX;

use crate::bar::region;
use crate::error::Attempt;
use crate::{Device, Errno, Error, Result};

const VENDOR_ID: u16 = 0x00;
const DEVICE_ID: u16 = 0x02;
const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const REVISION_ID: u16 = 0x08;
const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
const SUBSYSTEM_ID: u16 = 0x2e;

bitflags::bitflags! {
    /// The command register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// I/O ports are decoded.
        const IO = 1 << 0;
        /// Memory BARs are decoded.
        const MEMORY = 1 << 1;
        /// The function may read and write memory and send messages.
        const BUS_MASTER = 1 << 2;
        /// Parity errors are answered.
        const PARITY_ERROR = 1 << 6;
        /// System errors are signalled.
        const SYSTEM_ERROR = 1 << 8;
        /// The interrupt line is off.
        const INTX_DISABLE = 1 << 10;
        const _ = !0;
    }

    /// The status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u16 {
        /// The interrupt line is asserted.
        const INTERRUPT = 1 << 3;
        /// There is a list of capabilities.
        const CAPABILITIES = 1 << 4;
        /// The function met an answer that was an abort.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        const _ = !0;
    }
}

/// The configuration space of a device.
pub struct Config<'a, S: Sys> {
    device: &'a Device<S>,
}

macro_rules! accessors {
    ($($read:ident, $write:ident, $type:ident, $width:ident;)*) => {$(
        #[doc = concat!("Reads a `", stringify!($type), "` at `offset` bytes.")]
        ///
        /// # Errors
        ///
        /// [`Error::Register`] if it is unaligned or past the end.
        pub fn $read(&self, offset: u16) -> Result<$type> {
            let mut bytes = [0; size_of::<$type>()];
            let at = self.locate(offset, Width::$width)?;
            let device = self.device;
            let count = device
                .calls
                .sys
                .pread(&device.file, &mut bytes, at)
                .attempt(|| format!("cannot read configuration space of {} at {offset:#x}", device.label))?;
            self.whole(count, bytes.len(), offset)?;
            Ok(<$type>::from_le_bytes(bytes))
        }

        #[doc = concat!("Writes a `", stringify!($type), "` at `offset` bytes. What the kernel keeps to itself it does not change.")]
        ///
        /// # Errors
        ///
        /// [`Error::Register`] if it is unaligned or past the end.
        pub fn $write(&self, offset: u16, value: $type) -> Result<()> {
            let bytes = value.to_le_bytes();
            let at = self.locate(offset, Width::$width)?;
            let device = self.device;
            let count = device
                .calls
                .write(&device.file, &bytes, at, &format!("configuration space {offset:#x} = {value:#x}"))
                .attempt(|| format!("cannot write configuration space of {} at {offset:#x}", device.label))?;
            self.whole(count, bytes.len(), offset)
        }
    )*};
}

impl<'a, S: Sys> Config<'a, S> {
    pub(crate) fn new(device: &'a Device<S>) -> Self {
        Config { device }
    }

    accessors! {
        read_u8, write_u8, u8, U8;
        read_u16, write_u16, u16, U16;
        read_u32, write_u32, u32, U32;
    }

    /// Vendor ID.
    pub fn vendor_id(&self) -> Result<u16> {
        self.read_u16(VENDOR_ID)
    }

    /// Device ID.
    pub fn device_id(&self) -> Result<u16> {
        self.read_u16(DEVICE_ID)
    }

    /// Subsystem vendor ID and subsystem ID.
    pub fn subsystem(&self) -> Result<(u16, u16)> {
        Ok((self.read_u16(SUBSYSTEM_VENDOR_ID)?, self.read_u16(SUBSYSTEM_ID)?))
    }

    /// Revision ID.
    pub fn revision(&self) -> Result<u8> {
        self.read_u8(REVISION_ID)
    }

    /// Class code: base class, sub-class, programming interface, from the top (`0x01_08_02` for NVMe).
    pub fn class(&self) -> Result<u32> {
        Ok(self.read_u32(REVISION_ID)? >> 8)
    }

    /// The command register.
    pub fn command(&self) -> Result<Command> {
        self.read_u16(COMMAND).map(Command::from_bits_retain)
    }

    /// Sets the command register.
    pub fn set_command(&self, command: Command) -> Result<()> {
        self.write_u16(COMMAND, command.bits())
    }

    /// The status register.
    pub fn status(&self) -> Result<Status> {
        self.read_u16(STATUS).map(Status::from_bits_retain)
    }

    /// Where an access lies in the device file.
    fn locate(&self, offset: u16, width: Width) -> Result<u64> {
        let (start, length) = self.extent()?;
        let offset = usize::from(offset);
        if offset.is_multiple_of(width.bytes()) && offset + width.bytes() <= length {
            Ok(start + offset as u64)
        } else {
            let error = MmioError::OutOfBounds { offset, width, length };
            Err(Error::Register { device: format!("configuration space of {}", self.device.label), error })
        }
    }

    /// Where configuration space starts in the device file, and its length.
    fn extent(&self) -> Result<(u64, usize)> {
        let known: &OnceLock<_> = &self.device.config_extent;
        if let Some(extent) = known.get() {
            return Ok(*extent);
        }
        let region = region(self.device, VFIO_PCI_CONFIG_REGION_INDEX)?;
        let extent = (region.offset, usize::try_from(region.size).unwrap_or(usize::MAX));
        Ok(*known.get_or_init(|| extent))
    }

    fn whole(&self, count: usize, length: usize, offset: u16) -> Result<()> {
        if count == length {
            return Ok(());
        }
        Err(sys::Error::new(
            "pread or pwrite",
            format_args!("configuration space at {offset:#x}"),
            Errno::EIO,
        ))
        .attempt(|| format!("{} moved {count} of {length} bytes", self.device.label))
    }
}
