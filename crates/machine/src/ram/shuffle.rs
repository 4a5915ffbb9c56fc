//! A keyed permutation of the numbers below a limit.
//!
//! A Feistel network permutes the numbers of a power of two; walking its cycle until a number below the limit comes up
//! makes that a permutation of those below the limit (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
//! 2002). Nothing here is secret: the keys only have to scatter.
#![forbid(unsafe_code)]

const ROUNDS: usize = 2;

/// A permutation of `0..limit`.
#[derive(Clone, Debug)]
pub(super) struct Shuffle {
    limit: u64,
    /// Bits in the right half of a number; the left half has as many or one more.
    right_bits: u32,
    left_mask: u64,
    right_mask: u64,
    keys: [[u64; 2]; ROUNDS],
}

impl Shuffle {
    /// The permutation of `0..limit` that belongs to a seed.
    pub(super) fn new(limit: u64, seed: u64) -> Self {
        let bits = limit.next_power_of_two().trailing_zeros();
        let right_bits = bits / 2;
        let mut state = seed;
        let mut key = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            state.wrapping_mul(0xd6e8_feb8_6659_fd93)
        };
        Shuffle {
            limit,
            right_bits,
            left_mask: (1 << (bits - right_bits)) - 1,
            right_mask: (1 << right_bits) - 1,
            keys: std::array::from_fn(|_| [key(), key()]),
        }
    }

    /// Where a number below the limit goes.
    pub(super) fn apply(&self, mut number: u64) -> u64 {
        loop {
            let (mut left, mut right) = (number >> self.right_bits, number & self.right_mask);
            for [a, b] in &self.keys {
                left ^= mix(right ^ a) & self.left_mask;
                right ^= mix(left ^ b) & self.right_mask;
            }
            number = left << self.right_bits | right;
            if number < self.limit {
                return number;
            }
        }
    }

    /// Where it came from.
    #[inline]
    pub(super) fn invert(&self, mut number: u64) -> u64 {
        loop {
            let (mut left, mut right) = (number >> self.right_bits, number & self.right_mask);
            for [a, b] in self.keys.iter().rev() {
                right ^= mix(left ^ b) & self.right_mask;
                left ^= mix(right ^ a) & self.left_mask;
            }
            number = left << self.right_bits | right;
            if number < self.limit {
                return number;
            }
        }
    }
}

/// Spreads a number over the lower half of the word.
#[inline]
const fn mix(number: u64) -> u64 {
    number.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32
}

#[cfg(test)]
mod tests {
    use super::Shuffle;

    #[test]
    fn every_number_has_one_place() {
        for limit in [1, 2, 3, 127, 512, 1000, 4097] {
            let shuffle = Shuffle::new(limit, limit ^ 5);
            let mut seen = vec![false; limit as usize];
            for number in 0..limit {
                let place = shuffle.apply(number);
                assert_eq!(shuffle.invert(place), number);
                assert!(!std::mem::replace(&mut seen[place as usize], true));
            }
        }
    }

    #[test]
    fn seeds_differ() {
        let places = |seed| (0..100).map(|n| Shuffle::new(1 << 20, seed).apply(n)).collect::<Vec<_>>();
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
    }
}
