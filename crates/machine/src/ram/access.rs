//! Reading and writing a frame as a device does.
//!
//! The program has the same bytes mapped and may use them from other threads. Who may touch them when is settled
//! between driver and device (doorbells, phase bits), not by Rust's types. So no reference to such memory is ever made;
//! a word by which ownership passes is one atomic access; and a program that breaks the hand-over gets bytes of both sides,
//! as on hardware.
//!
//! A frame may be a page of another process, for which the machine is kept. The kernel copies then, a word in one piece.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use subsystem::UserMemory as _;
use sys::guarded;

use super::FRAME;
use crate::process::OtherProcess;

/// The bytes of a frame that is mapped.
#[derive(Clone, Debug)]
pub(crate) struct FramePointer<'a> {
    start: Start,
    mapped: PhantomData<&'a ()>,
}

/// Where a frame starts.
#[derive(Clone, Debug)]
enum Start {
    /// The machine has mapped it, for as long as it is a frame.
    Kept(NonNull<u8>),
    /// The program has, and may unmap it.
    OfProgram(NonNull<u8>),
    /// At an address of another process.
    There(Arc<OtherProcess>, u64),
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
        FramePointer { start: Start::Kept(start), mapped: PhantomData }
    }

    /// The frame that starts here, in memory of the program.
    ///
    /// # Safety
    ///
    /// As for [`FramePointer::new`]; or faults are recovered from ([`sys::guarded`]).
    pub(super) unsafe fn of_program(start: NonNull<u8>) -> Self {
        FramePointer { start: Start::OfProgram(start), mapped: PhantomData }
    }

    /// The frame that is a page of another process.
    pub(super) fn elsewhere(process: Arc<OtherProcess>, address: u64) -> Self {
        FramePointer { start: Start::There(process, address), mapped: PhantomData }
    }

    /// Copies from the frame.
    #[inline]
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Gone> {
        within(offset, bytes.len());
        match &self.start {
            // SAFETY: the source lies within the mapped frame, as just shown, and to that no reference is ever made.
            Start::Kept(start) => unsafe { sys::shared::read(start.add(offset), bytes) },
            Start::OfProgram(start) => {
                let source = start.as_ptr().expose_provenance() as u64 + offset as u64;
                // SAFETY: likewise; or a fault is recovered from.
                unsafe { guarded::read(source, bytes) }.map_err(|_| Gone)?;
            }
            Start::There(process, start) => process.read(start + offset as u64, bytes).map_err(|_| Gone)?,
        }
        Ok(())
    }

    /// Copies to the frame.
    #[inline]
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Gone> {
        within(offset, bytes.len());
        match &self.start {
            // SAFETY: as in `read`, the other way round.
            Start::Kept(start) => unsafe { sys::shared::write(start.add(offset), bytes) },
            Start::OfProgram(start) => {
                let target = start.as_ptr().expose_provenance() as u64 + offset as u64;
                // SAFETY: likewise.
                unsafe { guarded::write(target, bytes) }.map_err(|_| Gone)?;
            }
            Start::There(process, start) => process.write(start + offset as u64, bytes).map_err(|_| Gone)?,
        }
        Ok(())
    }
}

/// # Panics
///
/// If an access does not lie within one frame.
#[inline]
fn within(offset: usize, length: usize) {
    assert!(
        offset.checked_add(length).is_some_and(|end| end <= FRAME as usize),
        "an access within one frame"
    );
}

/// A word at an offset of a frame, which is within it.
///
/// # Panics
///
/// If it is not aligned.
#[inline]
fn word<T>(start: NonNull<u8>, offset: usize) -> *mut T {
    let word = start.as_ptr().wrapping_add(offset).cast::<T>();
    assert!(word.is_aligned(), "a word is aligned");
    word
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
            pub(crate) fn $load(&self, offset: usize) -> Result<$type, Gone> {
                within(offset, size_of::<$type>());
                let value = match &self.start {
                    // SAFETY: within the mapped frame and aligned, as just shown.
                    Start::Kept(start) => unsafe { <$atomic>::from_ptr(word(*start, offset)) }.load(Ordering::Acquire),
                    // SAFETY: likewise; or a fault is recovered from.
                    Start::OfProgram(start) => unsafe { guarded::$load(word(*start, offset)) }.ok_or(Gone)?,
                    Start::There(..) => {
                        let mut bytes = [0; size_of::<$type>()];
                        self.read(offset, &mut bytes)?;
                        <$type>::from_ne_bytes(bytes)
                    }
                };
                Ok(<$type>::from_le(value))
            }

            /// One store of a little-endian word, seen after everything that was written before it.
            ///
            /// # Panics
            ///
            /// If it is not aligned or not within the frame.
            #[inline]
            pub(crate) fn $store(&self, offset: usize, value: $type) -> Result<(), Gone> {
                within(offset, size_of::<$type>());
                let value = value.to_le();
                match &self.start {
                    // SAFETY: within the mapped frame and aligned, as just shown.
                    Start::Kept(start) => unsafe { <$atomic>::from_ptr(word(*start, offset)) }.store(value, Ordering::Release),
                    Start::OfProgram(start) => {
                        // SAFETY: likewise; or a fault is recovered from.
                        if !unsafe { guarded::$store(word(*start, offset), value) } {
                            return Err(Gone);
                        }
                    }
                    Start::There(..) => self.write(offset, &value.to_ne_bytes())?,
                }
                Ok(())
            }
        )*}
    };
}

words! {
    load_u32, store_u32, u32, AtomicU32;
    load_u64, store_u64, u64, AtomicU64;
}
