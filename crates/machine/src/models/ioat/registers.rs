//! Registers of an I/OAT channel of version 3.3 and their bits (Intel Xeon Processor Scalable Family datasheet, volume 2,
//! "Intel QuickData Technology").

use sys::Width;

/// How many bytes BAR 0 takes; the table of MSI-X is in it.
pub(super) const SIZE: u64 = 16 << 10;

/// A register: where it starts, and how many bytes it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// The part of an access that falls into a register, as a value of that register.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) value: u64,
    /// The bits that the access covers.
    pub(super) mask: u64,
}

impl Field {
    const fn new(at: u64, bytes: u64) -> Self {
        Field { at, bytes }
    }

    fn meets(self, offset: u64, width: Width) -> bool {
        self.at < offset + width.bytes() as u64 && offset < self.at + self.bytes
    }

    /// What an access at `offset` sees of this register; nothing of it where they do not meet.
    pub(super) fn seen(self, value: u64, offset: u64, width: Width) -> u64 {
        if self.meets(offset, width) { moved(value & ones(self.bytes), self.at, offset) } else { 0 }
    }

    /// What a write at `offset` brings to this register; `None` where they do not meet.
    pub(super) fn part(self, value: u64, offset: u64, width: Width) -> Option<Part> {
        let covered = ones(width.bytes() as u64);
        let here = |value| moved(value & covered, offset, self.at) & ones(self.bytes);
        self.meets(offset, width).then(|| Part { value: here(value), mask: here(u64::MAX) })
    }
}

impl Part {
    /// The register's value, where a write replaces the bytes that it covers.
    pub(super) fn over(self, old: u64) -> u64 {
        old & !self.mask | self.value
    }
}

/// A value that starts at the byte `from`, as it is seen from the byte `to`.
fn moved(value: u64, from: u64, to: u64) -> u64 {
    if from >= to { value << (8 * (from - to)) } else { value >> (8 * (to - from)) }
}

/// All bits of so many bytes.
pub(super) fn ones(bytes: u64) -> u64 {
    u64::MAX >> (64 - 8 * bytes)
}

// Of the function.
pub(super) const CHANCNT: Field = Field::new(0x00, 1);
pub(super) const XFERCAP: Field = Field::new(0x01, 1);
pub(super) const INTRCTRL: Field = Field::new(0x03, 1);
/// Each channel has a vector of MSI-X of its own.
pub(super) const INTRCTRL_VECTORS: u64 = 1 << 3;
pub(super) const VER: Field = Field::new(0x08, 1);
pub(super) const VERSION: u64 = 0x33;
pub(super) const DMACAP: Field = Field::new(0x10, 4);
pub(super) const DMACAP_FILL: u64 = 1 << 6;

// Of the channel.
pub(super) const CHANCTRL: Field = Field::new(0x80, 2);
/// Reads as one once an interrupt was sent: no other is before a one is written here.
pub(super) const CHANCTRL_INT_DISABLE: u64 = 1 << 0;
pub(super) const CHANCTRL_ERR_COMPLETION: u64 = 1 << 2;
pub(super) const CHANCTRL_ERR_INT: u64 = 1 << 4;
pub(super) const CHANCMD: Field = Field::new(0x84, 1);
pub(super) const CHANCMD_SUSPEND: u64 = 1 << 2;
pub(super) const CHANCMD_RESET: u64 = 1 << 5;
pub(super) const DMACOUNT: Field = Field::new(0x86, 2);
pub(super) const CHANSTS: Field = Field::new(0x88, 8);
pub(super) const CHANSTS_ACTIVE: u64 = 0;
pub(super) const CHANSTS_DONE: u64 = 1;
pub(super) const CHANSTS_SUSPENDED: u64 = 2;
pub(super) const CHANSTS_HALTED: u64 = 3;
pub(super) const CHAINADDR: Field = Field::new(0x90, 8);
pub(super) const CHANCMP: Field = Field::new(0x98, 8);
/// The descriptor that is executed, or is to be next.
pub(super) const CDAR: Field = Field::new(0xa0, 8);
pub(super) const CHANERR: Field = Field::new(0xa8, 4);

/// Every register.
pub(super) const FIELDS: [Field; 13] = [
    CHANCNT, XFERCAP, INTRCTRL, VER, DMACAP, CHANCTRL, CHANCMD, DMACOUNT, CHANSTS, CHAINADDR, CHANCMP, CDAR,
    CHANERR,
];

/// Bits of CHANERR.
pub(super) mod error {
    /// The next descriptor cannot be read.
    pub(in super::super) const NEXT_ADDRESS: u64 = 1 << 2;
    /// The next descriptor is not aligned to its length.
    pub(in super::super) const NEXT_ALIGNMENT: u64 = 1 << 3;
    /// The first descriptor of a chain is where none can be.
    pub(in super::super) const CHAIN_ADDRESS: u64 = 1 << 4;
    /// A command that is none.
    pub(in super::super) const COMMAND: u64 = 1 << 5;
    /// The source cannot be read.
    pub(in super::super) const READ: u64 = 1 << 8;
    /// The destination cannot be written to.
    pub(in super::super) const WRITE: u64 = 1 << 9;
    /// An operation that the channel does not have.
    pub(in super::super) const CONTROL: u64 = 1 << 10;
    /// Nothing to transfer, or more than XFERCAP allows.
    pub(in super::super) const LENGTH: u64 = 1 << 11;
    /// The completion cannot be written.
    pub(in super::super) const COMPLETION_ADDRESS: u64 = 1 << 12;
}

// Of a descriptor: bits of its control word, and operations.
pub(super) const DESCRIPTOR_INTERRUPT: u32 = 1 << 0;
pub(super) const DESCRIPTOR_COMPLETION: u32 = 1 << 3;
pub(super) const DESCRIPTOR_NULL: u32 = 1 << 5;
pub(super) const COPY: u8 = 0x00;
pub(super) const FILL: u8 = 0x01;
