//! Registers of configuration space, by the names and values of the PCI specifications.

pub(super) const COMMAND: u16 = 0x04;
pub(super) const COMMAND_IO: u32 = 1 << 0;
pub(super) const COMMAND_MEMORY: u32 = 1 << 1;
pub(super) const COMMAND_MASTER: u32 = 1 << 2;
pub(super) const COMMAND_INTX_DISABLE: u32 = 1 << 10;
pub(super) const STATUS: u16 = 0x06;
pub(super) const STATUS_CAPABILITIES: u32 = 1 << 4;
pub(super) const CLASS: u16 = 0x0a;
pub(super) const CLASS_VGA: u32 = 0x0300;
pub(super) const CACHE_LINE: u16 = 0x0c;
pub(super) const LATENCY: u16 = 0x0d;
pub(super) const HEADER_TYPE: u16 = 0x0e;
pub(super) const BIST: u16 = 0x0f;
pub(super) const BAR0: u16 = 0x10;
pub(super) const BARS_END: u16 = 0x28;
pub(super) const ROM_BAR: u16 = 0x30;
pub(super) const CAPABILITIES: u16 = 0x34;
pub(super) const INTERRUPT_LINE: u16 = 0x3c;
pub(super) const INTERRUPT_PIN: u16 = 0x3d;

/// The header that each function has.
pub(super) const HEADER_SIZE: u16 = 0x40;
/// The space that conventional PCI knows; extended capabilities start behind it.
pub(super) const CONVENTIONAL_SIZE: u16 = 0x100;

pub(super) const BAR_IO: u32 = 1 << 0;
pub(super) const BAR_WIDE: u32 = 1 << 2;
pub(super) const BAR_PREFETCHABLE: u32 = 1 << 3;
pub(super) const ROM_ENABLE: u32 = 1 << 0;

/// The number of BARs, and the indices by which the host knows the expansion ROM and the legacy addresses of VGA.
pub(super) const BARS: u8 = 6;
pub(super) const ROM_REGION: u8 = 6;
pub(super) const VGA_REGION: u8 = 8;

/// Identifiers of capabilities.
pub(super) mod capability {
    pub(in super::super) const POWER: u8 = 0x01;
    pub(in super::super) const AGP: u8 = 0x02;
    pub(in super::super) const VITAL_DATA: u8 = 0x03;
    pub(in super::super) const MSI: u8 = 0x05;
    pub(in super::super) const PCI_X: u8 = 0x07;
    pub(in super::super) const HYPER_TRANSPORT: u8 = 0x08;
    pub(in super::super) const VENDOR: u8 = 0x09;
    pub(in super::super) const EXPRESS: u8 = 0x10;
    pub(in super::super) const MSIX: u8 = 0x11;
    pub(in super::super) const SATA: u8 = 0x12;
    pub(in super::super) const ADVANCED_FEATURES: u8 = 0x13;
}

/// Identifiers of extended capabilities.
pub(super) mod extended {
    pub(in super::super) const ERROR_REPORTING: u16 = 0x01;
    pub(in super::super) const SERIAL_NUMBER: u16 = 0x03;
    pub(in super::super) const POWER_BUDGET: u16 = 0x04;
    pub(in super::super) const VENDOR: u16 = 0x0b;
    pub(in super::super) const ACCESS_CONTROL: u16 = 0x0d;
    pub(in super::super) const ALTERNATIVE_ROUTING: u16 = 0x0e;
    pub(in super::super) const ADDRESS_TRANSLATION: u16 = 0x0f;
    pub(in super::super) const SR_IOV: u16 = 0x10;
    pub(in super::super) const MULTICAST: u16 = 0x12;
    pub(in super::super) const PAGE_REQUEST: u16 = 0x13;
    pub(in super::super) const RESIZABLE_BAR: u16 = 0x15;
    pub(in super::super) const LATENCY_TOLERANCE: u16 = 0x18;
    pub(in super::super) const DESIGNATED_VENDOR: u16 = 0x23;
}

/// Every capability: where the pointer to the next one is.
pub(super) const NEXT: u16 = 1;

/// Power management: capabilities, control and status.
pub(super) const POWER_CAPABILITIES: u16 = 2;
pub(super) const POWER_D1: u32 = 1 << 9;
pub(super) const POWER_D2: u32 = 1 << 10;
pub(super) const POWER_PME_SUPPORT: u32 = 0xf800;
pub(super) const POWER_CONTROL: u16 = 4;
pub(super) const POWER_STATE: u32 = 0x3;
pub(super) const POWER_NO_SOFT_RESET: u32 = 1 << 3;
pub(super) const POWER_PME_ENABLE: u32 = 1 << 8;
pub(super) const POWER_PME_STATUS: u32 = 1 << 15;

/// Vital product data: the address, whose top bit says that the transfer of the data is done (of a read) or to be done
/// (of a write), and the data.
pub(super) const VITAL_ADDRESS: u16 = 2;
pub(super) const VITAL_TRANSFER: u32 = 1 << 15;
pub(super) const VITAL_DATA: u16 = 4;

/// MSI: control, and where address and data follow it.
pub(super) const MSI_CONTROL: u16 = 2;
pub(super) const MSI_ENABLE: u32 = 1 << 0;
pub(super) const MSI_CAPABLE: u32 = 0x0e;
pub(super) const MSI_MULTIPLE: u32 = 0x70;
pub(super) const MSI_WIDE: u32 = 1 << 7;
pub(super) const MSI_MASKABLE: u32 = 1 << 8;
pub(super) const MSI_ADDRESS: u16 = 4;

/// MSI-X: control, and where the table is.
pub(super) const MSIX_CONTROL: u16 = 2;
pub(super) const MSIX_SIZE: u32 = 0x7ff;
pub(super) const MSIX_TABLE: u16 = 4;
pub(super) const MSIX_BAR: u32 = 0x7;
pub(super) const MSIX_ENTRY: u64 = 16;

/// PCI Express: device capabilities and control.
pub(super) const EXPRESS_FLAGS: u16 = 2;
pub(super) const EXPRESS_VERSION: u32 = 0xf;
pub(super) const EXPRESS_TYPE: u32 = 0xf0;
pub(super) const EXPRESS_TYPE_INTEGRATED: u32 = 0x90;
pub(super) const EXPRESS_DEVICE: u16 = 4;
pub(super) const EXPRESS_FUNCTION_RESET_CAPABLE: u32 = 1 << 28;
pub(super) const EXPRESS_CONTROL: u16 = 8;
pub(super) const EXPRESS_PAYLOAD: u32 = 0x00e0;
pub(super) const EXPRESS_PHANTOM: u32 = 1 << 9;
pub(super) const EXPRESS_READ_REQUEST: u32 = 0x7000;
pub(super) const EXPRESS_FUNCTION_RESET: u32 = 1 << 15;
pub(super) const EXPRESS_CONTROL_2: u16 = 0x28;
pub(super) const EXPRESS_ARI: u32 = 1 << 5;

/// Advanced features of conventional PCI: function reset.
pub(super) const FEATURES_CAPABLE: u16 = 3;
pub(super) const FEATURES_CAN_RESET: u32 = 0x3;
pub(super) const FEATURES_CONTROL: u16 = 4;
pub(super) const FEATURES_RESET: u32 = 1 << 0;
