//! The legacy addresses of VGA, which display adapters answer at besides their BARs.

use core::ops::Range;

use super::PciDevice;
use super::regions::Place;
use super::registers::{CLASS, CLASS_VGA, VGA_REGION};
use crate::host::{Host, Region, RegionKind};
use crate::rules::{Refusal, vfio as rules};

/// The size of the region: a byte is at its address.
pub(super) const SIZE: u64 = MEMORY.end;

const MEMORY: Range<u64> = 0xa_0000..0xc_0000;
const PORTS: [Range<u64>; 2] = [0x3b0..0x3bc, 0x3c0..0x3e0];

impl<H: Host> PciDevice<H> {
    /// Whether the function has this region.
    pub(super) fn has_vga(&self, host: &H) -> bool {
        self.options.vga && host.config_read(self.function, CLASS, 2) == CLASS_VGA
    }

    /// The range that an address is in.
    pub(super) fn vga(&self, host: &H, at: u64) -> Result<Place, Refusal> {
        if !self.has_vga(host) {
            return Err(rules::REGION_VGA);
        }
        let [low, high] = PORTS;
        let range = [low, high, MEMORY].into_iter().find(|range| range.contains(&at));
        let size = range.ok_or(rules::VGA_BOUNDS)?.end;
        // The memory is accessed as the ports are: up to 4 bytes at a time, whether or not memory decoding is on.
        let region = Region { kind: RegionKind::Io, size, address: 0 };
        Ok(Place { index: VGA_REGION, region, hidden: 0..0 })
    }
}
