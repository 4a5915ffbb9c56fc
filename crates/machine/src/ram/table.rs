//! Where frames are mapped.
#![forbid(unsafe_code)]

use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;

use crate::sync::atomic::{AtomicPtr, Ordering};

/// Frames in a chunk of the table.
const CHUNK: u64 = 512;

/// An address for each frame that is in use, by number. It is looked up without a lock, and grows by chunks.
#[derive(Debug)]
pub(super) struct Table(Box<[OnceLock<Chunk>]>);

type Chunk = Box<[AtomicPtr<u8>]>;

impl Table {
    /// For so many frames, none of which is in use.
    pub(super) fn new(frames: u64) -> Self {
        Table((0..frames.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect())
    }

    /// Where a frame is mapped. An access that got to know it before it was moved goes on with the old address: whoever moves
    /// it waits for those.
    #[inline]
    pub(super) fn get(&self, frame: u64) -> Option<NonNull<u8>> {
        let chunk = self.0.get((frame / CHUNK) as usize)?.get()?;
        NonNull::new(chunk.get((frame % CHUNK) as usize)?.load(Ordering::Acquire))
    }

    /// Says where a frame is mapped from now on.
    ///
    /// # Panics
    ///
    /// If the table has no such frame.
    pub(super) fn set(&self, frame: u64, start: Option<NonNull<u8>>) {
        let chunk = self.0[(frame / CHUNK) as usize]
            .get_or_init(|| (0..CHUNK).map(|_| AtomicPtr::new(null_mut())).collect());
        let start = start.map_or(null_mut(), NonNull::as_ptr);
        chunk[(frame % CHUNK) as usize].store(start, Ordering::Release);
    }
}
