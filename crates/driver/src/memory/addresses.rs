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
    /// From segments in order: whole granules each.
    pub(super) fn new(segments: &[Segment]) -> Self {
        let length: usize = segments.iter().map(|segment| segment.length).sum();
        let mut runs = Vec::with_capacity(length.div_ceil(GRANULE as usize));
        for segment in segments {
            let (address, length) = (segment.address.get(), segment.length as u64);
            let starts = (0..length).step_by(GRANULE as usize);
            runs.extend(starts.map(|start| Run { address: address + start, left: length - start }));
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

/// Cuts segments where a multiple of `boundary`, a power of two, lies within them.
pub(super) fn cut(segments: Vec<Segment>, boundary: Option<u64>) -> Vec<Segment> {
    let Some(boundary) = boundary else { return segments };
    let mut pieces = Vec::new();
    for Segment { address, length } in segments {
        let mut done = 0;
        while done < length {
            let address = address.get() + done as u64;
            let until = usize::try_from(boundary - address % boundary).unwrap_or(usize::MAX);
            let length = until.min(length - done);
            pieces.push(Segment { address: DeviceAddr::new(address), length });
            done += length;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Segment, cut, join};
    use crate::DeviceAddr;

    fn segment(address: u64, length: usize) -> Segment {
        Segment { address: DeviceAddr::new(address), length }
    }

    #[test]
    fn each_byte_has_the_address_of_its_segment() {
        let addresses = Addresses::new(&[segment(0x10000, 0x2000), segment(0x5000, 0x1000)]);
        assert_eq!(addresses.at(0), (DeviceAddr::new(0x10000), 0x2000));
        assert_eq!(addresses.at(0x1ffc), (DeviceAddr::new(0x11ffc), 4));
        assert_eq!(addresses.at(0x2010), (DeviceAddr::new(0x5010), 0xff0));
    }

    #[test]
    fn a_boundary_ends_a_segment() {
        let pieces = [segment(0xf000, 0x1000), segment(0x1_0000, 0x1_0000), segment(0x2_0000, 0x1000)];
        assert_eq!(cut(vec![segment(0xf000, 0x1_2000)], Some(0x1_0000)), pieces);
        let below = vec![segment(0x1_0000, 0x1_0000)];
        assert_eq!(cut(below.clone(), Some(0x1_0000)), below);
        assert_eq!(cut(below.clone(), None), below);
    }

    #[test]
    fn neighbours_join() {
        let pieces = [segment(0x1000, 0x1000), segment(0x2000, 0x3000), segment(0x1000, 0x1000)];
        assert_eq!(join(pieces), [segment(0x1000, 0x4000), segment(0x1000, 0x1000)]);
    }
}
