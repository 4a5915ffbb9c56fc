//! What memory for a device has to be like.
#![forbid(unsafe_code)]

use sys::PageSize;

use crate::{Error, Result};

/// What memory for a device has to be like.
///
/// ```
/// use ioasis::{DmaOptions, PageSize};
/// let options = DmaOptions::new().mask_bits(28).boundary(0x1_0000);
/// let large = DmaOptions::new().page_size(PageSize::Huge2M).contiguous(true);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaOptions {
    pub(super) mask_bits: u8,
    pub(super) page_size: PageSize,
    pub(super) boundary: Option<u64>,
    pub(super) contiguous: bool,
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

    /// The boundary, or `other` if there is none.
    pub(super) fn boundary_or(&self, other: u64) -> u64 {
        self.boundary.unwrap_or(other)
    }

    /// The highest address that the device can name.
    pub(super) fn highest(&self) -> u64 {
        u64::MAX >> (64 - u32::from(self.mask_bits))
    }

    /// Whether memory of that length can be like this.
    pub(super) fn check(&self, length: usize) -> Result<()> {
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
