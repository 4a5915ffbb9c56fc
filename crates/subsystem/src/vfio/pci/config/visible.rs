//! Which capabilities the user sees, and what of them.

use super::super::registers::{
    CAPABILITIES, EXPRESS_CONTROL_2, MSI_ADDRESS, MSI_CONTROL, MSI_MASKABLE, MSI_WIDE, NEXT,
    POWER_CAPABILITIES, POWER_CONTROL, POWER_PME_ENABLE, POWER_PME_STATUS, POWER_PME_SUPPORT, STATUS,
    STATUS_CAPABILITIES, capability, extended,
};
use super::capabilities::{self, Found};
use super::fields::{
    ADVANCED_FEATURES, ALL, ERROR_REPORTING, EXPRESS, EXPRESS_SECOND, POWER, POWER_BUDGET, VITAL, bits,
};
use super::map::Config;
use crate::host::{Function, Host};

impl Config {
    /// Shows the capabilities that the user may see, and links each to the next of these.
    pub(super) fn add_capabilities<H: Host>(&mut self, host: &H, function: Function) {
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
        for at in start..end.min(self.size()) {
            self.protect(at, &[bits(0, 1, 0, ALL)]);
        }
    }

    /// Shows the extended capabilities that the user may see, and links each to the next of these.
    pub(super) fn add_extended<H: Host>(&mut self, host: &H, function: Function) {
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
}
