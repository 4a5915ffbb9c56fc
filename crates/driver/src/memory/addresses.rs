//! Which device address each byte of a piece of memory has.
#![forbid(unsafe_code)]

use crate::DeviceAddr;

/// What addresses are kept by: the smallest page of an x86-64 CPU, and a divisor of every page of others.
const GRANULE: u64 = 4096;

/// A piece of memory that is contiguous for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts, as the device is to be told.
    pub address: DeviceAddr,
    /// Its length in bytes.
    pub length: usize,
}

/// The device address of each granule, and for how many bytes it goes on from there without a break.
///
/// One entry per granule makes a look-up one load, however scattered the memory is: a driver does it for each page of
/// each transfer.
#[derive(Debug)]
pub(super) struct Addresses(Vec<Run>);

#[derive(Clone, Copy, Debug)]
struct Run {
    address: u64,
    left: u64,
}

impl Addresses {
    /// From segments in order: whole granules each. `boundary` is a power of two whose multiples end a segment.
    pub(super) fn new(segments: &[Segment], boundary: Option<u64>) -> Self {
        let mut runs = Vec::with_capacity(segments.iter().map(|segment| segment.length).sum::<usize>() >> 12);
        for segment in segments {
            let mut left = segment.length as u64;
            let mut address = segment.address.get();
            while left > 0 {
                let until = boundary.map_or(u64::MAX, |boundary| boundary - (address & (boundary - 1)));
                runs.push(Run { address, left: left.min(until) });
                let step = GRANULE.min(left);
                left -= step;
                address = address.wrapping_add(step);
            }
        }
        Addresses(runs)
    }

    /// The address of the byte at `offset`, and for how many bytes it goes on. Panics past the end.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> (DeviceAddr, usize) {
        let run = self.0[offset >> GRANULE.trailing_zeros()];
        let within = offset as u64 % GRANULE;
        (DeviceAddr::new(run.address + within), (run.left - within) as usize)
    }
}

/// Joins neighbours that go on where the one before ends.
pub(super) fn join(segments: impl IntoIterator<Item = Segment>) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::new();
    for segment in segments {
        match joined.last_mut() {
            Some(last)
                if last.address.get().checked_add(last.length as u64) == Some(segment.address.get()) =>
            {
                last.length += segment.length;
            }
            _ => joined.push(segment),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Segment, join};
    use crate::DeviceAddr;

    fn segment(address: u64, length: usize) -> Segment {
        Segment { address: DeviceAddr::new(address), length }
    }

    #[test]
    fn each_byte_has_the_address_of_its_segment() {
        let addresses = Addresses::new(&[segment(0x10000, 0x2000), segment(0x5000, 0x1000)], None);
        assert_eq!(addresses.at(0), (DeviceAddr::new(0x10000), 0x2000));
        assert_eq!(addresses.at(0x1ffc), (DeviceAddr::new(0x11ffc), 4));
        assert_eq!(addresses.at(0x2010), (DeviceAddr::new(0x5010), 0xff0));
    }

    #[test]
    fn a_boundary_ends_a_segment() {
        let addresses = Addresses::new(&[segment(0xf000, 0x3000)], Some(0x10000));
        assert_eq!(addresses.at(0), (DeviceAddr::new(0xf000), 0x1000));
        assert_eq!(addresses.at(0x1000), (DeviceAddr::new(0x10000), 0x2000));
    }

    #[test]
    fn neighbours_join() {
        let pieces = [segment(0x1000, 0x1000), segment(0x2000, 0x3000), segment(0x1000, 0x1000)];
        assert_eq!(join(pieces), [segment(0x1000, 0x4000), segment(0x1000, 0x1000)]);
    }
}
