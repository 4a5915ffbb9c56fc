//! The configuration space of a function (PCI Local Bus 3.0, chapter 6; PCI Express Base 6.0, chapter 7).
#![forbid(unsafe_code)]

mod capability;

pub use capability::{Capability, ExpressCapability, MsiCapability, MsixCapability, PowerCapability};

use sys::{MmioError, Sys, Width};

use crate::error::Attempt;
use crate::{Device, Errno, Error, Result};

const VENDOR_ID: u16 = 0x00;
const DEVICE_ID: u16 = 0x02;
pub(crate) const COMMAND: u16 = 0x04;
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
            self.check(offset, Width::$width)?;
            let device = self.device;
            let count = device
                .reach
                .read_config(&mut bytes, offset)
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
            self.check(offset, Width::$width)?;
            let device = self.device;
            let count = device
                .reach
                .write_config(&bytes, offset, &format!("configuration space {offset:#x} = {value:#x}"))
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

    /// Whether an access is aligned and within configuration space.
    fn check(&self, offset: u16, width: Width) -> Result<()> {
        let length = self.length()?;
        let at = usize::from(offset);
        if at.is_multiple_of(width.bytes()) && at + width.bytes() <= length {
            return Ok(());
        }
        let error = MmioError::OutOfBounds { offset: at, width, length };
        Err(Error::Register { device: format!("configuration space of {}", self.device.label), error })
    }

    /// Its length in bytes.
    fn length(&self) -> Result<usize> {
        let device = self.device;
        if let Some(length) = device.config_length.get() {
            return Ok(*length);
        }
        let length = device.reach.config_length();
        let length =
            length.attempt(|| format!("cannot learn how long configuration space of {} is", device.label))?;
        Ok(*device.config_length.get_or_init(|| length))
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
