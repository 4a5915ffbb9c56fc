//! The configuration space of a function: a type 0 header and the capabilities of its identity.
//!
//! Offsets and bits are those of the PCI Express Base Specification, chapter 7, and of the PCI Local Bus Specification 3.0
//! for MSI and MSI-X.

use super::function::Place;
use super::sriov::{self, Role, VirtualFunctions};
use crate::model::{Bar, BarKind, Identity};

/// Bits of the command register.
pub(crate) mod command {
    pub(crate) const IO: u16 = 1 << 0;
    pub(crate) const MEMORY: u16 = 1 << 1;
    pub(crate) const BUS_MASTER: u16 = 1 << 2;
    pub(crate) const PARITY: u16 = 1 << 6;
    pub(crate) const SYSTEM_ERROR: u16 = 1 << 8;
    pub(crate) const LINE_DISABLE: u16 = 1 << 10;
}

const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const STATUS_LINE: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const CACHE_LINE: u16 = 0x0c;
const HEADER_TYPE: u16 = 0x0e;
const BAR0: u16 = 0x10;
const ROM_BAR: u16 = 0x30;
const CAPABILITIES: u16 = 0x34;
/// Where the first capability stands.
const FIRST: u16 = 0x40;

const ID_POWER: u8 = 0x01;
const ID_MSI: u8 = 0x05;
const ID_EXPRESS: u8 = 0x10;
const ID_MSIX: u8 = 0x11;

/// Where the extended capabilities start; there is one at most.
const FIRST_EXTENDED: u16 = 0x100;
const ID_SRIOV: u16 = 0x0010;
/// Virtual functions are enabled, and their memory answers.
const SRIOV_ENABLE: u16 = 1 << 0 | 1 << 3;

/// Lengths of capabilities in bytes.
const POWER_LENGTH: u16 = 8;
const EXPRESS_LENGTH: u16 = 60;

/// Sizes of a conventional and of an extended configuration space.
const CONVENTIONAL: usize = 256;
const EXTENDED: usize = 4096;

/// The configuration space of one function.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    bytes: Box<[u8]>,
    /// Which bits a write changes.
    writable: Box<[u8]>,
    msi: Option<u16>,
    msix: Option<u16>,
    power: Option<u16>,
    express: Option<u16>,
    /// Whether memory is decoded whatever the command register says.
    always_decodes: bool,
    /// Whether a write to device control can begin a function-level reset.
    resettable: bool,
    /// All of it, as it was built.
    power_on: Box<[u8]>,
    /// Value of a multiple message field that allows every vector of the function.
    msi_vectors: u8,
}

impl ConfigSpace {
    /// As firmware leaves it: with addresses in its BARs, which it decodes.
    pub(super) fn new(identity: &Identity, secondary_bus: Option<u8>, place: &Place) -> Self {
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

    /// So many virtual functions are enabled.
    pub(super) fn set_enabled_vfs(&mut self, count: u8) {
        self.set16(FIRST_EXTENDED + 0x08, if count > 0 { SRIOV_ENABLE } else { 0 });
        self.set16(FIRST_EXTENDED + 0x10, count.into());
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u16 {
        self.bytes.len() as u16
    }

    /// Reads 1, 2 or 4 bytes; all ones behind the end. `line` is the level of the INTx line.
    pub(crate) fn read(&self, offset: u16, width: u8, line: bool) -> u32 {
        let mut value = [0u8; 4];
        for (byte, at) in value.iter_mut().zip(offset..).take(usize::from(width)) {
            *byte = self.bytes.get(usize::from(at)).copied().unwrap_or(0xff);
            if at == STATUS && line {
                *byte |= STATUS_LINE;
            }
        }
        u32::from_le_bytes(value)
    }

    /// Writes 1, 2 or 4 bytes. True if the write asks for a function-level reset, which the caller is to make.
    pub(crate) fn write(&mut self, offset: u16, width: u8, value: u32) -> bool {
        for (byte, at) in value.to_le_bytes().into_iter().zip(usize::from(offset)..).take(usize::from(width))
        {
            if let (Some(kept), Some(&mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *kept = *kept & !mask | byte & mask;
            }
        }
        // Bit 15 of device control: the top bit of its second byte. It reads 0.
        let resets = |express: u16| {
            let byte = (express + 9).checked_sub(offset).filter(|&byte| byte < u16::from(width));
            byte.is_some_and(|byte| value >> (8 * byte) & 0x80 != 0)
        };
        self.resettable && self.express.is_some_and(resets)
    }

    /// The command register.
    pub(crate) fn command(&self) -> u16 {
        self.get16(COMMAND)
    }

    /// Sets or clears bits of the command register.
    pub(crate) fn set_command(&mut self, bits: u16, on: bool) {
        let command = if on { self.command() | bits } else { self.command() & !bits };
        self.set16(COMMAND, command);
    }

    /// Whether the function is in D0 and decodes addresses of this kind.
    pub(crate) fn decodes(&self, kind: BarKind) -> bool {
        let bit = if kind == BarKind::Io { command::IO } else { command::MEMORY };
        let state = self.power.map_or(0, |at| self.get16(at + 4) & 0b11);
        (self.always_decodes || self.command() & bit != 0) && state == 0
    }

    /// A reset: as after power-on, but for what the bus core has saved and restores at once: BARs, interrupt line, and
    /// whether messages are enabled.
    pub(crate) fn reset(&mut self) {
        let power = self.power.map(|at| (at, POWER_LENGTH));
        let express = self.express.map(|at| (at, EXPRESS_LENGTH));
        for (at, length) in [(COMMAND, 2), (CACHE_LINE, 1)].into_iter().chain(power).chain(express) {
            let range = usize::from(at)..usize::from(at + length);
            self.bytes[range.clone()].copy_from_slice(&self.power_on[range]);
        }
    }

    /// Enables MSI with at least `count` vectors, or disables it.
    pub(crate) fn enable_msi(&mut self, count: Option<u32>) {
        let Some(at) = self.msi else { return };
        let control = self.get16(at + 2) & !0x0071;
        let enabled = match count {
            Some(count) => {
                control | 1 | (count.min(u32::from(self.msi_vectors)).next_power_of_two().ilog2() as u16) << 4
            }
            None => control,
        };
        self.set16(at + 2, enabled);
    }

    /// Enables or disables MSI-X.
    pub(crate) fn enable_msix(&mut self, on: bool) {
        let Some(at) = self.msix else { return };
        let control = self.get16(at + 2) & !0xc000;
        self.set16(at + 2, control | u16::from(on) << 15);
    }

    /// All of it, as sysfs shows it.
    pub(crate) fn bytes(&self, line: bool) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes[usize::from(STATUS)] |= if line { STATUS_LINE } else { 0 };
        bytes
    }

    fn get16(&self, at: u16) -> u16 {
        let at = usize::from(at);
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn set8(&mut self, at: u16, value: u8) {
        self.bytes[usize::from(at)] = value;
    }

    fn set16(&mut self, at: u16, value: u16) {
        self.bytes[usize::from(at)..][..2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, at: u16, value: u32) {
        self.bytes[usize::from(at)..][..4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow(&mut self, at: u16, mask: &[u8]) {
        self.writable[usize::from(at)..][..mask.len()].copy_from_slice(mask);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Express, MsixSpec};

    fn identity() -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: 16384, kind: BarKind::Memory64 });
        bars[2] = Some(Bar { size: 64, kind: BarKind::Io });
        Identity {
            vendor: 0x1b36,
            device: 0x0010,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 2,
            class: 0x01_08_02,
            bars,
            line: true,
            msi: Some(8),
            msix: Some(MsixSpec {
                vectors: 33,
                table_bar: 0,
                table_offset: 0x2000,
                pending_bar: 0,
                pending_offset: 0x3000,
            }),
            express: Some(Express { function_reset: true }),
            dma_bits: 64,
        }
    }

    fn config() -> ConfigSpace {
        let place = Place {
            number: subsystem::Function(0),
            address: "0000:00:03.0".parse().unwrap(),
            several: false,
            addresses: [0x80_0000_4000, 0, 0xc040, 0, 0, 0],
            rom: None,
            role: Role::Plain,
        };
        ConfigSpace::new(&identity(), None, &place)
    }

    fn capability(config: &ConfigSpace, id: u8) -> u16 {
        let mut at = config.read(CAPABILITIES, 1, false) as u16;
        while at != 0 {
            if config.read(at, 1, false) == u32::from(id) {
                return at;
            }
            at = config.read(at + 1, 1, false) as u16;
        }
        panic!("no capability {id:#x}");
    }

    #[test]
    fn the_header_tells_the_identity() {
        let config = config();
        assert_eq!(config.size(), 4096);
        assert_eq!(config.read(0, 4, false), 0x0010_1b36);
        assert_eq!(config.read(8, 4, false), 0x0108_0202);
        assert_eq!(config.read(0x2c, 4, false), 0x1100_1af4);
        assert_eq!(config.read(0x3d, 1, false), 1);
        assert_eq!(config.read(STATUS, 2, false), 0x10);
        assert_eq!(config.read(STATUS, 2, true), 0x18);
        assert_eq!(config.read(4096, 4, false), 0xffff_ffff);
    }

    #[test]
    fn bars_answer_their_size_when_all_ones_are_written() {
        let mut config = config();
        assert_eq!(config.read(0x10, 4, false), 0x0000_4004);
        assert_eq!(config.read(0x14, 4, false), 0x80);
        for at in [0x10, 0x14, 0x18] {
            config.write(at, 4, 0xffff_ffff);
        }
        assert_eq!(config.read(0x10, 4, false), 0xffff_c004);
        assert_eq!(config.read(0x14, 4, false), 0xffff_ffff);
        assert_eq!(config.read(0x18, 4, false), 0xffff_ffc1);
        config.write(0x1c, 4, 0xffff_ffff);
        assert_eq!(config.read(0x1c, 4, false), 0, "an absent BAR stays 0");
    }

    #[test]
    fn identity_is_read_only() {
        let mut config = config();
        config.write(0, 4, 0);
        assert_eq!(config.read(0, 4, false), 0x0010_1b36);
    }

    #[test]
    fn the_reset_bit_is_noticed_in_every_width_and_reads_zero() {
        let mut config = config();
        let control = capability(&config, ID_EXPRESS) + 8;
        assert!(config.write(control, 2, 0xa810));
        assert!(config.write(control, 4, 0xa810));
        assert!(config.write(control + 1, 1, 0xa8));
        assert!(!config.write(control, 2, 0x2810));
        assert!(!config.write(control, 1, 0x80));
        assert_eq!(config.read(control, 2, false) & 0x8000, 0);
    }

    #[test]
    fn decoding_needs_its_enable_bit_and_full_power() {
        let mut config = config();
        let power = capability(&config, ID_POWER) + 4;
        config.write(COMMAND, 2, 0);
        assert!(!config.decodes(BarKind::Memory64));
        config.write(COMMAND, 2, u32::from(command::MEMORY));
        assert!(config.decodes(BarKind::Memory64) && !config.decodes(BarKind::Io));
        config.write(power, 2, 3);
        assert!(!config.decodes(BarKind::Memory64));
        config.write(power, 2, 0);
        assert!(config.decodes(BarKind::Memory64));
    }

    #[test]
    fn a_reset_leaves_what_the_bus_core_restores() {
        let mut config = config();
        let (power, express) = (capability(&config, ID_POWER), capability(&config, ID_EXPRESS));
        for (at, value) in
            [(COMMAND, 0x0406), (power + 4, 3), (express + 8, 0x5810), (0x3c, 11), (0x10, 0xfeb0_0000)]
        {
            config.write(at, 4, value);
        }
        config.enable_msix(true);
        let before: Vec<u32> = [0x10, 0x14, 0x18, 0x3c].map(|at| config.read(at, 4, false)).to_vec();
        config.reset();
        assert_eq!((config.command(), config.read(power + 4, 2, false)), (0, 8));
        assert_eq!(config.read(express + 8, 2, false), 0x2810);
        assert_eq!([0x10, 0x14, 0x18, 0x3c].map(|at| config.read(at, 4, false)).to_vec(), before);
        assert_eq!(config.read(capability(&config, ID_MSIX) + 2, 2, false) & 0x8000, 0x8000);
    }

    #[test]
    fn vectors_show_in_the_capabilities() {
        let mut config = config();
        let (msi, msix) = (capability(&config, ID_MSI), capability(&config, ID_MSIX));
        assert_eq!(config.read(msi + 2, 2, false), 0x86);
        config.enable_msi(Some(3));
        assert_eq!(config.read(msi + 2, 2, false), 0xa7, "three vectors need four");
        config.enable_msi(None);
        assert_eq!(config.read(msi + 2, 2, false), 0x86);
        config.enable_msix(true);
        assert_eq!(config.read(msix + 2, 2, false), 0x8020);
    }
}
