//! Configuration space as the user sees it.
//!
//! An access is cut into naturally aligned pieces of at most 4 bytes within one capability. Each bit of a register is
//! answered by the function or by a shadow, and can be written or not ([`map`]); a few registers do more than hold bits,
//! and that is here.

mod bars;
mod capabilities;
mod fields;
mod map;
mod visible;

pub(super) use self::capabilities::Capabilities;
pub(super) use self::map::Config;

use self::map::Area;
use super::regions::MemorySpace;
use super::registers::{
    BAR0, BARS_END, COMMAND, COMMAND_INTX_DISABLE, COMMAND_IO, COMMAND_MEMORY, EXPRESS_CONTROL,
    EXPRESS_DEVICE, EXPRESS_FUNCTION_RESET, EXPRESS_FUNCTION_RESET_CAPABLE, EXPRESS_PAYLOAD,
    EXPRESS_READ_REQUEST, FEATURES_CAN_RESET, FEATURES_CAPABLE, FEATURES_CONTROL, FEATURES_RESET,
    MSI_CONTROL, MSI_ENABLE, MSI_MULTIPLE, POWER_CAPABILITIES, POWER_CONTROL, POWER_D1, POWER_D2,
    POWER_NO_SOFT_RESET, POWER_STATE, ROM_BAR, VITAL_ADDRESS, VITAL_DATA, VITAL_TRANSFER,
};
use super::reset::Saved;
use super::{Opened, PciDevice};
use crate::host::{Host, Level, RwLock as _};
use crate::rules::{Refusal, vfio as rules};

/// The width of an access in bytes: 1, 2 or 4.
pub(super) type Width = u8;

/// How often a function is asked whether a transfer of vital product data is done.
const VITAL_PATIENCE: u32 = 10_000;

/// The deepest power state that software can choose, in which memory does not answer.
const D3: u32 = 3;

impl<H: Host> PciDevice<H> {
    /// Reads configuration space.
    pub(super) fn config_read(&self, host: &H, at: u64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        self.with_opened(|opened| {
            let mut at = opened.config.check_bounds(at, bytes.len())?;
            let mut rest = &mut *bytes;
            while !rest.is_empty() {
                let width = opened.config.piece(at, rest.len());
                let value = opened.config.read(host, self.function, at, width);
                let (piece, behind) = rest.split_at_mut_checked(width.into()).ok_or(rules::CONFIG_BOUNDS)?;
                piece.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
                rest = behind;
                at = at.saturating_add(width.into());
            }
            Ok(bytes.len())
        })
    }

    /// Writes configuration space.
    pub(super) fn config_write(&self, host: &H, at: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        self.with_opened(|opened| {
            let mut at = opened.config.check_bounds(at, bytes.len())?;
            let mut rest = bytes;
            while !rest.is_empty() {
                let width = opened.config.piece(at, rest.len());
                let (piece, behind) = rest.split_at_checked(width.into()).ok_or(rules::CONFIG_BOUNDS)?;
                let mut value = [0; 4];
                value.iter_mut().zip(piece).for_each(|(byte, new)| *byte = *new);
                self.write_piece(host, opened, at, width, u32::from_le_bytes(value));
                rest = behind;
                at = at.saturating_add(width.into());
            }
            Ok(bytes.len())
        })
    }

    fn write_piece(&self, host: &H, opened: &mut Opened<H>, at: u16, width: Width, value: u32) {
        let (area, offset) = opened.config.area(at);
        match area {
            Area::Header => self.write_header(host, opened, at, width, value),
            Area::Power => {
                opened.config.write(host, self.function, at, width, value);
                if offset == POWER_CONTROL {
                    self.set_power_state(host, opened, value & POWER_STATE);
                    self.memory.write(MemorySpace::restore_exports);
                }
            }
            Area::VitalData => {
                opened.config.write(host, self.function, at, width, value);
                // The upper byte of the address starts a transfer.
                let upper = VITAL_ADDRESS.saturating_add(1);
                if (offset..offset.saturating_add(width.into())).contains(&upper) {
                    self.transfer_vital_data(host, opened, at.saturating_sub(offset));
                }
            }
            Area::Msi => {
                opened.config.write(host, self.function, at, width, value);
                if offset <= MSI_CONTROL && offset.saturating_add(width.into()) > MSI_CONTROL {
                    let start = at.saturating_sub(offset);
                    self.settle_msi(host, opened, start.saturating_add(MSI_CONTROL));
                }
            }
            Area::Express => {
                let start = at.saturating_sub(offset);
                self.write_express(host, opened, start, at, width, value);
            }
            Area::AdvancedFeatures => {
                opened.config.write(host, self.function, at, width, value);
                self.advanced_features(host, opened, at.saturating_sub(offset));
            }
            Area::Other => opened.config.write(host, self.function, at, width, value),
        }
    }

    fn write_header(&self, host: &H, opened: &mut Opened<H>, at: u16, width: Width, value: u32) {
        if at == COMMAND {
            self.write_command(host, opened, width, value);
        } else {
            opened.config.write(host, self.function, at, width, value);
        }
        if (COMMAND..COMMAND.saturating_add(2)).contains(&at) {
            let disabled = opened.config.shadow(COMMAND, 2) & COMMAND_INTX_DISABLE != 0;
            opened.irqs.set_line_disabled(host, self.function, disabled);
        }
        if (BAR0..BARS_END).contains(&at) || (ROM_BAR..ROM_BAR.saturating_add(4)).contains(&at) {
            opened.config.settle_bars(host, self.function);
        }
    }

    /// Writes the command register: mappings go before memory decoding does.
    fn write_command(&self, host: &H, opened: &mut Opened<H>, width: Width, value: u32) {
        const DECODING: u32 = COMMAND_MEMORY | COMMAND_IO;
        self.memory.write(|memory| {
            if value & COMMAND_MEMORY == 0 {
                host.regions_enable(self.function, false);
            }
            let real = host.config_read(self.function, COMMAND, 2);
            let believed = opened.config.shadow(COMMAND, 2);
            if !self.is_virtual() && value & believed & !real & DECODING != 0 {
                // The function lost what it was told: it was reset behind our back, and its BARs are lost too.
                host.log(Level::Info, Some(self.function), format_args!("reset recovery - restoring BARs"));
                opened.config.restore_bars(host, self.function);
            }
            opened.config.write(host, self.function, COMMAND, width, value);
            opened.config.set_shadow(COMMAND, 2, DECODING, value);
            memory.decoding = value & COMMAND_MEMORY != 0 || self.is_virtual();
            memory.restore_exports();
            host.regions_enable(self.function, memory.answers());
        });
    }

    /// Brings the function to a power state, if it has it.
    pub(super) fn set_power_state(&self, host: &H, opened: &mut Opened<H>, state: u32) {
        let Some(start) = opened.config.capabilities.power else { return };
        let at = start.saturating_add(POWER_CONTROL);
        let control = host.config_read(self.function, at, 2);
        let able = host.config_read(self.function, start.saturating_add(POWER_CAPABILITIES), 2);
        let absent = state == 1 && able & POWER_D1 == 0 || state == 2 && able & POWER_D2 == 0;
        if absent || control & POWER_STATE == state {
            return;
        }
        self.memory.write(|memory| {
            if state == D3 {
                host.regions_enable(self.function, false);
                if control & POWER_NO_SOFT_RESET == 0 {
                    opened.saved_for_power = Some(Saved::take(host, self.function));
                }
            }
            host.config_write(self.function, at, 2, control & !POWER_STATE | state);
            if state == 0
                && let Some(saved) = opened.saved_for_power.take()
            {
                saved.restore(host, self.function);
            }
            memory.asleep = state == D3;
            host.regions_enable(self.function, memory.answers());
        });
    }

    /// Transfers vital product data as the shadow of the address says. Where the function does not answer, the transfer
    /// stays pending for the user.
    fn transfer_vital_data(&self, host: &H, opened: &mut Opened<H>, start: u16) {
        let address = start.saturating_add(VITAL_ADDRESS);
        let data = start.saturating_add(VITAL_DATA);
        let asked = opened.config.shadow(address, 2);
        let write = asked & VITAL_TRANSFER != 0;
        if write {
            host.config_write(self.function, data, 4, opened.config.shadow(data, 4));
        }
        host.config_write(self.function, address, 2, asked);
        let is_done = || (host.config_read(self.function, address, 2) ^ asked) & VITAL_TRANSFER != 0;
        if !(0..VITAL_PATIENCE).any(|_| is_done()) {
            return;
        }
        if !write {
            opened.config.set_shadow(data, 4, u32::MAX, host.config_read(self.function, data, 4));
        }
        opened.config.set_shadow(address, 2, VITAL_TRANSFER, !asked);
    }

    /// Carries what the user wrote to MSI control to the function, as far as SET_IRQS has enabled MSI.
    fn settle_msi(&self, host: &H, opened: &mut Opened<H>, at: u16) {
        let mut control = opened.config.shadow(at, 2);
        let vectors = opened.irqs.msi_vectors();
        if vectors.is_none() {
            control &= !MSI_ENABLE;
        }
        let most = vectors.map_or(0, u32::next_power_of_two).checked_ilog2().unwrap_or(0);
        if (control & MSI_MULTIPLE) >> 4 > most {
            control = control & !MSI_MULTIPLE | most << 4;
        }
        opened.config.set_shadow(at, 2, u32::MAX, control);
        host.config_write(self.function, at, 2, control);
    }

    fn write_express(&self, host: &H, opened: &mut Opened<H>, start: u16, at: u16, width: Width, value: u32) {
        let control = start.saturating_add(EXPRESS_CONTROL);
        let before = opened.config.shadow(control, 2);
        opened.config.write(host, self.function, at, width, value);
        let after = opened.config.shadow(control, 2);
        if after & EXPRESS_FUNCTION_RESET != 0 {
            opened.config.set_shadow(control, 2, EXPRESS_FUNCTION_RESET, 0);
            let able = host.config_read(self.function, start.saturating_add(EXPRESS_DEVICE), 4);
            if able & EXPRESS_FUNCTION_RESET_CAPABLE != 0 {
                // The write succeeds whatever becomes of the reset, as a write to the register would.
                let _ = self.reset_revoked(host);
            }
        }
        if (before ^ after) & EXPRESS_READ_REQUEST != 0 {
            // Read requests are not smaller than the payload that the whole system was set up for.
            let real = host.config_read(self.function, control, 2);
            let floor = (real & EXPRESS_PAYLOAD) >> 5;
            let size = ((after & EXPRESS_READ_REQUEST) >> 12).max(floor);
            host.config_write(self.function, control, 2, real & !EXPRESS_READ_REQUEST | size << 12);
        }
    }

    fn advanced_features(&self, host: &H, opened: &mut Opened<H>, start: u16) {
        let control = start.saturating_add(FEATURES_CONTROL);
        if opened.config.shadow(control, 1) & FEATURES_RESET != 0 {
            opened.config.set_shadow(control, 1, FEATURES_RESET, 0);
            let able = host.config_read(self.function, start.saturating_add(FEATURES_CAPABLE), 1);
            if able & FEATURES_CAN_RESET == FEATURES_CAN_RESET {
                // As with PCI Express above.
                let _ = self.reset_revoked(host);
            }
        }
    }
}
