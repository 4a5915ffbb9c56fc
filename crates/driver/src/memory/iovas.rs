//! Which IOVAs of a container are taken.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Nothing is placed below: to many a device the address zero means that there is none.
const LOWEST: u64 = 4096;

/// The IOVAs that there are and the ones that are taken.
pub(super) struct Iovas {
    /// Inclusive, ascending.
    usable: Vec<RangeInclusive<u64>>,
    /// The first and the last address of each piece.
    taken: BTreeMap<u64, u64>,
}

impl Iovas {
    pub(super) fn new(mut usable: Vec<RangeInclusive<u64>>) -> Self {
        usable.sort_by_key(|range| *range.start());
        Iovas { usable, taken: BTreeMap::new() }
    }

    /// Takes the lowest `length` bytes in a row that start at a multiple of `alignment`, a power of two, and do not lie
    /// above `highest`.
    pub(super) fn take(&mut self, length: u64, alignment: u64, highest: u64) -> Option<u64> {
        let first = self.usable.iter().find_map(|range| self.place(range, length, alignment, highest))?;
        self.taken.insert(first, first + (length - 1));
        Some(first)
    }

    pub(super) fn give_back(&mut self, first: u64) {
        self.taken.remove(&first);
    }

    fn place(&self, range: &RangeInclusive<u64>, length: u64, alignment: u64, highest: u64) -> Option<u64> {
        let end = highest.min(*range.end());
        let mut at = LOWEST.max(*range.start());
        loop {
            let first = at.checked_next_multiple_of(alignment)?;
            let last = first.checked_add(length.checked_sub(1)?)?;
            if last > end {
                return None;
            }
            // Pieces do not overlap, so that the last one that starts below is the only one that can be in the way.
            match self.taken.range(..=last).next_back() {
                Some((_, &taken)) if taken >= first => at = taken.checked_add(1)?,
                _ => return Some(first),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Iovas;

    #[test]
    fn the_lowest_place_that_fits_is_taken_and_can_be_given_back() {
        let mut iovas = Iovas::new(vec![0x10_0000..=0x1f_ffff, 0..=0x7fff]);
        assert_eq!(iovas.take(0x1000, 0x1000, u64::MAX), Some(0x1000), "zero is left out");
        assert_eq!(iovas.take(0x2000, 0x4000, u64::MAX), Some(0x4000));
        assert_eq!(iovas.take(0x2000, 0x2000, u64::MAX), Some(0x2000), "between the two");
        assert_eq!(iovas.take(0x4000, 0x1000, u64::MAX), Some(0x10_0000), "in the next range");
        assert_eq!(iovas.take(0x4000, 0x1000, 0xf_ffff), None, "above what the device can name");
        iovas.give_back(0x4000);
        assert_eq!(iovas.take(0x4000, 0x1000, 0xf_ffff), Some(0x4000));
    }

    proptest! {
        #[test]
        fn pieces_are_apart_aligned_and_within_reach(
            asked in prop::collection::vec((1_u64..20, 0_u32..4, 0x8000_u64..0x6_0000, any::<bool>()), 1..40),
        ) {
            let usable = [0_u64..=0x1_ffff, 0x4_0000..=0x7_ffff];
            let mut iovas = Iovas::new(usable.to_vec());
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (pages, order, highest, give_back) in asked {
                let (length, alignment) = (pages << 12, 0x1000 << order);
                let Some(first) = iovas.take(length, alignment, highest) else {
                    // A naive search finds no place either.
                    let free = |first: u64| {
                        let last = first + length - 1;
                        last <= highest
                            && usable.iter().any(|range| range.contains(&first) && range.contains(&last))
                            && taken.iter().all(|(from, to)| last < *from || *to < first)
                    };
                    let mut places = (0..0x8_0000).step_by(alignment as usize).skip(1);
                    prop_assert!(!places.any(free));
                    continue;
                };
                let last = first + length - 1;
                prop_assert!(first.is_multiple_of(alignment) && first >= 0x1000 && last <= highest);
                prop_assert!(usable.iter().any(|range| range.contains(&first) && range.contains(&last)));
                prop_assert!(taken.iter().all(|(from, to)| last < *from || *to < first));
                if give_back {
                    iovas.give_back(first);
                } else {
                    taken.push((first, last));
                }
            }
        }
    }
}
