//! Places and numbers of configuration space, as the PCI specifications name them.

use uapi::vfio::VFIO_PCI_CONFIG_REGION_INDEX;

/// Registers.
pub(crate) mod register {
    pub(crate) const VENDOR: u64 = 0x00;
    pub(crate) const COMMAND: u64 = 0x04;
    pub(crate) const STATUS: u64 = 0x06;
    pub(crate) const BAR0: u64 = 0x10;
    pub(crate) const CAPABILITIES: u64 = 0x34;
    pub(crate) const INTERRUPT_LINE: u64 = 0x3c;
    pub(crate) const INTERRUPT_PIN: u64 = 0x3d;
}

/// Bits of the command register.
pub(crate) mod command {
    pub(crate) const IO: u16 = 1 << 0;
    pub(crate) const MEMORY: u16 = 1 << 1;
    pub(crate) const BUS_MASTER: u16 = 1 << 2;
    pub(crate) const NO_INTX: u16 = 1 << 10;
}

/// Identifiers of capabilities.
pub(crate) mod capability {
    pub(crate) const POWER_MANAGEMENT: u8 = 0x01;
    pub(crate) const MSI: u8 = 0x05;
    pub(crate) const EXPRESS: u8 = 0x10;
    pub(crate) const MSIX: u8 = 0x11;
    pub(crate) const ADVANCED_FEATURES: u8 = 0x13;
}

/// Where a region starts in a device file.
pub(crate) const fn region(index: u32) -> u64 {
    (index as u64) << 40
}

/// A place in configuration space, as an offset in a device file.
pub(crate) const fn config(offset: u64) -> u64 {
    region(VFIO_PCI_CONFIG_REGION_INDEX) + offset
}
