//! The expansion ROM: where its images end.

use super::PciDevice;
use super::registers::{COMMAND, COMMAND_MEMORY, ROM_REGION};
use crate::host::{Host, Region, RwLock as _};

/// What each image starts with.
const SIGNATURE: u64 = 0xaa55;
/// Where an image says where its data structure is.
const POINTER: u64 = 0x18;
/// What the data structure starts with: the letters PCIR.
const STRUCTURE_SIGNATURE: u64 = 0x5249_4350;
/// Where it gives the length of the image, in units of [`UNIT`].
const LENGTH: u64 = 0x10;
const UNIT: u64 = 512;
/// Where it says whether the image is the last.
const INDICATOR: u64 = 0x15;
const LAST: u64 = 1 << 7;

impl<H: Host> PciDevice<H> {
    /// The expansion ROM and the length of the images in it; `None` if there is no image that can be read.
    pub(super) fn readable_rom(&self, host: &H) -> Option<(Region, u64)> {
        let rom = host.region(self.function, ROM_REGION).filter(|rom| rom.address != 0)?;
        // Decoding is on while the ROM is looked at, whatever the user has chosen.
        self.memory.write(|_| {
            let command = host.config_read(self.function, COMMAND, 2);
            host.config_write(self.function, COMMAND, 2, command | COMMAND_MEMORY);
            let length = self.images(host, rom.size);
            host.config_write(self.function, COMMAND, 2, command);
            length.map(|length| (rom, length))
        })
    }

    /// The length of all images; `None` without a first one.
    fn images(&self, host: &H, size: u64) -> Option<u64> {
        let read = |at: u64, width: u8| {
            let end = at.checked_add(width.into())?;
            let fits = end <= size && at.is_multiple_of(width.into());
            fits.then(|| host.region_read(self.function, ROM_REGION, at, width))
        };
        let image = |start: u64| {
            read(start, 2).filter(|&signature| signature == SIGNATURE)?;
            let structure = start.checked_add(read(start.checked_add(POINTER)?, 2)?)?;
            let low = read(structure, 2)?;
            let high = read(structure.checked_add(2)?, 2)?;
            if low | high << 16 != STRUCTURE_SIGNATURE {
                return None;
            }
            let length =
                read(structure.checked_add(LENGTH)?, 2)?.checked_mul(UNIT).filter(|&length| length > 0)?;
            let last = read(structure.checked_add(INDICATOR)?, 1)? & LAST != 0;
            Some((start.checked_add(length)?.min(size), last))
        };
        let mut end = None;
        let mut next = Some(0);
        while let Some((behind, last)) = next.and_then(image) {
            end = Some(behind);
            next = (!last && behind < size).then_some(behind);
        }
        end
    }
}
