//! Where frames are mapped.
#![forbid(unsafe_code)]

use std::ptr::{self, NonNull, null_mut};
use std::sync::OnceLock;

use crate::sync::atomic::{AtomicPtr, Ordering};

/// Frames in a chunk of the table.
const CHUNK: u64 = 512;

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is not in use.
    Nowhere,
    /// It is being moved: it will be somewhere soon.
    Moving,
    /// Mapped at an address.
    At(NonNull<u8>),
    /// In another process.
    Elsewhere,
}

/// What the table has for a frame that is being moved: no address of a page.
const MOVING: *mut u8 = ptr::without_provenance_mut(1);
/// And for one in another process.
const ELSEWHERE: *mut u8 = ptr::without_provenance_mut(2);

/// The place of each frame, by number. It is looked up without a lock, and grows by chunks.
#[derive(Debug)]
pub(super) struct Table(Box<[OnceLock<Chunk>]>);

type Chunk = Box<[AtomicPtr<u8>]>;

impl Table {
    /// For so many frames, none of which is in use.
    pub(super) fn new(frames: u64) -> Self {
        Table((0..frames.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect())
    }

    /// Where a frame is. An access that got to know it before it was moved goes on with the old address: whoever moves it waits
    /// for those.
    #[inline]
    pub(super) fn get(&self, frame: u64) -> Place {
        let chunk = self.0.get((frame / CHUNK) as usize).and_then(OnceLock::get);
        let start = chunk.and_then(|chunk| chunk.get((frame % CHUNK) as usize));
        match start.and_then(|start| NonNull::new(start.load(Ordering::Acquire))) {
            None => Place::Nowhere,
            Some(start) if start.as_ptr() == MOVING => Place::Moving,
            Some(start) if start.as_ptr() == ELSEWHERE => Place::Elsewhere,
            Some(start) => Place::At(start),
        }
    }

    /// Says where a frame is from now on.
    ///
    /// # Panics
    ///
    /// If the table has no such frame.
    pub(super) fn set(&self, frame: u64, place: Place) {
        let chunk = self.0[(frame / CHUNK) as usize]
            .get_or_init(|| (0..CHUNK).map(|_| AtomicPtr::new(null_mut())).collect());
        let start = match place {
            Place::Nowhere => null_mut(),
            Place::Moving => MOVING,
            Place::Elsewhere => ELSEWHERE,
            Place::At(start) => start.as_ptr(),
        };
        chunk[(frame % CHUNK) as usize].store(start, Ordering::Release);
    }
}
