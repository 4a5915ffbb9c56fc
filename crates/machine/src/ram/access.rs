//! Reading and writing a frame as a device does.
//!
//! The program has the same bytes mapped and may use them from other threads. Who may touch them when is settled
//! between driver and device (doorbells, phase bits), not by Rust's types. So no reference to such memory is ever made;
//! a word by which ownership passes is one atomic access; and a program that breaks the hand-over gets bytes of both sides,
//! as on hardware.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sys::guarded;

use super::FRAME;

/// The bytes of a frame that is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePointer<'a> {
    start: NonNull<u8>,
    /// Whether the machine has mapped it, for as long as it is a frame. Otherwise the program has, and may unmap it.
    is_kept: bool,
    mapped: std::marker::PhantomData<&'a ()>,
}

/// The program has taken away the memory of a frame. Some of the bytes may have been copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl<'a> FramePointer<'a> {
    /// The frame that starts here.
    ///
    /// # Safety
    ///
    /// `start` is aligned to a frame, and one frame from there is mapped for reading, and for writing if it is written
    /// to, as long as `'a`.
    pub(super) unsafe fn new(start: NonNull<u8>) -> Self {
        FramePointer { start, is_kept: true, mapped: std::marker::PhantomData }
    }

    /// The frame that starts here, in memory of the program.
    ///
    /// # Safety
    ///
    /// As for [`FramePointer::new`]; or faults are recovered from ([`sys::guarded`]).
    pub(super) unsafe fn of_program(start: NonNull<u8>) -> Self {
        FramePointer { start, is_kept: false, mapped: std::marker::PhantomData }
    }

    /// The address of `length` bytes at `offset`.
    ///
    /// # Panics
    ///
    /// If they are not within the frame.
    #[inline]
    fn bytes(self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= FRAME as usize),
            "an access within one frame"
        );
        // SAFETY: within the frame, or just past its end.
        unsafe { self.start.add(offset) }
    }

    /// Copies from the frame.
    #[inline]
    pub(crate) fn read(self, offset: usize, bytes: &mut [u8]) -> Result<(), Gone> {
        let source = self.bytes(offset, bytes.len());
        if self.is_kept {
            // SAFETY: `bytes()` has shown that the source lies within the mapped frame, to which no reference is ever made.
            unsafe { sys::shared::read(source, bytes) };
            return Ok(());
        }
        // SAFETY: likewise; or a fault is recovered from.
        unsafe { guarded::read(source.as_ptr().expose_provenance() as u64, bytes) }.map_err(|_| Gone)
    }

    /// Copies to the frame.
    #[inline]
    pub(crate) fn write(self, offset: usize, bytes: &[u8]) -> Result<(), Gone> {
        let target = self.bytes(offset, bytes.len());
        if self.is_kept {
            // SAFETY: as in `read`, the other way round.
            unsafe { sys::shared::write(target, bytes) };
            return Ok(());
        }
        // SAFETY: likewise.
        unsafe { guarded::write(target.as_ptr().expose_provenance() as u64, bytes) }.map_err(|_| Gone)
    }
}

macro_rules! words {
    ($($load:ident, $store:ident, $type:ty, $atomic:ty;)*) => {
        impl FramePointer<'_> {$(
            /// One load of a little-endian word; what was written before it elsewhere is seen by later reads.
            ///
            /// # Panics
            ///
            /// If it is not aligned or not within the frame.
            #[inline]
            pub(crate) fn $load(self, offset: usize) -> Result<$type, Gone> {
                let word = self.bytes(offset, size_of::<$type>()).as_ptr().cast::<$type>();
                assert!(word.is_aligned(), "a word is aligned");
                let value = if self.is_kept {
                    // SAFETY: within the mapped frame and aligned, as just shown.
                    unsafe { <$atomic>::from_ptr(word) }.load(Ordering::Acquire)
                } else {
                    // SAFETY: likewise; or a fault is recovered from.
                    unsafe { guarded::$load(word) }.ok_or(Gone)?
                };
                Ok(<$type>::from_le(value))
            }

            /// One store of a little-endian word, seen after everything that was written before it.
            ///
            /// # Panics
            ///
            /// If it is not aligned or not within the frame.
            #[inline]
            pub(crate) fn $store(self, offset: usize, value: $type) -> Result<(), Gone> {
                let word = self.bytes(offset, size_of::<$type>()).as_ptr().cast::<$type>();
                assert!(word.is_aligned(), "a word is aligned");
                if self.is_kept {
                    // SAFETY: within the mapped frame and aligned, as just shown.
                    unsafe { <$atomic>::from_ptr(word) }.store(value.to_le(), Ordering::Release);
                    return Ok(());
                }
                // SAFETY: likewise; or a fault is recovered from.
                if unsafe { guarded::$store(word, value.to_le()) } { Ok(()) } else { Err(Gone) }
            }
        )*}
    };
}

words! {
    load_u32, store_u32, u32, AtomicU32;
    load_u64, store_u64, u64, AtomicU64;
}
