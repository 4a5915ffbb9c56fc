//! Which physical address each frame has.
//!
//! A layout is computed, never stored: frames are in a few zones, and each zone fills a window of the physical address
//! space, either in order or shuffled by a keyed permutation. So the way back, which every device access takes, costs as
//! little as the way there.
//!
//! The windows leave out what is no memory on a PC: the first 2 MiB, the 32-bit MMIO hole below 4 GiB, and
//! everything from 256 GiB up, where 64-bit BARs are.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::shuffle::Shuffle;
use super::{FRAME, HUGE_FRAMES};

/// Where the frames of a machine are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// One after the other.
    Contiguous,
    /// 2 MiB pieces, scattered among each other.
    Hugepage,
    /// Every 4 KiB somewhere else, on both sides of 4 GiB; a quarter is set aside for huge pages.
    #[default]
    Scattered,
}

/// Slots are the places where a frame can be, numbered from the lowest address without a gap: slot 0 is here.
const FIRST_PAGE: u64 = (2 << 20) / FRAME;
/// The first slot above 4 GiB, behind the MMIO hole that starts at 3 GiB.
const HIGH_SLOT: u64 = (3 << 30) / FRAME - FIRST_PAGE;
/// The page of that slot.
const HIGH_PAGE: u64 = (4 << 30) / FRAME;
/// One more than the last slot: 256 GiB.
const SLOTS: u64 = (256 << 30) / FRAME - HIGH_PAGE + HIGH_SLOT;
/// Slots below 256 MiB, which devices with 28 address bits reach.
const LOW_SLOTS: u64 = (256 << 20) / FRAME - FIRST_PAGE;
/// The most that is kept for such devices.
const LOW_FRAMES: u64 = (128 << 20) / FRAME;

/// A bijection between frames and physical addresses.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    zones: Vec<Zone>,
}

/// What a zone is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Devices that drive few address bits.
    Low,
    /// Everybody.
    General,
    /// Huge pages, where the general zone has none.
    Huge,
    /// Memory that is not the machine's own.
    Foreign,
}

#[derive(Clone, Debug)]
struct Zone {
    kept_for: Use,
    frames: Range<u64>,
    window: Range<u64>,
    order: Order,
}

/// How the frames of a zone lie in its window.
#[derive(Clone, Debug)]
enum Order {
    /// In their order, from its start.
    Straight,
    /// Anywhere in it, `1 << granule_bits` of them together.
    Shuffled { granule_bits: u32, shuffle: Shuffle },
}

impl Layout {
    /// The layout of `machine` frames of machine RAM and `foreign` frames behind them: multiples of 512, and no more than
    /// 80 GiB in all.
    #[must_use]
    pub(crate) fn new(kind: LayoutKind, machine: u64, foreign: u64, seed: u64) -> Self {
        let low = (machine / 4).min(LOW_FRAMES) / HUGE_FRAMES * HUGE_FRAMES;
        let huge = match kind {
            LayoutKind::Scattered => machine / 4 / HUGE_FRAMES * HUGE_FRAMES,
            LayoutKind::Contiguous | LayoutKind::Hugepage => 0,
        };
        let general = machine - low - huge;
        let mut build = Builder { kind, seed, zones: Vec::new(), frame: 0, slot: 0 };
        if kind == LayoutKind::Contiguous {
            build.straight(Use::Low, low);
            build.straight(Use::General, general);
            build.straight(Use::Foreign, foreign);
        } else {
            build.shuffled(Use::Low, low, LOW_SLOTS);
            // A small zone would all be below 4 GiB if it were not put astride.
            build.slot = build.slot.max(HIGH_SLOT.saturating_sub(general));
            build.shuffled(Use::General, general, 2 * general);
            build.shuffled(Use::Huge, huge, 2 * huge);
            build.shuffled(Use::Foreign, foreign, 2 * foreign);
        }
        debug_assert!(build.slot <= SLOTS, "the windows end below 256 GiB");
        Layout { zones: build.zones }
    }

    /// The physical address of a frame, and how many frames from there on are known to follow each other in
    /// physical memory (at least 1).
    ///
    /// # Panics
    ///
    /// If there is no such frame.
    #[must_use]
    pub(crate) fn run_at(&self, frame: u64) -> (u64, u64) {
        let zone = self.zones.iter().find(|zone| frame < zone.frames.end).expect("a frame of this machine");
        let (slot, left) = zone.slot_of(frame);
        (page_of(slot) * FRAME, if slot < HIGH_SLOT { left.min(HIGH_SLOT - slot) } else { left })
    }

    /// The frame that contains a physical address.
    #[inline]
    #[must_use]
    pub(crate) fn frame_at(&self, address: u64) -> Option<u64> {
        let slot = slot_of(address / FRAME)?;
        let zone = self.zones.iter().find(|zone| zone.window.contains(&slot))?;
        zone.frame_of(slot)
    }

    /// Machine RAM whose addresses, to the last byte, are not above `highest`, in the order in which it is to be handed
    /// out. `huge`: only where 512 aligned frames follow each other.
    pub(super) fn choices(&self, huge: bool, highest: u64) -> impl Iterator<Item = Range<u64>> {
        let order =
            if huge { [Use::Huge, Use::General, Use::Low] } else { [Use::General, Use::Huge, Use::Low] };
        let zones =
            order.into_iter().flat_map(|kept_for| self.zones.iter().filter(move |z| z.kept_for == kept_for));
        zones.filter(move |zone| !huge || zone.has_huge()).filter_map(move |zone| zone.up_to(highest))
    }
}

impl Zone {
    fn slot_of(&self, frame: u64) -> (u64, u64) {
        let offset = frame - self.frames.start;
        match &self.order {
            Order::Straight => (self.window.start + offset, self.frames.end - frame),
            Order::Shuffled { granule_bits, shuffle } => {
                let inside = offset & ((1 << granule_bits) - 1);
                let granule = shuffle.apply(offset >> granule_bits);
                (self.window.start + (granule << granule_bits) + inside, (1 << granule_bits) - inside)
            }
        }
    }

    #[inline]
    fn frame_of(&self, slot: u64) -> Option<u64> {
        let offset = slot - self.window.start;
        let offset = match &self.order {
            Order::Straight => offset,
            Order::Shuffled { granule_bits, shuffle } => {
                let inside = offset & ((1 << granule_bits) - 1);
                (shuffle.invert(offset >> granule_bits) << granule_bits) + inside
            }
        };
        let frame = self.frames.start + offset;
        (frame < self.frames.end).then_some(frame)
    }

    fn has_huge(&self) -> bool {
        match self.order {
            Order::Straight => true,
            Order::Shuffled { granule_bits, .. } => 1 << granule_bits >= HUGE_FRAMES,
        }
    }

    /// The part of it that is not above an address.
    fn up_to(&self, highest: u64) -> Option<Range<u64>> {
        let below = |slot: u64| page_of(slot) * FRAME + (FRAME - 1) <= highest;
        let end = match self.order {
            Order::Shuffled { .. } if !below(self.window.end - 1) => return None,
            Order::Shuffled { .. } => self.frames.end,
            Order::Straight => {
                let (mut within, mut beyond) = (self.window.start, self.window.end);
                while within < beyond {
                    let middle = within + (beyond - within) / 2;
                    if below(middle) { within = middle + 1 } else { beyond = middle }
                }
                self.frames.start + (within - self.window.start)
            }
        };
        (end > self.frames.start).then_some(self.frames.start..end)
    }
}

struct Builder {
    kind: LayoutKind,
    seed: u64,
    zones: Vec<Zone>,
    frame: u64,
    slot: u64,
}

impl Builder {
    fn straight(&mut self, kept_for: Use, frames: u64) {
        self.push(kept_for, frames, frames, Order::Straight);
    }

    fn shuffled(&mut self, kept_for: Use, frames: u64, slots: u64) {
        let one_by_one = self.kind == LayoutKind::Scattered && kept_for != Use::Huge;
        let granule_bits = if one_by_one { 0 } else { HUGE_FRAMES.trailing_zeros() };
        let key = self.seed.wrapping_add(self.frame);
        let shuffle = Shuffle::new(slots >> granule_bits, key);
        self.push(kept_for, frames, slots, Order::Shuffled { granule_bits, shuffle });
    }

    fn push(&mut self, kept_for: Use, frames: u64, slots: u64, order: Order) {
        if frames > 0 {
            let zone = Zone {
                kept_for,
                frames: self.frame..self.frame + frames,
                window: self.slot..self.slot + slots,
                order,
            };
            self.zones.push(zone);
            self.frame += frames;
            self.slot += slots;
        }
    }
}

const fn page_of(slot: u64) -> u64 {
    if slot < HIGH_SLOT { slot + FIRST_PAGE } else { slot - HIGH_SLOT + HIGH_PAGE }
}

#[inline]
fn slot_of(page: u64) -> Option<u64> {
    if page >= HIGH_PAGE {
        Some(page - HIGH_PAGE + HIGH_SLOT)
    } else {
        page.checked_sub(FIRST_PAGE).filter(|&slot| slot < HIGH_SLOT)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KINDS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

    fn kinds() -> impl Strategy<Value = LayoutKind> {
        prop::sample::select(KINDS.to_vec())
    }

    /// Every frame of a small machine has an address of its own, where memory can be, and leads back.
    #[test]
    fn each_frame_has_its_own_address() {
        for kind in KINDS {
            let layout = Layout::new(kind, 16384, 8192, 7);
            let mut seen = HashSet::new();
            for frame in 0..16384 + 8192 {
                let (address, _) = layout.run_at(frame);
                assert!((2 << 20..256 << 30).contains(&address), "{address:#x}");
                assert!(!(3 << 30..4 << 30).contains(&address), "{address:#x}");
                assert!(seen.insert(address));
                assert_eq!(layout.frame_at(address + 4095), Some(frame));
            }
        }
    }

    /// What leads to no frame is no frame's address: counted over the whole address space.
    #[test]
    fn other_addresses_lead_nowhere() {
        for kind in KINDS {
            let layout = Layout::new(kind, 4096, 512, 3);
            let hits = (0..(8 << 30) / FRAME).filter(|page| layout.frame_at(page * FRAME).is_some()).count();
            assert_eq!(hits, 4096 + 512, "{kind:?}");
            assert_eq!(layout.frame_at(u64::MAX), None);
        }
    }

    #[test]
    fn a_small_scattered_machine_is_astride_4_gib() {
        let layout = Layout::new(LayoutKind::Scattered, 16384, 512, 1);
        let frames = layout.choices(false, u64::MAX).next().expect("a general zone");
        let above = frames.clone().filter(|&frame| layout.run_at(frame).0 >= 4 << 30).count() as u64;
        assert!(above > 0 && above < frames.end - frames.start);
    }

    /// The largest machine still ends below the BARs.
    #[test]
    fn the_largest_fits() {
        for kind in KINDS {
            let frames = (64 << 30) / FRAME;
            let layout = Layout::new(kind, frames, frames / 4, 0);
            for frame in (0..frames + frames / 4).step_by(4097) {
                assert!(layout.run_at(frame).0 < 256 << 30);
            }
        }
    }

    #[test]
    fn neighbours_are_scattered() {
        let layout = Layout::new(LayoutKind::Scattered, 1 << 20, 512, 1);
        let frames = layout.choices(false, u64::MAX).next().expect("a general zone");
        let adjacent = frames.clone().skip(1).take(10_000);
        let adjacent = adjacent.filter(|f| layout.run_at(f - 1).0 + FRAME == layout.run_at(*f).0).count();
        assert!(adjacent < 10, "{adjacent}");
    }

    proptest! {
        /// A run holds: each frame of it is where the run says.
        #[test]
        fn runs_hold(kind in kinds(), seed: u64, at in 0_u64..1 << 22, step in 0_u64..1 << 20) {
            let layout = Layout::new(kind, 1 << 22, 1 << 22, seed);
            let (address, left) = layout.run_at(at);
            prop_assert!(left >= 1);
            let step = step % left;
            prop_assert_eq!(layout.run_at(at + step).0, address + step * FRAME);
            prop_assert_eq!(layout.frame_at(address), Some(at));
        }

        /// What is handed out below a limit is below it; huge pages are aligned and in one piece.
        #[test]
        fn choices_are_kept(kind in kinds(), seed: u64, bits in 21_u32..40, huge: bool, pick: u64) {
            let layout = Layout::new(kind, 1 << 20, 1 << 20, seed);
            let highest = (1_u64 << bits) - 1;
            for range in layout.choices(huge, highest) {
                let mut frame = range.start + pick % (range.end - range.start);
                if huge {
                    frame = frame.next_multiple_of(HUGE_FRAMES);
                    if frame + HUGE_FRAMES > range.end {
                        continue;
                    }
                    let (address, left) = layout.run_at(frame);
                    prop_assert!(address % (2 << 20) == 0 && left >= HUGE_FRAMES);
                }
                prop_assert!(layout.run_at(frame).0 + FRAME - 1 <= highest);
            }
            if bits >= 28 {
                prop_assert!(layout.choices(false, highest).next().is_some());
            }
        }
    }
}
