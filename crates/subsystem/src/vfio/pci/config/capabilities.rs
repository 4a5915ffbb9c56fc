//! The capabilities of a function, and how long each is.

use super::super::registers::{
    CAPABILITIES, CONVENTIONAL_SIZE, EXPRESS_FLAGS, EXPRESS_TYPE, EXPRESS_TYPE_INTEGRATED, EXPRESS_VERSION,
    HEADER_SIZE, MSI_CONTROL, MSI_MASKABLE, MSI_WIDE, NEXT, STATUS, STATUS_CAPABILITIES, capability,
    extended,
};
use crate::host::{Function, Host};

/// A list of capabilities has at most this many in it: they are 4 bytes at least.
const MOST: usize = ((CONVENTIONAL_SIZE - HEADER_SIZE) / 4) as usize;
/// Likewise of extended capabilities, which fill the space up to 4096.
const MOST_EXTENDED: usize = (4096 - CONVENTIONAL_SIZE as usize) / 4;

/// A capability: its identifier and where it starts.
#[derive(Clone, Copy)]
pub(super) struct Found<I> {
    pub(super) id: I,
    pub(super) start: u16,
    pub(super) next: u16,
}

/// Where the capabilities start that are more than registers.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Capabilities {
    pub(in super::super) power: Option<u16>,
    pub(in super::super) vital_data: Option<u16>,
    pub(in super::super) msi: Option<u16>,
    pub(in super::super) msix: Option<u16>,
    pub(in super::super) express: Option<u16>,
    pub(in super::super) advanced_features: Option<u16>,
}

impl Capabilities {
    /// Finds them. Where one is there twice, the first counts.
    pub(in super::super) fn find<H: Host>(host: &H, function: Function) -> Self {
        let mut all = Capabilities::default();
        for found in list(host, function) {
            let place = match found.id {
                capability::POWER => &mut all.power,
                capability::VITAL_DATA => &mut all.vital_data,
                capability::MSI => &mut all.msi,
                capability::MSIX => &mut all.msix,
                capability::EXPRESS => &mut all.express,
                capability::ADVANCED_FEATURES => &mut all.advanced_features,
                _ => continue,
            };
            place.get_or_insert(found.start);
        }
        all
    }

    /// Whether the PCI Express capability has the second set of registers.
    pub(in super::super) fn express_second<H: Host>(&self, host: &H, function: Function) -> bool {
        self.express.is_some_and(|start| {
            host.config_read(function, start.saturating_add(EXPRESS_FLAGS), 2) & EXPRESS_VERSION > 1
        })
    }
}

/// The capabilities of a function, in their order.
pub(super) fn list<H: Host>(host: &H, function: Function) -> impl Iterator<Item = Found<u8>> {
    let first = if host.config_read(function, STATUS, 2) & STATUS_CAPABILITIES == 0 {
        0
    } else {
        host.config_read(function, CAPABILITIES, 1) as u16
    };
    let at = move |start: u16| {
        let start = start & !3;
        (HEADER_SIZE..CONVENTIONAL_SIZE).contains(&start).then(|| {
            let id = host.config_read(function, start, 1) as u8;
            let next = host.config_read(function, start.saturating_add(NEXT), 1) as u16;
            Found { id, start, next }
        })
    };
    core::iter::successors(at(first), move |found| at(found.next)).take(MOST)
}

/// The extended capabilities of a function, in their order.
pub(super) fn list_extended<H: Host>(host: &H, function: Function) -> impl Iterator<Item = Found<u16>> {
    let size = host.config_size(function);
    let at = move |start: u16| {
        (CONVENTIONAL_SIZE..size).contains(&start).then(|| host.config_read(function, start, 4)).and_then(
            |header| {
                let found = Found { id: header as u16, start, next: (header >> 20) as u16 & !3 };
                (header != 0 && header != u32::MAX).then_some(found)
            },
        )
    };
    core::iter::successors(at(CONVENTIONAL_SIZE), move |found| at(found.next)).take(MOST_EXTENDED)
}

/// The length of a capability in bytes; `None` for one that is kept from the user.
pub(super) fn length<H: Host>(host: &H, function: Function, found: Found<u8>) -> Option<u16> {
    let read = |offset: u16, width: u8| host.config_read(function, found.start.saturating_add(offset), width);
    Some(match found.id {
        capability::POWER | capability::VITAL_DATA => 8,
        capability::AGP | capability::MSIX => 12,
        capability::ADVANCED_FEATURES => 6,
        capability::VENDOR => read(2, 1) as u16,
        capability::PCI_X if read(2, 2) & 0x3000 == 0 => 8,
        capability::PCI_X => 24,
        capability::HYPER_TRANSPORT if read(3, 1) & 0xe0 == 0 => 28,
        capability::HYPER_TRANSPORT => 24,
        capability::SATA if read(4, 1) & 0xf == 0xf => 16,
        capability::SATA => 8,
        capability::MSI => {
            let control = read(MSI_CONTROL, 2);
            let address = if control & MSI_WIDE != 0 { 4 } else { 0 };
            let mask = if control & MSI_MASKABLE != 0 { 10 } else { 0 };
            u16::saturating_add(10, address).saturating_add(mask)
        }
        capability::EXPRESS => {
            let flags = read(EXPRESS_FLAGS, 2);
            match (flags & EXPRESS_VERSION == 1, flags & EXPRESS_TYPE == EXPRESS_TYPE_INTEGRATED) {
                (true, true) => 12,
                (true, false) => 20,
                (false, true) => 44,
                (false, false) => 60,
            }
        }
        _ => return None,
    })
    .filter(|&length| length > 0)
}

/// The length of an extended capability in bytes; `None` for one that is kept from the user.
pub(super) fn length_extended<H: Host>(host: &H, function: Function, found: Found<u16>) -> Option<u16> {
    let read = |offset: u16| host.config_read(function, found.start.saturating_add(offset), 4);
    Some(match found.id {
        extended::ERROR_REPORTING => 44,
        extended::SERIAL_NUMBER => 12,
        extended::POWER_BUDGET | extended::PAGE_REQUEST => 16,
        extended::ACCESS_CONTROL
        | extended::ALTERNATIVE_ROUTING
        | extended::ADDRESS_TRANSLATION
        | extended::LATENCY_TOLERANCE => 8,
        extended::SR_IOV => 64,
        extended::MULTICAST => 48,
        extended::RESIZABLE_BAR => (read(8) as u16 >> 5 & 7).saturating_mul(8).saturating_add(4),
        extended::VENDOR | extended::DESIGNATED_VENDOR => (read(4) >> 20) as u16,
        _ => return None,
    })
    .filter(|&length| length > 0)
}
