//! Which pages devices have written: `IOMMU_HWPT_SET_DIRTY_TRACKING` and `IOMMU_HWPT_GET_DIRTY_BITMAP`.

use uapi::iommufd::{
    IOMMU_HWPT_DIRTY_TRACKING_ENABLE, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, IommuHwptGetDirtyBitmap,
    IommuHwptSetDirtyTracking,
};

use super::areas::Areas;
use super::call::Call;
use super::context::Context;
use super::placement::is_aligned;
use crate::rules::iommufd as rule;
use crate::{Host, Mutex, Refusal, RwLock, UserMemory};

/// A bitmap in the caller's memory, with a bit for each page of `1 << shift` bytes from `iova` on.
struct Bitmap<'a> {
    memory: &'a dyn UserMemory,
    address: u64,
    iova: u64,
    shift: u32,
}

impl<H: Host> Context<H> {
    /// `IOMMU_HWPT_SET_DIRTY_TRACKING`: on, it begins with no page written.
    pub(super) fn hwpt_set_dirty_tracking(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwptSetDirtyTracking>()?.value;
        if command.flags & !IOMMU_HWPT_DIRTY_TRACKING_ENABLE != 0 {
            return Err(rule::DIRTY_FIELDS);
        }
        self.objects.read(|objects| {
            let hwpt = objects.hwpt(command.hwpt_id).ok_or(rule::HWPT_UNKNOWN)?;
            if !hwpt.tracks_dirty {
                return Err(rule::DIRTY_UNSUPPORTED);
            }
            let enable = command.flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE != 0;
            objects.ioas(hwpt.ioas)?.areas.with(|_| {
                self.domains(call.host).track_dirty(hwpt.domain, enable);
            });
            Ok(())
        })
    }

    /// `IOMMU_HWPT_GET_DIRTY_BITMAP`: sets the bits of the pages that were written, up to the first hole in what is mapped.
    /// That there is a hole, or that the bitmap cannot be written, is no error in Linux either.
    pub(super) fn hwpt_get_dirty_bitmap(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuHwptGetDirtyBitmap>()?.value;
        if command.flags & !IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR != 0 || command.reserved != 0 {
            return Err(rule::DIRTY_FIELDS);
        }
        self.objects.read(|objects| {
            let hwpt = objects.hwpt(command.hwpt_id).ok_or(rule::HWPT_UNKNOWN)?;
            objects.ioas(hwpt.ioas)?.areas.with(|areas| {
                let last = check_range(areas, &command)?;
                if !hwpt.tracks_dirty {
                    return Err(rule::DIRTY_UNSUPPORTED);
                }
                let Some(end) = areas.mapped_from(command.iova) else { return Ok(()) };
                let bitmap = Bitmap {
                    memory: call.caller.memory,
                    address: command.data,
                    iova: command.iova,
                    shift: command.page_size.trailing_zeros(),
                };
                let clear = command.flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR == 0;
                let mut set = |first, last| bitmap.set(first, last);
                let range = (command.iova, last.min(end));
                self.domains(call.host).read_dirty(hwpt.domain, range, clear, &mut set);
                Ok(())
            })
        })
    }
}

/// Checks the range of pages that are asked about; its last IOVA.
fn check_range<H: Host>(areas: &Areas<H>, command: &IommuHwptGetDirtyBitmap) -> Result<u64, Refusal> {
    let rest = command.length.checked_sub(1).ok_or(rule::DIRTY_LENGTH)?;
    let last = command.iova.checked_add(rest).ok_or(rule::DIRTY_WRAPS)?;
    let aligned = |to| is_aligned(command.iova, to) && is_aligned(last.wrapping_add(1), to);
    match command.page_size != 0 && aligned(areas.alignment()) && aligned(command.page_size) {
        true => Ok(last),
        false => Err(rule::DIRTY_ALIGNMENT),
    }
}

impl Bitmap<'_> {
    /// Sets the bits of the pages from `first` to `last`.
    fn set(&self, first: u64, last: u64) {
        let bit = |iova: u64| iova.saturating_sub(self.iova).checked_shr(self.shift).unwrap_or(0);
        let (mut at, end) = (bit(first), bit(last));
        while at <= end {
            // Those in the rest of eight bytes; nothing beyond the bitmap is touched.
            let until = (at | 63).min(end);
            let start = at / 8;
            let mut word = [0_u8; 8];
            let bytes = word.get_mut(..=(until / 8).saturating_sub(start) as usize).unwrap_or_default();
            let Some(address) = self.address.checked_add(start) else { return };
            if self.memory.read(address, bytes).is_err() {
                return;
            }
            for bit in at..=until {
                if let Some(byte) = bytes.get_mut((bit / 8).saturating_sub(start) as usize) {
                    *byte |= 1 << (bit % 8);
                }
            }
            if self.memory.write(address, bytes).is_err() {
                return;
            }
            at = until.saturating_add(1);
        }
    }
}
