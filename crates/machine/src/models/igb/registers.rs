//! Registers of the 82576 and their bits (Intel 82576 Gigabit Ethernet Controller datasheet, chapter 8).

/// How many bytes the registers take.
pub(super) const SIZE: u64 = 128 << 10;

pub(super) const CTRL: u64 = 0x0000;
pub(super) const CTRL_SLU: u32 = 1 << 6;
pub(super) const CTRL_RST: u32 = 1 << 26;
pub(super) const STATUS: u64 = 0x0008;
/// Full duplex, link up, 1000 Mb/s.
pub(super) const STATUS_LINK: u32 = 1 << 0 | 1 << 1 | 1 << 7;
pub(super) const EECD: u64 = 0x0010;
pub(super) const EECD_AUTO_RD: u32 = 1 << 9;
pub(super) const MDIC: u64 = 0x0020;
pub(super) const MDIC_READ: u32 = 0b10 << 26;
pub(super) const MDIC_OPERATION: u32 = 0b11 << 26;
pub(super) const MDIC_READY: u32 = 1 << 28;
pub(super) const RCTL: u64 = 0x0100;
pub(super) const RCTL_EN: u32 = 1 << 1;
/// Takes frames to any single address, and to any group.
pub(super) const RCTL_UPE: u32 = 1 << 3;
pub(super) const RCTL_MPE: u32 = 1 << 4;
pub(super) const RCTL_LOOPBACK: u32 = 0b11 << 6;
pub(super) const RCTL_LOOPBACK_MAC: u32 = 0b01 << 6;
/// Takes frames to everybody.
pub(super) const RCTL_BAM: u32 = 1 << 15;
pub(super) const RCTL_BSIZE: u32 = 0b11 << 16;
pub(super) const RCTL_SECRC: u32 = 1 << 26;
pub(super) const TCTL: u64 = 0x0400;
pub(super) const TCTL_EN: u32 = 1 << 1;
pub(super) const GPIE: u64 = 0x1514;
pub(super) const GPIE_EIAME: u32 = 1 << 30;
pub(super) const EICS: u64 = 0x1520;
pub(super) const EIMS: u64 = 0x1524;
pub(super) const EIMC: u64 = 0x1528;
pub(super) const EIAC: u64 = 0x152c;
pub(super) const EIAM: u64 = 0x1530;
pub(super) const EICR: u64 = 0x1580;
pub(super) const IVAR0: u64 = 0x1700;
pub(super) const IVAR_VALID: u32 = 1 << 7;
pub(super) const IVAR_VECTOR: u32 = 0x1f;

/// The receive queue, and registers relative to it.
pub(super) const RECEIVE: u64 = 0xc000;
/// The transmit queue.
pub(super) const TRANSMIT: u64 = 0xe000;
/// Where the queues are too, for software that is older than their present place.
pub(super) const ALIASES: [(u64, u64); 2] = [(0x2800, RECEIVE), (0x3800, TRANSMIT)];
pub(super) const ALIAS_SIZE: u64 = 0x40;
pub(super) const BASE_LOW: u64 = 0x00;
pub(super) const BASE_HIGH: u64 = 0x04;
pub(super) const LENGTH: u64 = 0x08;
pub(super) const SRRCTL: u64 = 0x0c;
/// The size of a receive buffer in KiB; 0: as RCTL says.
pub(super) const SRRCTL_BSIZE: u32 = 0x7f;
pub(super) const HEAD: u64 = 0x10;
pub(super) const TAIL: u64 = 0x18;
pub(super) const QUEUE_CONTROL: u64 = 0x28;
pub(super) const QUEUE_ENABLE: u32 = 1 << 25;

/// The control register of the PHY, and its loopback bit (IEEE 802.3, clause 22).
pub(super) const PHY_CONTROL: usize = 0;
pub(super) const PHY_LOOPBACK: u16 = 1 << 14;

/// Bits of the third word of an advanced transmit descriptor.
pub(super) const TX_LENGTH: u32 = 0xffff;
pub(super) const TX_TYPE: u32 = 0xf << 20;
pub(super) const TX_TYPE_DATA: u32 = 0x3 << 20;
pub(super) const TX_EOP: u32 = 1 << 24;
pub(super) const TX_IFCS: u32 = 1 << 25;
pub(super) const TX_RS: u32 = 1 << 27;
pub(super) const TX_DEXT: u32 = 1 << 29;
/// Bits of the status that is written back.
pub(super) const DONE: u32 = 1 << 0;
pub(super) const RX_EOP: u32 = 1 << 1;
