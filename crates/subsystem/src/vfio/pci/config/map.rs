//! Which bits of configuration space are shadowed, and which can be written.

use core::ops::Range;

use uapi::vfio::{
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX,
};

use super::super::registers::{
    BAR_IO, BAR_PREFETCHABLE, BAR_WIDE, BAR0, BARS, BARS_END, BIST, CACHE_LINE, CAPABILITIES, COMMAND,
    COMMAND_INTX_DISABLE, COMMAND_MEMORY, CONVENTIONAL_SIZE, EXPRESS_ARI, EXPRESS_CONTROL, EXPRESS_CONTROL_2,
    EXPRESS_FUNCTION_RESET, EXPRESS_PAYLOAD, EXPRESS_PHANTOM, EXPRESS_READ_REQUEST, FEATURES_CONTROL,
    FEATURES_RESET, HEADER_SIZE, INTERRUPT_LINE, INTERRUPT_PIN, LATENCY, MSI_ADDRESS, MSI_CAPABLE,
    MSI_CONTROL, MSI_MASKABLE, MSI_WIDE, MSIX_BAR, MSIX_CONTROL, MSIX_ENTRY, MSIX_SIZE, MSIX_TABLE, NEXT,
    POWER_CAPABILITIES, POWER_CONTROL, POWER_PME_ENABLE, POWER_PME_STATUS, POWER_PME_SUPPORT, POWER_STATE,
    ROM_BAR, ROM_ENABLE, ROM_REGION, STATUS, STATUS_CAPABILITIES, VITAL_ADDRESS, VITAL_DATA, capability,
    extended,
};
use super::capabilities::{self, Capabilities, Found};
use super::{Refusal, Width, rules};
use crate::host::{Function, Host, RegionKind, Sriov};
use crate::mem::{List, OutOfMemory};

/// The whole of a register.
const ALL: u32 = u32::MAX;

/// Bits of a register, relative to the start of its area: those that are shadowed, and those that can be written.
struct Bits {
    at: u16,
    width: Width,
    shadowed: u32,
    writable: u32,
}

const fn bits(at: u16, width: Width, shadowed: u32, writable: u32) -> Bits {
    Bits { at, width, shadowed, writable }
}

/// The header. Registers that are not named are the function's own, read-only.
const HEADER: [Bits; 16] = [
    bits(0x00, 4, ALL, 0),
    bits(COMMAND, 2, COMMAND_INTX_DISABLE, ALL),
    bits(STATUS, 2, STATUS_CAPABILITIES, 0),
    bits(CACHE_LINE, 1, 0, ALL),
    bits(LATENCY, 1, 0, ALL),
    bits(BIST, 1, 0, ALL),
    bits(BAR0, 4, ALL, ALL),
    bits(0x14, 4, ALL, ALL),
    bits(0x18, 4, ALL, ALL),
    bits(0x1c, 4, ALL, ALL),
    bits(0x20, 4, ALL, ALL),
    bits(0x24, 4, ALL, ALL),
    bits(ROM_BAR, 4, ALL, ALL),
    bits(CAPABILITIES, 1, ALL, 0),
    bits(INTERRUPT_LINE, 1, ALL, ALL),
    bits(INTERRUPT_PIN, 1, ALL, 0),
];

const POWER: [Bits; 2] = [
    bits(POWER_CAPABILITIES, 2, POWER_PME_SUPPORT, 0),
    // The state is changed by us, where it takes more than a write.
    bits(
        POWER_CONTROL,
        2,
        POWER_PME_ENABLE | POWER_PME_STATUS,
        !(POWER_PME_ENABLE | POWER_PME_STATUS | POWER_STATE),
    ),
];

const VITAL: [Bits; 2] = [bits(VITAL_ADDRESS, 2, ALL, ALL), bits(VITAL_DATA, 4, ALL, ALL)];

const EXPRESS: [Bits; 1] = [bits(
    EXPRESS_CONTROL,
    2,
    EXPRESS_FUNCTION_RESET | EXPRESS_PAYLOAD | EXPRESS_READ_REQUEST,
    !EXPRESS_PHANTOM,
)];
const EXPRESS_SECOND: [Bits; 1] = [bits(EXPRESS_CONTROL_2, 2, 0, !EXPRESS_ARI)];

const ADVANCED_FEATURES: [Bits; 1] = [bits(FEATURES_CONTROL, 1, FEATURES_RESET, ALL)];

/// The errors that PCI Express defines.
const UNCORRECTABLE: u32 = 0x03ff_f031;
const CORRECTABLE: u32 = 0xf1c1;

/// Uncorrectable errors: status, mask, severity; correctable errors: status, mask; whether checksums are made and
/// checked.
const ERROR_REPORTING: [Bits; 6] = [
    bits(0x04, 4, 0, UNCORRECTABLE),
    bits(0x08, 4, 0, UNCORRECTABLE),
    bits(0x0c, 4, 0, UNCORRECTABLE),
    bits(0x10, 4, 0, CORRECTABLE),
    bits(0x14, 4, 0, CORRECTABLE),
    bits(0x18, 4, 0, 1 << 6 | 1 << 8),
];

/// The selector of the data register.
const POWER_BUDGET: [Bits; 1] = [bits(0x04, 1, 0, ALL)];

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
    real_bars: [u32; 7],
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
    fn claim<H: Host>(&mut self, host: &H, function: Function, start: u16, length: u16) {
        for at in start..start.saturating_add(length).min(self.size) {
            if let Some(byte) = self.bytes.get_mut(at.into()) {
                let shadow = host.config_read(function, at, 1) as u8;
                *byte = Byte { shadow, shadowed: 0, writable: 0, start };
            }
        }
    }

    fn protect(&mut self, start: u16, registers: &[Bits]) {
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

    /// Shows the capabilities that the user may see, and links each to the next of these.
    fn add_capabilities<H: Host>(&mut self, host: &H, function: Function) {
        let mut link = CAPABILITIES;
        self.set_shadow(link, 1, ALL, 0);
        for found in capabilities::list(host, function) {
            let Some(length) = capabilities::length(host, function, found) else { continue };
            self.set_shadow(link, 1, ALL, found.start.into());
            self.claim(host, function, found.start, length);
            link = found.start.saturating_add(NEXT);
            self.protect(link, &[bits(0, 1, ALL, 0)]);
            self.set_shadow(link, 1, ALL, 0);
            self.protect_capability(found, length);
        }
        if link == CAPABILITIES {
            self.set_shadow(STATUS, 2, STATUS_CAPABILITIES, 0);
        }
    }

    fn protect_capability(&mut self, found: Found<u8>, length: u16) {
        let start = found.start;
        match found.id {
            capability::POWER => {
                self.protect(start, &POWER);
                let control = start.saturating_add(POWER_CONTROL);
                self.set_shadow(control, 2, POWER_PME_ENABLE | POWER_PME_STATUS, 0);
                self.set_shadow(start.saturating_add(POWER_CAPABILITIES), 2, POWER_PME_SUPPORT, 0);
            }
            capability::EXPRESS => {
                self.protect(start, &EXPRESS);
                if length > EXPRESS_CONTROL_2 {
                    self.protect(start, &EXPRESS_SECOND);
                }
            }
            capability::ADVANCED_FEATURES => self.protect(start, &ADVANCED_FEATURES),
            capability::VITAL_DATA => self.protect(start, &VITAL),
            capability::MSI => self.protect_msi(start),
            capability::VENDOR => self.open_bytes(start.saturating_add(2), start.saturating_add(length)),
            _ => {}
        }
    }

    fn protect_msi(&mut self, start: u16) {
        let control = self.shadow(start.saturating_add(MSI_CONTROL), 2);
        self.protect(start, &[bits(MSI_CONTROL, 1, ALL, ALL), bits(MSI_ADDRESS, 4, ALL, ALL)]);
        let data: u16 = if control & MSI_WIDE != 0 {
            self.protect(start, &[bits(8, 4, ALL, ALL)]);
            12
        } else {
            8
        };
        self.protect(start, &[bits(data, 2, ALL, ALL)]);
        if control & MSI_MASKABLE != 0 {
            let masks = start.saturating_add(data).saturating_add(4);
            self.protect(masks, &[bits(0, 4, 0, ALL), bits(4, 4, 0, ALL)]);
        }
    }

    /// Lets writes to bytes through to the function.
    fn open_bytes(&mut self, start: u16, end: u16) {
        for at in start..end.min(self.size) {
            self.protect(at, &[bits(0, 1, 0, ALL)]);
        }
    }

    /// Shows the extended capabilities that the user may see, and links each to the next of these.
    fn add_extended<H: Host>(&mut self, host: &H, function: Function) {
        const NEXT_BITS: u32 = 0xffc << 20;
        let mut link = None;
        for found in capabilities::list_extended(host, function) {
            let length = capabilities::length_extended(host, function, found);
            match (length, link) {
                (None, Some(_)) => continue,
                // The list starts at a fixed place: what is hidden there still holds the link.
                (None, None) => self.claim(host, function, found.start, 4),
                (Some(length), _) => self.claim(host, function, found.start, length),
            }
            if let Some(link) = link {
                self.set_shadow(link, 4, NEXT_BITS, u32::from(found.start) << 20);
            }
            self.protect(found.start, &[bits(0, 4, ALL, 0)]);
            self.set_shadow(found.start, 4, if length.is_none() { ALL } else { NEXT_BITS }, 0);
            link = Some(found.start);
            match (found.id, length) {
                (extended::ERROR_REPORTING, _) => self.protect(found.start, &ERROR_REPORTING),
                (extended::POWER_BUDGET, _) => self.protect(found.start, &POWER_BUDGET),
                (extended::VENDOR | extended::DESIGNATED_VENDOR, Some(length)) => {
                    self.open_bytes(found.start.saturating_add(4), found.start.saturating_add(length));
                }
                _ => {}
            }
        }
    }

    fn take_bars<H: Host>(&mut self, host: &H, function: Function) {
        for (index, bar) in (0..).zip(&mut self.real_bars) {
            *bar = host.config_read(function, bar_register(index), 4);
        }
        self.settle_bars(host, function);
    }

    /// Gives the function its BARs back.
    pub(super) fn restore_bars<H: Host>(&self, host: &H, function: Function) {
        for (index, bar) in (0..).zip(self.real_bars) {
            host.config_write(function, bar_register(index), 4, bar);
        }
    }

    /// Keeps of the BARs' shadows what BARs of their sizes and types would keep of what was written.
    pub(super) fn settle_bars<H: Host>(&mut self, host: &H, function: Function) {
        let mut upper = None;
        for index in 0..BARS {
            let (mask, flags) = match (upper.take(), host.region(function, index)) {
                (Some(mask), _) => (mask, 0),
                (None, Some(region)) if region.address != 0 => {
                    let mask = !region.size.saturating_sub(1);
                    if region.kind == (RegionKind::Memory { wide: true, prefetchable: true })
                        || region.kind == (RegionKind::Memory { wide: true, prefetchable: false })
                    {
                        upper = Some((mask >> 32) as u32);
                    }
                    (mask as u32, type_bits(region.kind))
                }
                _ => (0, 0),
            };
            let at = bar_register(index);
            let kept = self.shadow(at, 4) & mask | flags;
            self.set_shadow(at, 4, ALL, kept);
        }
        let rom = host.region(function, ROM_REGION).filter(|rom| rom.address != 0);
        let mask = rom.map_or(0, |rom| !rom.size.saturating_sub(1) as u32 | ROM_ENABLE);
        let kept = self.shadow(ROM_BAR, 4) & mask;
        self.set_shadow(ROM_BAR, 4, ALL, kept);
    }
}

fn gather_mask(width: Width) -> u32 {
    match width {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

/// The register of a BAR, or of the ROM behind the six.
fn bar_register(index: u8) -> u16 {
    if index < BARS { BAR0.saturating_add(u16::from(index).saturating_mul(4)) } else { ROM_BAR }
}

fn type_bits(kind: RegionKind) -> u32 {
    match kind {
        RegionKind::Io => BAR_IO,
        RegionKind::Memory { wide, prefetchable } => {
            (if wide { BAR_WIDE } else { 0 }) | (if prefetchable { BAR_PREFETCHABLE } else { 0 })
        }
    }
}

// The BARs and what is behind them are where the table above says.
const _: () = assert!(BAR0 + 4 * BARS as u16 == BARS_END);
const _: () = assert!(CONVENTIONAL_SIZE > HEADER_SIZE);
