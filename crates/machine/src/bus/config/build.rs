//! A configuration space as a function comes out of power-on.

use super::super::function::Place;
use super::super::sriov::{self, Role, VirtualFunctions};
use super::{
    CACHE_LINE, COMMAND, ConfigSpace, EXPRESS_LENGTH, FIRST_EXTENDED, POWER_LENGTH, STATUS, command,
};
use crate::model::{Bar, BarKind, Identity};

/// Sizes of a conventional and of an extended configuration space.
const CONVENTIONAL: usize = 256;
const EXTENDED: usize = 4096;

const HEADER_TYPE: u16 = 0x0e;
const ROM_BAR: u16 = 0x30;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const BAR0: u16 = 0x10;
pub(super) const CAPABILITIES: u16 = 0x34;
/// Where the first capability stands.
const FIRST: u16 = 0x40;

pub(super) const ID_POWER: u8 = 0x01;
pub(super) const ID_MSI: u8 = 0x05;
pub(super) const ID_EXPRESS: u8 = 0x10;
pub(super) const ID_MSIX: u8 = 0x11;
const ID_SRIOV: u16 = 0x0010;

impl ConfigSpace {
    /// As firmware leaves it: with addresses in its BARs, which it decodes.
    pub(in super::super) fn new(identity: &Identity, secondary_bus: Option<u8>, place: &Place) -> Self {
        let size = if identity.express.is_some() { EXTENDED } else { CONVENTIONAL };
        let mut config = ConfigSpace {
            bytes: vec![0; size].into_boxed_slice(),
            writable: vec![0; size].into_boxed_slice(),
            msi: None,
            msix: None,
            power: None,
            express: None,
            always_decodes: matches!(place.role, Role::Virtual(..)),
            resettable: false,
            power_on: Box::default(),
            msi_vectors: identity.msi.unwrap_or(0),
        };
        config.header(identity);
        config.set8(HEADER_TYPE, u8::from(secondary_bus.is_some()) | u8::from(place.several) << 7);
        if let Some(bus) = secondary_bus {
            config.bridge(place.address.bus(), bus);
        }
        config.bars(&identity.bars, &place.addresses);
        if let Some(rom) = &place.rom {
            config.set32(ROM_BAR, rom.address as u32);
            config.allow(ROM_BAR, &(!(rom.size as u32 - 1) | 1).to_le_bytes());
        }
        config.capabilities(identity, secondary_bus.is_some());
        if let Role::Physical(functions) = &place.role {
            config.virtual_functions(functions);
        }
        config.power_on = config.bytes.clone();
        if !config.always_decodes {
            config.set16(COMMAND, command::IO | command::MEMORY | command::SYSTEM_ERROR);
        }
        config
    }

    fn header(&mut self, identity: &Identity) {
        self.set16(0x00, identity.vendor);
        self.set16(0x02, identity.device);
        // As QEMU's conventional devices have it: nothing is told of bad parity.
        let parity = if identity.express.is_some() { command::PARITY } else { 0 };
        let implemented = command::IO
            | command::MEMORY
            | command::BUS_MASTER
            | parity
            | command::SYSTEM_ERROR
            | command::LINE_DISABLE;
        // A virtual function has nothing but its way to memory there (9.3.4.1.3).
        let writable = if self.always_decodes { command::BUS_MASTER } else { implemented };
        self.allow(COMMAND, &writable.to_le_bytes());
        self.set32(0x08, identity.class << 8 | u32::from(identity.revision));
        self.allow(CACHE_LINE, &[0xff]);
        self.set16(0x2c, identity.subsystem_vendor);
        self.set16(0x2e, identity.subsystem);
        self.allow(0x3c, &[0xff]); // interrupt line
        self.set8(0x3d, u8::from(identity.line)); // interrupt pin: A or none
    }

    /// The header of a bridge: the buses on both sides. It forwards no window that a driver of its own would set up.
    fn bridge(&mut self, primary: u8, secondary: u8) {
        self.set32(0x2c, 0);
        self.set32(0x18, u32::from_le_bytes([primary, secondary, secondary, 0]));
    }

    fn bars(&mut self, bars: &[Option<Bar>; 6], addresses: &[u64; 6]) {
        for (index, bar) in bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let at = BAR0 + 4 * index as u16;
            let mask = !(bar.size - 1);
            self.set32(at, addresses[index] as u32 | kind_bits(bar.kind));
            self.allow(at, &(mask as u32 & !0xf).to_le_bytes());
            if bar.kind == BarKind::Memory64 {
                self.set32(at + 4, (addresses[index] >> 32) as u32);
                self.allow(at + 4, &((mask >> 32) as u32).to_le_bytes());
            }
        }
    }

    /// The chain, in ascending order: power management, MSI, MSI-X, PCI Express.
    fn capabilities(&mut self, identity: &Identity, is_port: bool) {
        self.set8(STATUS, STATUS_CAPABILITIES);
        let mut chain = Chain { link: CAPABILITIES, next: FIRST };

        // PCI Express demands it; conventional functions here have none, as QEMU's.
        if identity.express.is_some() {
            let at = chain.add(self, ID_POWER, POWER_LENGTH);
            self.set16(at + 2, 3); // version 1.2, no PME
            self.set16(at + 4, 1 << 3); // D3hot keeps the state (No_Soft_Reset)
            self.allow(at + 4, &[0b11]);
            self.power = Some(at);
        }

        if let Some(vectors) = identity.msi {
            let at = chain.add(self, ID_MSI, 14);
            let control = u16::from(vectors.ilog2() as u8) << 1 | 1 << 7; // 64-bit addresses
            self.set16(at + 2, control);
            self.allow(at + 2, &0x0071u16.to_le_bytes()); // enable, multiple message enable
            self.allow(at + 4, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
            self.msi = Some(at);
        }
        if let Some(msix) = identity.msix {
            let at = chain.add(self, ID_MSIX, 12);
            self.set16(at + 2, msix.vectors - 1);
            self.allow(at + 2, &0xc000u16.to_le_bytes()); // enable, function mask
            self.set32(at + 4, msix.table_offset | u32::from(msix.table_bar));
            self.set32(at + 8, msix.pending_offset | u32::from(msix.pending_bar));
            self.msix = Some(at);
        }
        if let Some(express) = identity.express {
            let at = chain.add(self, ID_EXPRESS, EXPRESS_LENGTH);
            self.set16(at + 2, 2 | u16::from(is_port) << 6); // version 2, endpoint or root port
            let resettable = u32::from(express.function_reset) << 28;
            self.set32(at + 4, 1 << 15 | resettable); // role-based error reporting
            self.set16(at + 8, 0x2810); // relaxed ordering, no snoop, reads of 512 bytes
            self.allow(at + 8, &0x7fffu16.to_le_bytes());
            self.set32(at + 0x0c, 0x0000_0c11); // one lane of 2.5 GT/s
            self.set16(at + 0x12, 0x0011);
            self.express = Some(at);
            self.resettable = express.function_reset;
        }
    }

    /// The capability of a function that can have virtual ones (9.3.3).
    fn virtual_functions(&mut self, functions: &VirtualFunctions) {
        let at = FIRST_EXTENDED;
        self.set32(at, u32::from(ID_SRIOV) | 1 << 16); // version 1, the last one
        self.set16(at + 0x0c, functions.total.into()); // initially
        self.set16(at + 0x0e, functions.total.into());
        self.set16(at + 0x14, sriov::OFFSET.into());
        self.set16(at + 0x16, sriov::STRIDE.into());
        self.set16(at + 0x1a, functions.device);
        self.set32(at + 0x1c, 0x553); // pages of 4 KiB to 4 MiB
        self.set32(at + 0x20, 1); // 4 KiB it is
        for (index, bar) in functions.bars.iter().enumerate() {
            let Some((bar, address)) = *bar else { continue };
            let at = at + 0x24 + 4 * index as u16;
            self.set32(at, address as u32 | kind_bits(bar.kind));
            if bar.kind == BarKind::Memory64 {
                self.set32(at + 4, (address >> 32) as u32);
            }
        }
    }
}

/// The lowest bits of a BAR.
fn kind_bits(kind: BarKind) -> u32 {
    match kind {
        BarKind::Memory32 => 0b000,
        BarKind::Memory64 => 0b100,
        BarKind::Io => 0b001,
    }
}

/// The list of capabilities while it is being built.
struct Chain {
    /// The byte that is to point to the next capability.
    link: u16,
    /// Where it will stand.
    next: u16,
}

impl Chain {
    fn add(&mut self, config: &mut ConfigSpace, id: u8, length: u16) -> u16 {
        let at = self.next;
        config.set8(self.link, at as u8);
        config.set8(at, id);
        self.link = at + 1;
        self.next = (at + length).next_multiple_of(4);
        at
    }
}
