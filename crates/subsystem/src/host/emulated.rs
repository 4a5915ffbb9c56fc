//! Devices that a driver of the host emulates, such as mediated ones (`vfio_register_emulated_iommu_dev`).

use super::{Function, Mapping, Memory};

/// Bytes that a driver copies out of a user's memory, or into it.
#[derive(Debug)]
pub enum Transfer<'a> {
    /// They are read from memory.
    Read(&'a mut [u8]),
    /// They are written to it.
    Write(&'a [u8]),
}

impl Transfer<'_> {
    /// How many they are.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Transfer::Read(bytes) => bytes.len(),
            Transfer::Write(bytes) => bytes.len(),
        }
    }

    /// Whether memory is written.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self, Transfer::Write(_))
    }

    /// Those from `start` on, `length` of them or as many as there are.
    pub(crate) fn part(&mut self, start: usize, length: usize) -> Transfer<'_> {
        let end = start.saturating_add(length).min(self.length());
        match self {
            Transfer::Read(bytes) => Transfer::Read(bytes.get_mut(start..end).unwrap_or_default()),
            Transfer::Write(bytes) => Transfer::Write(bytes.get(start..end).unwrap_or_default()),
        }
    }
}

/// The drivers of emulated devices. These devices have no DMA of their own: what they reach of the user's memory, their
/// driver reaches for them, with [`Subsystem::pin_pages`](crate::Subsystem::pin_pages) and
/// [`Subsystem::transfer`](crate::Subsystem::transfer).
///
/// As all of the host, a driver never calls back from within these.
pub trait Emulated: Memory {
    /// The length in bytes of a region, by its index in VFIO; 0 if there is none.
    fn emulated_region(&self, function: Function, index: u32) -> u64;
    /// Reads 1, 2 or 4 bytes of a region, naturally aligned and in bounds.
    fn emulated_read(&self, function: Function, index: u32, offset: u64, width: u8) -> u32;
    /// Writes 1, 2 or 4 bytes of a region, naturally aligned and in bounds.
    fn emulated_write(&self, function: Function, index: u32, offset: u64, width: u8, value: u32);
    /// Resets the device: its registers are as at first. What is pinned stays so.
    fn emulated_reset(&self, function: Function);
    /// The driver may use pages that it asked for, from now on: they are told in the order of their IOVAs.
    fn pages_pinned(&self, function: Function, pages: &mut dyn Iterator<Item = Mapping<Self::Pin>>);
    /// The driver has no longer what it pinned from `first` to `last`; all of what was pinned with one call goes if any of it
    /// is in there. Returns when it is used no more: it is unpinned then.
    fn dma_unmap(&self, function: Function, first: u64, last: u64);
}
