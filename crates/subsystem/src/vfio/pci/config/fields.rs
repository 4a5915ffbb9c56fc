//! The bits of each register: which are shadowed, and which can be written.

use super::super::registers::{
    BAR0, BIST, CACHE_LINE, CAPABILITIES, COMMAND, COMMAND_INTX_DISABLE, EXPRESS_ARI, EXPRESS_CONTROL,
    EXPRESS_CONTROL_2, EXPRESS_FUNCTION_RESET, EXPRESS_PAYLOAD, EXPRESS_PHANTOM, EXPRESS_READ_REQUEST,
    FEATURES_CONTROL, FEATURES_RESET, INTERRUPT_LINE, INTERRUPT_PIN, LATENCY, POWER_CAPABILITIES,
    POWER_CONTROL, POWER_PME_ENABLE, POWER_PME_STATUS, POWER_PME_SUPPORT, POWER_STATE, ROM_BAR, STATUS,
    STATUS_CAPABILITIES, VITAL_ADDRESS, VITAL_DATA,
};
use super::Width;

/// The whole of a register.
pub(super) const ALL: u32 = u32::MAX;

/// Bits of a register, relative to the start of its area: those that are shadowed, and those that can be written.
pub(super) struct Bits {
    pub(super) at: u16,
    pub(super) width: Width,
    pub(super) shadowed: u32,
    pub(super) writable: u32,
}

pub(super) const fn bits(at: u16, width: Width, shadowed: u32, writable: u32) -> Bits {
    Bits { at, width, shadowed, writable }
}

/// The header. Registers that are not named are the function's own, read-only.
pub(super) const HEADER: [Bits; 16] = [
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

pub(super) const POWER: [Bits; 2] = [
    bits(POWER_CAPABILITIES, 2, POWER_PME_SUPPORT, 0),
    // The state is changed by us, where it takes more than a write.
    bits(
        POWER_CONTROL,
        2,
        POWER_PME_ENABLE | POWER_PME_STATUS,
        !(POWER_PME_ENABLE | POWER_PME_STATUS | POWER_STATE),
    ),
];

pub(super) const VITAL: [Bits; 2] = [bits(VITAL_ADDRESS, 2, ALL, ALL), bits(VITAL_DATA, 4, ALL, ALL)];

pub(super) const EXPRESS: [Bits; 1] = [bits(
    EXPRESS_CONTROL,
    2,
    EXPRESS_FUNCTION_RESET | EXPRESS_PAYLOAD | EXPRESS_READ_REQUEST,
    !EXPRESS_PHANTOM,
)];
pub(super) const EXPRESS_SECOND: [Bits; 1] = [bits(EXPRESS_CONTROL_2, 2, 0, !EXPRESS_ARI)];

pub(super) const ADVANCED_FEATURES: [Bits; 1] = [bits(FEATURES_CONTROL, 1, FEATURES_RESET, ALL)];

/// The errors that PCI Express defines.
const UNCORRECTABLE: u32 = 0x03ff_f031;
const CORRECTABLE: u32 = 0xf1c1;

/// Uncorrectable errors: status, mask, severity; correctable errors: status, mask; whether checksums are made and
/// checked.
pub(super) const ERROR_REPORTING: [Bits; 6] = [
    bits(0x04, 4, 0, UNCORRECTABLE),
    bits(0x08, 4, 0, UNCORRECTABLE),
    bits(0x0c, 4, 0, UNCORRECTABLE),
    bits(0x10, 4, 0, CORRECTABLE),
    bits(0x14, 4, 0, CORRECTABLE),
    bits(0x18, 4, 0, 1 << 6 | 1 << 8),
];

/// The selector of the data register.
pub(super) const POWER_BUDGET: [Bits; 1] = [bits(0x04, 1, 0, ALL)];
