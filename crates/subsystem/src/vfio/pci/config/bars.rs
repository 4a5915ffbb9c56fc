//! The BARs: the user's are shadows, the function keeps its own.

use super::super::registers::{
    BAR_IO, BAR_PREFETCHABLE, BAR_WIDE, BAR0, BARS, BARS_END, ROM_BAR, ROM_ENABLE, ROM_REGION,
};
use super::fields::ALL;
use super::map::Config;
use crate::host::{Function, Host, RegionKind};

impl Config {
    pub(super) fn take_bars<H: Host>(&mut self, host: &H, function: Function) {
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
