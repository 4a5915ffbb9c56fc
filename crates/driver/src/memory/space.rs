//! The address space of a device: where its memory comes from.
#![forbid(unsafe_code)]

use std::sync::Arc;

use sys::{MemoryOptions, Sys};

use super::addresses::{Addresses, Segment, cut};
use super::addressing::Addressing;
use super::buffer::DmaBuffer;
use super::options::DmaOptions;
use super::pinned::Pinned;
use crate::calls::Calls;
use crate::error::Attempt;
use crate::{DeviceAddr, Error, Mode, Result};

/// How many times memory is allocated and looked at before the wish is given up. Each time the kernel has to hand out
/// other pages, since the ones before are still held.
const TRIES: u32 = 4;

/// The address space of a device: the memory that it, and in IOMMUFD each other device attached to it, is given.
///
/// Cloning gives another handle on the same one. It goes when the last handle and the last [`DmaBuffer`] are gone.
pub struct AddressSpace<S: Sys> {
    calls: Calls<S>,
    mode: Mode,
    addressing: Arc<Addressing<S>>,
}

impl<S: Sys> Clone for AddressSpace<S> {
    fn clone(&self) -> Self {
        AddressSpace { calls: self.calls.clone(), mode: self.mode, addressing: Arc::clone(&self.addressing) }
    }
}

impl<S: Sys> AddressSpace<S> {
    pub(crate) fn new(calls: &Calls<S>, mode: Mode, addressing: Addressing<S>) -> Self {
        AddressSpace { calls: calls.clone(), mode, addressing: Arc::new(addressing) }
    }

    /// The identifier of its IOAS in the context of IOMMUFD, for calls of one's own. 0, which is no identifier, in the modes
    /// that do without IOMMUFD.
    #[must_use]
    pub fn id(&self) -> u32 {
        match &*self.addressing {
            Addressing::Ioas(ioas) => ioas.id(),
            Addressing::Container(_) | Addressing::Pagemap(_) => 0,
        }
    }

    /// Whether device addresses are IOVAs (`true`) or physical addresses (`false`).
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        self.mode.has_iommu()
    }

    /// Zeroed memory of `length` bytes that the device may read and write, until the last handle on it is dropped.
    ///
    /// Whole pages are taken. Without an IOMMU it has as many segments as it really has in physical memory: in the mode
    /// `iommufd-noiommu` it is pinned, and its addresses are asked of IOMMUFD; in `group-noiommu` and `uio` it is always on
    /// huge pages, each allocation on its own (a [`DmaPool`](crate::DmaPool) shares one out), and its addresses are read
    /// from `/proc/self/pagemap`, which tells them to those with `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] by the system, for want of memory or by a limit on pinned memory; [`Error::OutOfReach`] and
    /// [`Error::NotContiguous`] where memory was found that is not like `options` demand; [`Error::NoIova`] where a
    /// container has no room for it; [`Error::Frame`] where the kernel hides physical addresses.
    pub fn allocate(&self, length: usize, options: &DmaOptions) -> Result<DmaBuffer<S>> {
        options.check(length)?;
        // An IOMMU gives the same kind of address each time.
        let tries = if self.has_iommu() { 1 } else { TRIES };
        let mut held = Vec::new();
        loop {
            let (pinned, segments) = self.pin(length, options)?;
            let segments = cut(segments, options.boundary);
            let Some(defect) = defect(&segments, length, options, tries) else {
                return Ok(DmaBuffer::new(pinned, Addresses::new(&segments), length));
            };
            held.push(pinned);
            if held.len() as u32 == tries {
                return Err(defect);
            }
        }
    }

    /// Allocates, maps and looks.
    fn pin(&self, length: usize, options: &DmaOptions) -> Result<(Pinned<S>, Vec<Segment>)> {
        let highest = if self.has_iommu() { u64::MAX } else { options.highest() };
        let page_size = self.addressing.page_size(options.page_size);
        let memory = self
            .calls
            .allocate(&MemoryOptions { length, page_size, highest })
            .attempt(|| format!("cannot allocate {length} bytes for the device in mode {}", self.mode))?;
        let iova = self.addressing.map(&memory, options)?;
        let pinned = Pinned { addressing: Arc::clone(&self.addressing), iova, memory };
        let segments = self.addressing.segments(&pinned.memory, iova)?;
        Ok((pinned, segments))
    }
}

/// What is wrong with memory of these segments, if anything.
fn defect(segments: &[Segment], length: usize, options: &DmaOptions, tries: u32) -> Option<Error> {
    let highest = options.highest();
    let beyond = |segment: &&Segment| {
        segment.address.get().checked_add(segment.length as u64 - 1).is_none_or(|last| last > highest)
    };
    if let Some(segment) = segments.iter().find(beyond) {
        let address = DeviceAddr::new(segment.address.get().max(highest.saturating_add(1)));
        return Some(Error::OutOfReach { address, bits: options.mask_bits, tries });
    }
    let largest = segments.iter().map(|segment| segment.length).max().unwrap_or(0);
    if options.contiguous && segments.first().is_none_or(|first| first.length < length) {
        return Some(Error::NotContiguous { needed: length, largest });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{DmaOptions, Segment, defect};
    use crate::{DeviceAddr, Error};

    fn segment(address: u64, length: usize) -> Segment {
        Segment { address: DeviceAddr::new(address), length }
    }

    #[test]
    fn the_last_byte_that_a_mask_reaches_is_within_reach() {
        let options = DmaOptions::new().mask_bits(28);
        assert_eq!(defect(&[segment(0xfff_f000, 0x1000)], 0x1000, &options, 4), None);
        let crossing = [segment(0x1000, 0x1000), segment(0xfff_f000, 0x2000)];
        let beyond = DeviceAddr::new(0x1000_0000);
        assert_eq!(
            defect(&crossing, 0x3000, &options, 4),
            Some(Error::OutOfReach { address: beyond, bits: 28, tries: 4 })
        );
        assert_eq!(defect(&[segment(u64::MAX - 0xfff, 0x1000)], 0x1000, &DmaOptions::new(), 4), None);
    }

    #[test]
    fn what_must_be_contiguous_is_one_segment() {
        let options = DmaOptions::new().contiguous(true);
        assert_eq!(defect(&[segment(0xf000, 0x2000)], 0x1800, &options, 1), None);
        let broken = [segment(0xf000, 0x1000), segment(0x1000, 0x3000)];
        let refused = Some(Error::NotContiguous { needed: 0x4000, largest: 0x3000 });
        assert_eq!(defect(&broken, 0x4000, &options, 1), refused);
        assert_eq!(defect(&broken, 0x1000, &options, 1), None, "the rest is not asked for");
        assert_eq!(defect(&broken, 0x4000, &DmaOptions::new(), 1), None);
    }
}
