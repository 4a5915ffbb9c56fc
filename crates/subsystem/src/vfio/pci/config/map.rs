//! Configuration space of an open function, byte by byte: its shadow, what of it is shadowed, and what can be written.

use core::ops::Range;

use uapi::vfio::{
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX,
};

use super::super::registers::{
    COMMAND, COMMAND_INTX_DISABLE, COMMAND_MEMORY, CONVENTIONAL_SIZE, HEADER_SIZE, INTERRUPT_PIN,
    MSI_CAPABLE, MSI_CONTROL, MSIX_BAR, MSIX_CONTROL, MSIX_ENTRY, MSIX_SIZE, MSIX_TABLE,
};
use super::capabilities::Capabilities;
use super::fields::{ALL, Bits, HEADER, bits};
use super::{Refusal, Width, rules};
use crate::host::{Function, Host, Sriov};
use crate::mem::{List, OutOfMemory};

/// What an offset belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Header,
    Power,
    VitalData,
    Msi,
    Express,
    AdvancedFeatures,
    /// Another capability, or none.
    Other,
}

/// One byte of configuration space.
#[derive(Clone, Copy)]
struct Byte {
    shadow: u8,
    shadowed: u8,
    writable: u8,
    /// Where the capability starts that it belongs to; 0 for the header.
    start: u16,
}

/// The start of what belongs to no capability.
const NOWHERE: u16 = u16::MAX;

/// Configuration space of an open function.
pub(in super::super) struct Config {
    bytes: List<Byte>,
    size: u16,
    pub(in super::super) capabilities: Capabilities,
    /// How many vectors MSI and MSI-X have.
    msi_vectors: u32,
    msix_vectors: u32,
    /// The BAR with the MSI-X table, and where in it the table is.
    msix_table: Option<(u8, Range<u64>)>,
    /// The BARs and the ROM BAR as the function had them at open.
    pub(super) real_bars: [u32; 7],
}

impl Config {
    /// What the user is to see of a function as it is now.
    pub(in super::super) fn new<H: Host>(host: &H, function: Function) -> Result<Self, OutOfMemory> {
        let size = host.config_size(function);
        let mut bytes = List::new();
        bytes.reserve_many(host, size.into())?;
        // What belongs to no capability goes to the function as it is.
        (0..size).for_each(|_| {
            bytes.push_reserved(Byte { shadow: 0, shadowed: 0, writable: 0xff, start: NOWHERE })
        });
        let capabilities = Capabilities::find(host, function);
        let mut config = Config {
            bytes,
            size,
            capabilities,
            msi_vectors: 0,
            msix_vectors: 0,
            msix_table: None,
            real_bars: [0; 7],
        };
        config.claim(host, function, 0, HEADER_SIZE);
        config.protect(0, &HEADER);
        if let Sriov::Virtual(_) = host.sriov(function) {
            config.always_decode();
        }
        config.take_bars(host, function);
        if !host.has_line(function) {
            config.set_shadow(INTERRUPT_PIN, 1, ALL, 0);
        }
        config.add_capabilities(host, function);
        config.add_extended(host, function);
        config.count_vectors(host, function);
        Ok(config)
    }

    /// A virtual function has no enable bit for its memory, which answers as its physical one says. The user gets one to look at.
    fn always_decode(&mut self) {
        self.protect(0, &[bits(COMMAND, 2, COMMAND_INTX_DISABLE | COMMAND_MEMORY, ALL)]);
        self.set_shadow(COMMAND, 2, COMMAND_MEMORY, COMMAND_MEMORY);
    }

    /// The size of configuration space in bytes.
    pub(in super::super) fn size(&self) -> u16 {
        self.size
    }

    /// How many vectors an interrupt index has.
    pub(in super::super) fn vectors(&self, index: u32) -> u32 {
        match index {
            VFIO_PCI_INTX_IRQ_INDEX => u32::from(self.shadow(INTERRUPT_PIN, 1) != 0),
            VFIO_PCI_MSI_IRQ_INDEX => self.msi_vectors,
            VFIO_PCI_MSIX_IRQ_INDEX => self.msix_vectors,
            VFIO_PCI_ERR_IRQ_INDEX | VFIO_PCI_REQ_IRQ_INDEX => 1,
            _ => 0,
        }
    }

    /// The BAR with the MSI-X table, and where in it the table is.
    pub(in super::super) fn msix_table(&self) -> Option<(u8, Range<u64>)> {
        self.msix_table.clone()
    }

    fn count_vectors<H: Host>(&mut self, host: &H, function: Function) {
        let read =
            |start: u16, offset: u16, width| host.config_read(function, start.saturating_add(offset), width);
        if let Some(start) = self.capabilities.msi {
            self.msi_vectors = 1 << ((read(start, MSI_CONTROL, 2) & MSI_CAPABLE) >> 1);
        }
        if let Some(start) = self.capabilities.msix {
            self.msix_vectors = (read(start, MSIX_CONTROL, 2) & MSIX_SIZE).saturating_add(1);
            let place = read(start, MSIX_TABLE, 4);
            let first = u64::from(place & !MSIX_BAR);
            let end = first.saturating_add(u64::from(self.msix_vectors).saturating_mul(MSIX_ENTRY));
            self.msix_table = Some(((place & MSIX_BAR) as u8, first..end));
        }
    }

    /// Checks that an access fits as a whole; where it starts.
    pub(super) fn check_bounds(&self, at: u64, length: usize) -> Result<u16, Refusal> {
        let end = at.checked_add(length as u64).filter(|&end| end <= u64::from(self.size));
        end.and(u16::try_from(at).ok()).filter(|&at| at < self.size).ok_or(rules::CONFIG_BOUNDS)
    }

    /// How much of an access of `left` bytes is done at once.
    pub(super) fn piece(&self, at: u16, left: usize) -> Width {
        let start = |at| self.bytes.get(usize::from(at)).map(|byte| byte.start);
        let within = |width: u16| {
            let end = at.saturating_add(width);
            at.is_multiple_of(width)
                && usize::from(width) <= left
                && (at..end).all(|other| start(other) == start(at))
        };
        if within(4) {
            4
        } else if within(2) {
            2
        } else {
            1
        }
    }

    /// What an offset belongs to, and how far behind the start of that it is.
    pub(super) fn area(&self, at: u16) -> (Area, u16) {
        let start = self.bytes.get(at.into()).map_or(NOWHERE, |byte| byte.start);
        let Capabilities { power, vital_data, msi, express, advanced_features, .. } = self.capabilities;
        let area = match start {
            0 => Area::Header,
            start if power == Some(start) => Area::Power,
            start if vital_data == Some(start) => Area::VitalData,
            start if msi == Some(start) => Area::Msi,
            start if express == Some(start) => Area::Express,
            start if advanced_features == Some(start) => Area::AdvancedFeatures,
            _ => Area::Other,
        };
        (area, at.saturating_sub(start))
    }

    /// Reads a piece.
    pub(super) fn read<H: Host>(&self, host: &H, function: Function, at: u16, width: Width) -> u32 {
        let shadowed = self.gather(at, width, |byte| byte.shadowed);
        let shadow = self.shadow(at, width);
        if shadowed == gather_mask(width) {
            return shadow;
        }
        host.config_read(function, at, width) & !shadowed | shadow & shadowed
    }

    /// Writes the writable bits of a piece, to the shadow or to the function.
    pub(super) fn write<H: Host>(&mut self, host: &H, function: Function, at: u16, width: Width, value: u32) {
        let writable = self.gather(at, width, |byte| byte.writable);
        let shadowed = self.gather(at, width, |byte| byte.shadowed);
        self.set_shadow(at, width, writable & shadowed, value);
        let real = writable & !shadowed;
        if real != 0 {
            let old = host.config_read(function, at, width);
            host.config_write(function, at, width, old & !real | value & real);
        }
    }

    /// The shadow of a register.
    pub(in super::super) fn shadow(&self, at: u16, width: Width) -> u32 {
        self.gather(at, width, |byte| byte.shadow)
    }

    /// Changes the shadow of a register where `mask` has bits.
    pub(super) fn set_shadow(&mut self, at: u16, width: Width, mask: u32, value: u32) {
        for (offset, (mask, value)) in mask.to_le_bytes().into_iter().zip(value.to_le_bytes()).enumerate() {
            if offset < usize::from(width)
                && let Some(byte) = self.bytes.get_mut(usize::from(at).saturating_add(offset))
            {
                byte.shadow = byte.shadow & !mask | value & mask;
            }
        }
    }

    fn gather(&self, at: u16, width: Width, part: impl Fn(&Byte) -> u8) -> u32 {
        let mut value = [0; 4];
        for (offset, into) in value.iter_mut().enumerate().take(width.into()) {
            *into = self.bytes.get(usize::from(at).saturating_add(offset)).map_or(0, &part);
        }
        u32::from_le_bytes(value)
    }

    /// Makes bytes part of an area: read-only, and shadowed as they are now where that is chosen later.
    pub(super) fn claim<H: Host>(&mut self, host: &H, function: Function, start: u16, length: u16) {
        for at in start..start.saturating_add(length).min(self.size) {
            if let Some(byte) = self.bytes.get_mut(at.into()) {
                let shadow = host.config_read(function, at, 1) as u8;
                *byte = Byte { shadow, shadowed: 0, writable: 0, start };
            }
        }
    }

    pub(super) fn protect(&mut self, start: u16, registers: &[Bits]) {
        for register in registers {
            let at = start.saturating_add(register.at);
            let masks = register.shadowed.to_le_bytes().into_iter().zip(register.writable.to_le_bytes());
            for (offset, (shadowed, writable)) in masks.enumerate().take(register.width.into()) {
                if let Some(byte) = self.bytes.get_mut(usize::from(at).saturating_add(offset)) {
                    (byte.shadowed, byte.writable) = (shadowed, writable);
                }
            }
        }
    }
}

fn gather_mask(width: Width) -> u32 {
    match width {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

const _: () = assert!(CONVENTIONAL_SIZE > HEADER_SIZE);
