//! A piece of memory that the driver and the device share.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use sys::Sys;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::access::Window;
use super::addresses::{Addresses, Segment};
use super::pinned::Pinned;
use crate::{DeviceAddr, UserVa};

/// A piece of memory that the driver and the device share.
///
/// It is zeroed at first. The device can change the bytes at any time, so there is no reference to them: they are
/// copied in and out, or read and written as little-endian words. Bytes that are copied while the device writes them may
/// be old, new or mixed; a driver learns from the device (by a word that it reads with `Acquire`, a register, an
/// interrupt) when a transfer is over.
///
/// Cloning and [`slice`](DmaBuffer::slice) give more handles on the same memory. With the last one it is taken from the
/// device and then freed. Behind an IOMMU a device that still writes to it then meets a fault. **Without an IOMMU nothing
/// stops the device**: drop the last handle only after the device has said that it is done, or after
/// [`Device::set_bus_master`](crate::Device::set_bus_master)`(false)`. On an embedded machine such a write is a finding.
pub struct DmaBuffer<S: Sys> {
    backing: Arc<Backing<S>>,
    start: usize,
    length: usize,
}

struct Backing<S: Sys> {
    pinned: Pinned<S>,
    addresses: Addresses,
}

impl<S: Sys> Clone for DmaBuffer<S> {
    fn clone(&self) -> Self {
        DmaBuffer { backing: self.backing.clone(), start: self.start, length: self.length }
    }
}

macro_rules! words {
    ($($read:ident, $acquire:ident, $write:ident, $release:ident, $type:ident;)*) => {$(
        #[doc = concat!("Reads a little-endian `", stringify!($type), "` at `offset` bytes, in one load.")]
        ///
        /// # Panics
        ///
        /// Past the end or unaligned.
        #[inline]
        #[must_use]
        pub fn $read(&self, offset: usize) -> $type {
            self.window().$read(offset)
        }

        #[doc = concat!("Reads a little-endian `", stringify!($type), "`; what the device wrote before it is seen from now on.")]
        ///
        /// # Panics
        ///
        /// Past the end or unaligned.
        #[inline]
        #[must_use]
        pub fn $acquire(&self, offset: usize) -> $type {
            self.window().$acquire(offset)
        }

        #[doc = concat!("Writes a little-endian `", stringify!($type), "` at `offset` bytes, in one store.")]
        ///
        /// # Panics
        ///
        /// Past the end or unaligned.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            self.window().$write(offset, value);
        }

        #[doc = concat!("Writes a little-endian `", stringify!($type), "`; who reads it sees all that was written before.")]
        ///
        /// # Panics
        ///
        /// Past the end or unaligned.
        #[inline]
        pub fn $release(&self, offset: usize, value: $type) {
            self.window().$release(offset, value);
        }
    )*};
}

impl<S: Sys> DmaBuffer<S> {
    /// Takes over mapped memory of at least `length` bytes with its addresses.
    pub(super) fn new(pinned: Pinned<S>, addresses: Addresses, length: usize) -> Self {
        DmaBuffer { backing: Arc::new(Backing { pinned, addresses }), start: 0, length }
    }

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no byte, as an empty slice has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Another handle on a part of it.
    ///
    /// # Panics
    ///
    /// If the range is not within it, as with slices.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "bytes {range:?} of a DMA buffer of {} bytes",
            self.length
        );
        DmaBuffer { backing: self.backing.clone(), start: self.start + range.start, length: range.len() }
    }

    /// The device address of the byte at `offset`, and for how many bytes of this buffer it goes on without a break.
    /// A look-up in a table: quick enough for each page of each transfer.
    ///
    /// # Panics
    ///
    /// If `offset` is not within it.
    #[inline]
    #[must_use]
    pub fn address_at(&self, offset: usize) -> (DeviceAddr, usize) {
        assert!(offset < self.length, "byte {offset} of a DMA buffer of {} bytes", self.length);
        let (address, run) = self.backing.addresses.at(self.start + offset);
        (address, run.min(self.length - offset))
    }

    /// The pieces that are contiguous for the device, in order: as many as the memory really has.
    #[must_use]
    pub fn segments(&self) -> Segments<'_, S> {
        Segments { buffer: self, offset: 0 }
    }

    /// The length in bytes of the longest piece that is contiguous for the device.
    #[must_use]
    pub fn largest_contiguous(&self) -> usize {
        self.segments().map(|segment| segment.length).max().unwrap_or(0)
    }

    /// Where it is in this process, for calls of one's own.
    #[must_use]
    pub fn user_address(&self) -> UserVa {
        UserVa::new((self.backing.pinned.memory.start().as_ptr() as usize + self.start) as u64)
    }

    /// Where it is in this process. The bytes are shared with the device: no reference to them may be made.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.backing.pinned.memory.start().as_ptr().wrapping_add(self.start)
    }

    /// Copies bytes out.
    ///
    /// # Panics
    ///
    /// Past the end.
    #[inline]
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) {
        self.window().read(offset, bytes);
    }

    /// Copies bytes in.
    ///
    /// # Panics
    ///
    /// Past the end.
    #[inline]
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        self.window().write(offset, bytes);
    }

    /// Copies a structure out.
    ///
    /// # Panics
    ///
    /// Past the end.
    #[inline]
    #[must_use]
    pub fn read_as<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.read_at(offset, value.as_mut_bytes());
        value
    }

    /// Copies a structure in.
    ///
    /// # Panics
    ///
    /// Past the end.
    #[inline]
    pub fn write_from<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.write_at(offset, value.as_bytes());
    }

    /// Sets each byte to `value`.
    pub fn fill(&self, value: u8) {
        self.window().fill(value);
    }

    words! {
        read_u8, read_u8_acquire, write_u8, write_u8_release, u8;
        read_u16, read_u16_acquire, write_u16, write_u16_release, u16;
        read_u32, read_u32_acquire, write_u32, write_u32_release, u32;
        read_u64, read_u64_acquire, write_u64, write_u64_release, u64;
    }

    #[inline]
    fn window(&self) -> Window<'_> {
        Window::new(&self.backing.pinned.memory, self.start, self.length)
    }
}

impl<S: Sys> fmt::Debug for DmaBuffer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuffer({} bytes in {} segments)", self.length, self.segments().count())
    }
}

/// The segments of a [`DmaBuffer`], in order.
pub struct Segments<'a, S: Sys> {
    buffer: &'a DmaBuffer<S>,
    offset: usize,
}

impl<S: Sys> Iterator for Segments<'_, S> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.offset >= self.buffer.len() {
            return None;
        }
        let (address, length) = self.buffer.address_at(self.offset);
        self.offset += length;
        Some(Segment { address, length })
    }
}
