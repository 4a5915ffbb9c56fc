//! Regions of the device file: how BARs, the expansion ROM and the legacy addresses of VGA are accessed, and what may be
//! mapped of them.

use core::ops::Range;

use uapi::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS, VFIO_PCI_ROM_REGION_INDEX, VFIO_PCI_VGA_REGION_INDEX,
};

use super::PciDevice;
use super::config::Config;
use super::low_power::LowPower;
use super::registers::{BARS, COMMAND, COMMAND_MEMORY, ROM_REGION};
use super::reset::Saved;
use crate::host::{Host, Region, RegionKind, RwLock as _};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::MappedRegion;

/// A region starts at its index times this in the device file.
const SPACING_BITS: u32 = 40;

/// Whether and where the memory of an open function answers.
pub(super) struct MemorySpace<E> {
    /// The user has memory decoding on.
    pub(super) decoding: bool,
    /// The function is in D3.
    pub(super) asleep: bool,
    /// Whether the user has allowed low power.
    pub(super) low_power: LowPower<E>,
    /// The BAR with the MSI-X table, and where in it the table is. The user does not reach it by read and write.
    table: Option<(u8, Range<u64>)>,
    /// What the end of a bus reset that is under way restores.
    pub(super) saved_for_bus: Option<Saved>,
    /// How many parts of BARs were exported: they are numbered from 0.
    exports: u32,
    /// Exports below this number are revoked.
    revoked: u32,
}

impl<E> MemorySpace<E> {
    /// That of a function that is not open.
    pub(super) const CLOSED: Self = MemorySpace {
        decoding: false,
        asleep: false,
        low_power: LowPower::Off,
        table: None,
        saved_for_bus: None,
        exports: 0,
        revoked: 0,
    };

    /// That of a function that was just opened.
    pub(super) fn opened(config: &Config) -> Self {
        let decoding = config.shadow(COMMAND, 2) & COMMAND_MEMORY != 0;
        MemorySpace { decoding, table: config.msix_table(), ..MemorySpace::CLOSED }
    }

    /// Whether accesses through mappings of memory BARs are answered.
    pub(super) fn answers(&self) -> bool {
        self.decodes() && matches!(self.low_power, LowPower::Off)
    }

    /// Whether read and write reach memory BARs: they wake a function up that low power is allowed for.
    fn decodes(&self) -> bool {
        self.decoding && !self.asleep
    }

    /// Numbers a new export. It is revoked from the start while read and write do not reach memory either.
    pub(super) fn number_export(&mut self) -> u32 {
        let number = self.exports;
        self.exports = number.saturating_add(1);
        if !self.decodes() {
            self.revoke_exports();
        }
        number
    }

    /// What was exported so far cannot be mapped any more.
    pub(super) fn revoke_exports(&mut self) {
        self.revoked = self.exports;
    }

    /// It can be mapped again, if read and write reach memory.
    pub(super) fn restore_exports(&mut self) {
        self.revoked = if self.decodes() { 0 } else { self.exports };
    }

    /// Whether an export can be mapped.
    pub(super) fn is_exported(&self, number: u32) -> bool {
        number >= self.revoked
    }

    /// The part of a BAR that read and write do not reach.
    fn hidden(&self, index: u8) -> Range<u64> {
        self.table.clone().filter(|(bar, _)| *bar == index).map_or(0..0, |(_, range)| range)
    }
}

/// Where a region starts in the device file.
pub(in crate::vfio) fn region_offset(index: u32) -> u64 {
    u64::from(index) << SPACING_BITS
}

/// The region that an offset of the device file is in, and how far in it is.
pub(in crate::vfio) fn region_at(offset: u64) -> (u32, u64) {
    ((offset >> SPACING_BITS) as u32, offset & ((1 << SPACING_BITS) - 1))
}

/// Whether a region has pages of its own, all in memory space.
pub(super) fn is_mappable<H: Host>(region: Region) -> bool {
    matches!(region.kind, RegionKind::Memory { .. })
        && (region.size >= H::PAGE || region.address.is_multiple_of(H::PAGE))
}

/// What read and write access.
pub(super) struct Place {
    /// As the host counts regions.
    pub(super) index: u8,
    pub(super) region: Region,
    /// What reads as all ones and drops writes.
    pub(super) hidden: Range<u64>,
}

/// The next part of an access: its length, and whether it is hidden. One that is not is a single cycle.
struct Part {
    length: u64,
    hidden: bool,
}

impl Place {
    fn next_part(&self, at: u64, left: u64) -> Part {
        if self.hidden.contains(&at) {
            return Part { length: left.min(self.hidden.end.saturating_sub(at)), hidden: true };
        }
        let free = if at < self.hidden.start { left.min(self.hidden.start.saturating_sub(at)) } else { left };
        // I/O ports have no 8-byte cycle, and ROMs are not asked for one.
        let in_memory = matches!(self.region.kind, RegionKind::Memory { .. });
        let widest = if in_memory && self.index != ROM_REGION { 8 } else { 4 };
        let fits = |&width: &u64| width <= widest && width <= free && at.is_multiple_of(width);
        Part { length: [8, 4, 2].into_iter().find(fits).unwrap_or(1), hidden: false }
    }
}

impl<H: Host> PciDevice<H> {
    /// `pread(2)` on a bound device file.
    pub(crate) fn read(&self, host: &H, offset: u64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.reach(host, offset)? {
            (VFIO_PCI_CONFIG_REGION_INDEX, at) => self.config_read(host, at, bytes),
            (VFIO_PCI_ROM_REGION_INDEX, at) => {
                let (rom, image) = self.readable_rom(host).ok_or(rules::BAR_ABSENT)?;
                let place = Place { index: ROM_REGION, region: rom, hidden: image..rom.size };
                self.region_read(host, place, at, bytes)
            }
            (VFIO_PCI_VGA_REGION_INDEX, at) => self.region_read(host, self.vga(host, at)?, at, bytes),
            (index, at) => {
                let (index, bar) = self.bar(host, index)?;
                let hidden = self.memory.read(|memory| memory.hidden(index));
                self.region_read(host, Place { index, region: bar, hidden }, at, bytes)
            }
        }
    }

    /// `pwrite(2)` on a bound device file.
    pub(crate) fn write(&self, host: &H, offset: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.reach(host, offset)? {
            (VFIO_PCI_CONFIG_REGION_INDEX, at) => self.config_write(host, at, bytes),
            (VFIO_PCI_ROM_REGION_INDEX, _) => Err(rules::ROM_WRITE),
            (VFIO_PCI_VGA_REGION_INDEX, at) => self.region_write(host, self.vga(host, at)?, at, bytes),
            (index, at) => {
                let (index, bar) = self.bar(host, index)?;
                let hidden = self.memory.read(|memory| memory.hidden(index));
                self.region_write(host, Place { index, region: bar, hidden }, at, bytes)
            }
        }
    }

    /// The region that is read or written at an offset, and how far in it; the function is awake then.
    fn reach(&self, host: &H, offset: u64) -> Result<(u32, u64), Refusal> {
        let (index, at) = region_at(offset);
        if index >= VFIO_PCI_NUM_REGIONS {
            return Err(rules::REGION_INDEX);
        }
        self.wake(host);
        Ok((index, at))
    }

    /// `mmap(2)` on a bound device file.
    pub(crate) fn map(
        &self,
        host: &H,
        offset: u64,
        length: u64,
        shared: bool,
    ) -> Result<MappedRegion, Refusal> {
        let (index, at) = region_at(offset);
        if index >= VFIO_PCI_NUM_REGIONS {
            return Err(rules::REGION_INDEX);
        }
        if !shared {
            return Err(rules::MAP_PRIVATE);
        }
        let index = u8::try_from(index).ok().filter(|&index| index < BARS).ok_or(rules::MAP_NOT_BAR)?;
        let bar = host
            .region(self.function, index)
            .filter(|bar| is_mappable::<H>(*bar))
            .ok_or(rules::MAP_UNMAPPABLE)?;
        let length = length.checked_next_multiple_of(H::PAGE).ok_or(rules::MAP_BOUNDS)?;
        let end = at.checked_add(length).ok_or(rules::MAP_BOUNDS)?;
        if end > bar.size.next_multiple_of(H::PAGE) {
            return Err(rules::MAP_BOUNDS);
        }
        Ok(MappedRegion { function: self.function, index, offset: at, length })
    }

    /// The BAR of an index, if it has an address.
    pub(super) fn bar(&self, host: &H, index: u32) -> Result<(u8, Region), Refusal> {
        match u8::try_from(index) {
            Ok(bar) if bar < BARS => {
                let region = host.region(self.function, bar).filter(|region| region.address != 0);
                Ok((bar, region.ok_or(rules::BAR_ABSENT)?))
            }
            _ => Err(rules::REGION_INDEX),
        }
    }

    fn region_read(&self, host: &H, place: Place, start: u64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        let length = access_length(place.region, start, bytes.len())?;
        let mut rest = bytes.get_mut(..length).ok_or(rules::BAR_BOUNDS)?;
        let mut at = start;
        while !rest.is_empty() {
            let part = place.next_part(at, rest.len() as u64);
            let (now, later) = rest.split_at_mut_checked(part.length as usize).ok_or(rules::BAR_BOUNDS)?;
            if part.hidden {
                now.fill(0xff);
            } else {
                let read = || host.region_read(self.function, place.index, at, part.length as u8);
                let value = self.while_answering(place.region, read)?;
                now.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            at = at.saturating_add(part.length);
            rest = later;
        }
        Ok(length)
    }

    /// Writes to a region, in cycles as wide as their alignment allows.
    pub(super) fn region_write(
        &self,
        host: &H,
        place: Place,
        start: u64,
        bytes: &[u8],
    ) -> Result<usize, Refusal> {
        let length = access_length(place.region, start, bytes.len())?;
        let mut rest = bytes.get(..length).ok_or(rules::BAR_BOUNDS)?;
        let mut at = start;
        while !rest.is_empty() {
            let part = place.next_part(at, rest.len() as u64);
            let (now, later) = rest.split_at_checked(part.length as usize).ok_or(rules::BAR_BOUNDS)?;
            if !part.hidden {
                let mut value = [0; 8];
                value.iter_mut().zip(now).for_each(|(into, byte)| *into = *byte);
                let value = u64::from_le_bytes(value);
                let write = || host.region_write(self.function, place.index, at, part.length as u8, value);
                self.while_answering(place.region, write)?;
            }
            at = at.saturating_add(part.length);
            rest = later;
        }
        Ok(length)
    }

    /// Accesses a region while decoding cannot be turned off. I/O ports are not asked whether they decode.
    fn while_answering<R>(&self, region: Region, f: impl FnOnce() -> R) -> Result<R, Refusal> {
        self.memory.read(|memory| match region.kind {
            RegionKind::Memory { .. } if !memory.decodes() => Err(rules::BAR_DECODING),
            _ => Ok(f()),
        })
    }
}

/// How much of an access is in the region: it may end behind it, but not start there.
fn access_length(region: Region, start: u64, length: usize) -> Result<usize, Refusal> {
    let left = region.size.checked_sub(start).filter(|&left| left > 0).ok_or(rules::BAR_BOUNDS)?;
    Ok(length.min(usize::try_from(left).unwrap_or(usize::MAX)))
}
