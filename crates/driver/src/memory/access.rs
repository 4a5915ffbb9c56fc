//! Loads and stores on memory that a device shares: raw pointers, bounds, and nothing else.
#![expect(unsafe_code, reason = "memory that a device changes is reached through raw pointers only")]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use sys::Memory;

/// A part of a [`Memory`], as long as that lives.
pub(super) struct Window<'a> {
    start: NonNull<u8>,
    length: usize,
    memory: PhantomData<&'a Memory>,
}

macro_rules! words {
    ($($read:ident, $acquire:ident, $write:ident, $release:ident, $type:ident, $atomic:ident;)*) => {$(
        #[inline]
        pub(super) fn $read(&self, offset: usize) -> $type {
            let word = self.word(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: `word` has shown that it lies within the memory, which lives as long as `self`, and is aligned. An
            // atomic may be read however many others, the device among them, write it.
            <$type>::from_le(unsafe { word.as_ref() }.load(Ordering::Relaxed))
        }

        #[inline]
        pub(super) fn $acquire(&self, offset: usize) -> $type {
            let word = self.word(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: as in the plain read.
            <$type>::from_le(unsafe { word.as_ref() }.load(Ordering::Acquire))
        }

        #[inline]
        pub(super) fn $write(&self, offset: usize, value: $type) {
            let word = self.word(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: as in the plain read; an atomic is written through a shared reference.
            unsafe { word.as_ref() }.store(value.to_le(), Ordering::Relaxed);
        }

        #[inline]
        pub(super) fn $release(&self, offset: usize, value: $type) {
            let word = self.word(offset, size_of::<$type>()).cast::<$atomic>();
            // SAFETY: as in the plain write.
            unsafe { word.as_ref() }.store(value.to_le(), Ordering::Release);
        }
    )*};
}

impl<'a> Window<'a> {
    /// Panics if the part is not within the memory.
    #[inline]
    pub(super) fn new(memory: &'a Memory, start: usize, length: usize) -> Self {
        let whole = memory.length();
        assert!(
            start <= whole && length <= whole - start,
            "{length} bytes at {start} of memory of {whole} bytes"
        );
        // SAFETY: `start` is within the mapping, or just past its end, as was asserted.
        let start = unsafe { memory.start().add(start) };
        Window { start, length, memory: PhantomData }
    }

    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.part(offset, bytes.len());
        // SAFETY: `part` has shown that the source lies within the memory, which lives as long as `self` and to which no
        // reference exists. The device, which on an embedded machine is a thread, may write it meanwhile.
        unsafe { sys::shared::read(from, bytes) };
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.part(offset, bytes.len());
        // SAFETY: as in `read`, the other way round.
        unsafe { sys::shared::write(to, bytes) };
    }

    pub(super) fn fill(&self, value: u8) {
        // SAFETY: the window lies within the memory, which lives as long as `self`, and no reference to it exists.
        unsafe { sys::shared::fill(self.start, self.length, value) };
    }

    words! {
        read_u8, read_u8_acquire, write_u8, write_u8_release, u8, AtomicU8;
        read_u16, read_u16_acquire, write_u16, write_u16_release, u16, AtomicU16;
        read_u32, read_u32_acquire, write_u32, write_u32_release, u32, AtomicU32;
        read_u64, read_u64_acquire, write_u64, write_u64_release, u64, AtomicU64;
    }

    /// Where `length` bytes at `offset` are. Panics if they are not all within the window.
    #[inline]
    fn part(&self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(
            offset <= self.length && length <= self.length - offset,
            "{length} bytes at {offset} of a DMA buffer of {} bytes",
            self.length
        );
        // SAFETY: the offset is within the window, or just past its end, as was asserted.
        unsafe { self.start.add(offset) }
    }

    /// The same, aligned to its length.
    #[inline]
    fn word(&self, offset: usize, length: usize) -> NonNull<u8> {
        let word = self.part(offset, length);
        assert!(
            word.as_ptr().addr().is_multiple_of(length),
            "{length}-byte word at {offset} of a DMA buffer is unaligned"
        );
        word
    }
}
