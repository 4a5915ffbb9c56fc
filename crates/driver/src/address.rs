//! The kinds of addresses that must not be mixed, and where a device is on the bus.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

macro_rules! addresses {
    ($( $(#[$meta:meta])* $name:ident; )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The address of this number.
            #[must_use]
            pub const fn new(address: u64) -> Self {
                $name(address)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    )*};
}

addresses! {
    /// An address in an I/O address space: what an IOMMU translates. Without an IOMMU it is a name for memory and means
    /// nothing to the device.
    Iova;
    /// An address in physical memory.
    PhysAddr;
    /// An address in this process.
    UserVa;
    /// What a device is to be told: the [`Iova`] behind an IOMMU, the [`PhysAddr`] without one.
    DeviceAddr;
}

impl From<Iova> for DeviceAddr {
    /// What a device behind an IOMMU is to be told.
    fn from(iova: Iova) -> Self {
        DeviceAddr(iova.0)
    }
}

impl From<PhysAddr> for DeviceAddr {
    /// What a device without an IOMMU is to be told.
    fn from(address: PhysAddr) -> Self {
        DeviceAddr(address.0)
    }
}

/// Where a function is on the PCI bus, written `0000:01:00.0`: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// The function at this place; `None` unless `device` is below 32 and `function` below 8.
    #[must_use]
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 { Some(PciAddress { domain, bus, device, function }) } else { None }
    }

    /// The domain, also called segment.
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// The bus.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device on the bus, below 32.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function of the device, below 8.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// A text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no PCI address; it is written like 0000:01:00.0 (domain:bus:device.function, hexadecimal)"
)]
pub struct ParseAddressError {
    text: String,
}

impl FromStr for PciAddress {
    type Err = ParseAddressError;

    /// Takes `0000:01:00.0` and, for domain 0, `01:00.0`.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        parse(text).ok_or_else(|| ParseAddressError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (text, function) = text.rsplit_once('.')?;
    let (text, device) = text.rsplit_once(':')?;
    let (domain, bus) = text.rsplit_once(':').unwrap_or(("0000", text));
    // The kernel writes at least four digits, and more where a domain needs them.
    let domain = if domain.len() > 4 { hex(domain, 8)? } else { hex(domain, 4)? };
    let byte = |text, digits| hex(text, digits).and_then(|value| u8::try_from(value).ok());
    PciAddress::new(domain, byte(bus, 2)?, byte(device, 2)?, byte(function, 1)?)
}

/// A number of at most so many hexadecimal digits, without a sign.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u32::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::PciAddress;

    #[test]
    fn addresses_read_back_as_written() {
        for text in ["0000:01:00.0", "0000:ff:1f.7", "10000:00:00.1"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        assert_eq!("01:02.3".parse::<PciAddress>().unwrap().to_string(), "0000:01:02.3");
        assert_eq!("0000:AB:02.3".parse::<PciAddress>().unwrap().to_string(), "0000:ab:02.3");
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in
            ["", "nvme0", "0000:01:00", "0000:01:20.0", "0000:01:00.8", "0000:+1:00.0", "0:0:0:0.0", "1:.0"]
        {
            let error = text.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("0000:01:00.0"), "{error}");
        }
    }
}
