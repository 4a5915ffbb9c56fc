//! `VFIO_IOMMU_DIRTY_PAGES`, and bitmaps of dirty pages.
//!
//! Nobody can tell what devices write that do DMA: as long as one is there, all that is mapped counts as dirty. Of emulated
//! ones it is known: see [`written`](super::written).

use uapi::Command as _;
use uapi::vfio::{
    VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, VfioBitmap, VfioIommuType1DirtyBitmap, VfioIommuType1DirtyBitmapGet,
};
use zerocopy::IntoBytes;

use super::written::{Dirty, Written};
use super::{Call, Mapped, PAGE, Space, Type1, pages};
use crate::ctx::{UserMemory, UserMemoryExt as _};
use crate::host::{Host, Mutex as _};
use crate::mem::Entry;
use crate::rules::{Refusal, type1 as rules, vfio as vfio_rules};
use crate::vfio::args;

/// The most bytes that a bitmap has: a bit for each of 2^31 - 1 pages, in whole words.
pub(super) const BITMAP_BYTES: u64 = 1 << 28;

/// Where memory of a process ends at the latest.
const USER_END: u64 = 0x7fff_ffff_f000;

impl<H: Host> Type1<H> {
    pub(super) fn dirty_pages(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        if !self.v2 {
            return Err(rules::DIRTY_VERSION);
        }
        let memory = call.ctx.memory;
        let argument: VfioIommuType1DirtyBitmap = args::take(memory, call.argument, rules::DIRTY_ARGSZ)?;
        match argument.flags {
            VFIO_IOMMU_DIRTY_PAGES_FLAG_START => self.space.with(|space| space.track_dirty(call.host, true)),
            VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP => self.space.with(|space| space.track_dirty(call.host, false)),
            VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP => return self.get_bitmap(call, argument.stated_size()),
            _ => return Err(rules::DIRTY_FLAGS),
        }
        Ok(())
    }

    fn get_bitmap(&self, call: &Call<'_, H>, stated: usize) -> Result<(), Refusal> {
        let memory = call.ctx.memory;
        const HEAD: usize = size_of::<VfioIommuType1DirtyBitmap>();
        if stated.saturating_sub(HEAD) < size_of::<VfioIommuType1DirtyBitmapGet>() {
            return Err(rules::DIRTY_ARGSZ);
        }
        let range: VfioIommuType1DirtyBitmapGet = args::take_at(memory, call.argument, HEAD)?;
        let rest = range.size.checked_sub(1).ok_or(rules::DIRTY_SIZE)?;
        let (first, last) = (range.iova, range.iova.checked_add(rest).ok_or(rules::DIRTY_WRAPS)?);
        let bitmap = Bitmap::check(range.bitmap, range.size)?;
        self.space.with(|space| {
            if !bitmap.is_by_page() || !first.is_multiple_of(PAGE) || !range.size.is_multiple_of(PAGE) {
                return Err(rules::DIRTY_RANGE);
            }
            if !space.tracks_dirty {
                return Err(rules::DIRTY_OFF);
            }
            if space.bisects(first, last) {
                return Err(rules::DIRTY_BISECTS);
            }
            let mut at = Some(first);
            while let Some(entry) = at.and_then(|at| space.mappings.at_or_after(at)) {
                if entry.first > last {
                    break;
                }
                let stale = bitmap.mark(memory, first, &entry, &space.dirty(first, &entry))?;
                if let Some(mapped) = space.mappings.get_mut(entry.first) {
                    mapped.stale = stale;
                }
                space.forget_written(entry.first, entry.last);
                space.note_pinned(call.host, entry.first, entry.last);
                at = entry.last.checked_add(1);
            }
            Ok(())
        })
    }
}

impl<H: Host> Space<H> {
    /// Dirty pages are tracked from now on, or no longer.
    fn track_dirty(&mut self, host: &H, on: bool) {
        if self.tracks_dirty == on {
            return;
        }
        self.tracks_dirty = on;
        self.written = Written::NOTHING;
        self.note_pinned(host, 0, u64::MAX);
        let mut at = Some(0);
        while let Some(entry) = at.and_then(|at| self.mappings.at_or_after(at)) {
            if let Some(mapped) = self.mappings.get_mut(entry.first) {
                mapped.stale = 0;
            }
            at = entry.last.checked_add(1);
        }
    }
}

/// Where the caller wants a bitmap, whose first bit stands for the first page of a range.
pub(super) struct Bitmap(VfioBitmap);

impl Bitmap {
    /// A bitmap that has room for a range of so many bytes.
    pub(super) fn check(bitmap: VfioBitmap, bytes: u64) -> Result<Self, Refusal> {
        if bitmap.data.checked_add(bitmap.size).is_none_or(|end| end > USER_END) {
            return Err(rules::BITMAP_ADDRESS);
        }
        let pages = bytes.checked_shr(bitmap.pgsize.trailing_zeros()).unwrap_or(0);
        let needed = pages.div_ceil(64).saturating_mul(8);
        if pages == 0 || bitmap.size > BITMAP_BYTES || bitmap.size < needed {
            return Err(rules::BITMAP_SIZE);
        }
        Ok(Bitmap(bitmap))
    }

    /// Whether a bit stands for a smallest page.
    pub(super) fn is_by_page(&self) -> bool {
        self.0.pgsize == PAGE
    }

    /// Sets the dirty bits of a mapping in a bitmap that begins at the page of `base`; what is stale of the mapping afterwards.
    ///
    /// Words are written as a whole. Where the mapping begins within one, what the caller's memory holds in that word
    /// stays. Behind the mapping there are the bits that Linux leaves in its own bitmap, which it shifts into place and clears
    /// no further than the mapping goes: they come from the words of the caller that were read before.
    pub(super) fn mark<P>(
        &self,
        memory: &dyn UserMemory,
        base: u64,
        entry: &Entry<Mapped<P>>,
        dirty: &Dirty<'_>,
    ) -> Result<u128, Refusal> {
        const WORDS: usize = 64;
        let bit = |iova: u64| iova.saturating_sub(base) / PAGE;
        let (first, last) = (bit(entry.first), bit(entry.last));
        let (start, end) = (first / 64, last / 64);
        let address = |word: u64| self.0.data.saturating_add(word.saturating_mul(8));
        let shift = (first % 64) as u32;
        let kept: u64 = match shift {
            0 => 0,
            _ => memory.get(address(start)).map_err(|_| vfio_rules::ARGUMENT_FAULT)?,
        };
        let mut word = start;
        while word <= end {
            let mut block = [0_u64; WORDS];
            let count = end.saturating_sub(word).saturating_add(1).min(WORDS as u64);
            for (value, word) in block.iter_mut().zip(word..=end) {
                *value = dirty.word(word) | behind(word, last, entry.value.stale);
                if word == start {
                    *value |= kept;
                }
            }
            let bytes = block.as_bytes().get(..(count as usize).saturating_mul(8)).unwrap_or_default();
            memory.write(address(word), bytes).map_err(|_| vfio_rules::REPLY_FAULT)?;
            word = word.saturating_add(count);
        }
        let words = end.saturating_sub(start).saturating_add(1);
        Ok(shift_stale(entry.value.stale, pages(entry), (shift, dirty.top(shift)), words, kept))
    }
}

/// The stale bits behind bit `last` that are in a word.
fn behind(word: u64, last: u64, stale: u128) -> u64 {
    let (from, here) = (last.saturating_add(1), word.saturating_mul(64));
    match from.checked_sub(here) {
        Some(up) => stale.checked_shl(up as u32).unwrap_or(0) as u64,
        None => stale.checked_shr(here.saturating_sub(from) as u32).unwrap_or(0) as u64,
    }
}

/// What is behind a mapping of so many pages in Linux's own bitmap once that was shifted, in its first `words`, which moves its
/// `top` bits there, and joined with what it `kept` of the caller's first word.
fn shift_stale(stale: u128, pages: u64, (shift, top): (u32, u64), words: u64, kept: u64) -> u128 {
    if shift == 0 {
        return stale;
    }
    let low =
        |bits: u64| 1_u128.checked_shl(bits.min(128) as u32).map_or(u128::MAX, |bit| bit.wrapping_sub(1));
    let moved = low(words.saturating_mul(64).saturating_sub(pages));
    let joined = kept.checked_shr(pages.min(64) as u32).unwrap_or(0);
    (stale << shift | u128::from(top)) & moved | stale & !moved | u128::from(joined)
}
