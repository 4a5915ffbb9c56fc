//! The address space of a device: where its memory comes from.
#![forbid(unsafe_code)]

use std::sync::Arc;

use sys::{Memory, MemoryOptions, PageSize, Sys};

use super::addresses::{Addresses, Segment, cut};
use super::addressing::Addressing;
use super::buffer::DmaBuffer;
use crate::calls::Calls;
use crate::error::Attempt;
use crate::{DeviceAddr, Error, Iova, Mode, Result};

/// How many times memory is allocated and looked at before the wish is given up. Each time the kernel has to hand out
/// other pages, since the ones before are still held.
const TRIES: u32 = 4;

/// What memory for a device has to be like.
///
/// ```
/// use ioasis::{DmaOptions, PageSize};
/// let options = DmaOptions::new().mask_bits(28).boundary(0x1_0000);
/// let large = DmaOptions::new().page_size(PageSize::Huge2M).contiguous(true);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaOptions {
    mask_bits: u8,
    page_size: PageSize,
    boundary: Option<u64>,
    contiguous: bool,
}

impl Default for DmaOptions {
    fn default() -> Self {
        DmaOptions::new()
    }
}

impl DmaOptions {
    /// Any address, base pages, segments as they come.
    #[must_use]
    pub const fn new() -> Self {
        DmaOptions { mask_bits: 64, page_size: PageSize::Base, boundary: None, contiguous: false }
    }

    /// How many address bits the device has: no byte lies at a device address of more. 64 if not set.
    #[must_use]
    pub const fn mask_bits(mut self, bits: u8) -> Self {
        self.mask_bits = bits;
        self
    }

    /// The pages that the memory is made of. In the modes `group-noiommu` and `uio` it is made of huge pages whatever is
    /// said here: nothing pins it there, and the kernel may move base pages.
    #[must_use]
    pub const fn page_size(mut self, size: PageSize) -> Self {
        self.page_size = size;
        self
    }

    /// No segment crosses a device address that is a multiple of `bytes`: a power of two from 4096 on. Segments are cut
    /// there.
    #[must_use]
    pub const fn boundary(mut self, bytes: u64) -> Self {
        self.boundary = Some(bytes);
        self
    }

    /// Whether all of it must be one segment.
    #[must_use]
    pub const fn contiguous(mut self, contiguous: bool) -> Self {
        self.contiguous = contiguous;
        self
    }

    /// How many address bits the device has.
    pub(super) fn bits(&self) -> u8 {
        self.mask_bits
    }

    /// The boundary, or `other` if there is none.
    pub(super) fn boundary_or(&self, other: u64) -> u64 {
        self.boundary.unwrap_or(other)
    }

    /// The highest address that the device can name.
    pub(super) fn highest(&self) -> u64 {
        u64::MAX >> (64 - u32::from(self.mask_bits))
    }

    fn check(&self, length: usize) -> Result<()> {
        let wrong = if length == 0 {
            "memory of 0 bytes was asked for".to_owned()
        } else if !(12..=64).contains(&self.mask_bits) {
            format!("a DMA mask of {} bits was asked for; 12 to 64 make sense", self.mask_bits)
        } else if self.boundary.is_some_and(|bytes| !bytes.is_power_of_two() || bytes < 4096) {
            "the boundary of segments must be a power of two from 4096 on".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Argument(wrong))
    }
}

/// The address space of a device: the memory that it, and in IOMMUFD each other device attached to it, is given.
///
/// Cloning gives another handle on the same one. It goes when the last handle and the last [`DmaBuffer`] are gone.
pub struct AddressSpace<S: Sys>(Arc<Space<S>>);

impl<S: Sys> Clone for AddressSpace<S> {
    fn clone(&self) -> Self {
        AddressSpace(self.0.clone())
    }
}

struct Space<S: Sys> {
    calls: Calls<S>,
    mode: Mode,
    addressing: Addressing<S>,
}

impl<S: Sys> AddressSpace<S> {
    pub(crate) fn new(calls: &Calls<S>, mode: Mode, addressing: Addressing<S>) -> Self {
        AddressSpace(Arc::new(Space { calls: calls.clone(), mode, addressing }))
    }

    /// The identifier of its IOAS in the context of IOMMUFD, for calls of one's own. 0, which is no identifier, in the modes
    /// that do without IOMMUFD.
    #[must_use]
    pub fn id(&self) -> u32 {
        match &self.0.addressing {
            Addressing::Ioas(ioas) => ioas.id(),
            Addressing::Container(_) | Addressing::Pagemap(_) => 0,
        }
    }

    /// Whether device addresses are IOVAs (`true`) or physical addresses (`false`).
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        self.0.mode.has_iommu()
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
        let space = &self.0;
        let highest = if self.has_iommu() { u64::MAX } else { options.highest() };
        let page_size = space.addressing.page_size(options.page_size);
        let memory = space
            .calls
            .allocate(&MemoryOptions { length, page_size, highest })
            .attempt(|| format!("cannot allocate {length} bytes for the device in mode {}", space.mode))?;
        let iova = space.addressing.map(&memory, options)?;
        let pinned = Pinned { space: space.clone(), iova, memory };
        let segments = space.addressing.segments(&pinned.memory, iova)?;
        Ok((pinned, segments))
    }
}

/// Memory that the device was given. It is taken back, then freed.
pub(super) struct Pinned<S: Sys> {
    space: Arc<Space<S>>,
    iova: Iova,
    pub(super) memory: Memory,
}

impl<S: Sys> Drop for Pinned<S> {
    fn drop(&mut self) {
        self.space.addressing.unmap(self.iova, self.memory.length());
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
