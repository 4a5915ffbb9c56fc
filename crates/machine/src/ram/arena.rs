//! Machine RAM: one large sparse mapping, and who holds which of its frames.
//!
//! A frame is held by the program that was given it and by every pin. It goes back, emptied, when nobody holds it any
//! more: so a program can give up memory that a device still uses, and nobody else gets it meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use sys::Memory;

use super::access::FramePointer;
use super::spans::Spans;
use super::{FRAME, HUGE_FRAMES, RamError};
use crate::lock::lock;

/// A sparse memfd, mapped for as long as this lives.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<u8>,
    frames: u64,
    state: Mutex<State>,
}

// SAFETY: `base` is the start of a mapping that belongs to this value and is not tied to a thread; it is constant, and
// everything else is behind a lock.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

#[derive(Debug)]
struct State {
    /// Frames that nobody holds, all of them zero: first frame to end.
    free: BTreeMap<u64, u64>,
    /// Frames that the program was given and has not given back, by first frame.
    given: BTreeMap<u64, Given>,
    /// Frames of them whose address the program knows.
    told: Spans<()>,
    /// How many hold a frame.
    holders: Spans<u32>,
}

/// Frames that the program was given in one piece.
#[derive(Clone, Copy, Debug)]
struct Given {
    end: u64,
    /// Whether they are in huge pages.
    huge: bool,
}

/// What a program that knows the address of a frame may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it does not know the address, or has given the memory back.
    Not,
    /// Nothing either: the kernel moves base pages as it likes.
    Movable,
    /// The address, which huge pages keep: of all these frames.
    Fixed(Range<u64>),
}

impl Arena {
    /// Maps `frames` frames, aligned to 2 MiB.
    pub(super) fn new(frames: u64) -> Result<Self, RamError> {
        let bytes = frames * FRAME;
        let refused = |call| move |error| RamError::Host { call, bytes, error };
        let file = memfd_create("machine-ram", MemfdFlags::CLOEXEC).map_err(refused("memfd_create"))?;
        ftruncate(&file, bytes).map_err(refused("ftruncate"))?;

        let length = bytes as usize;
        let huge = (HUGE_FRAMES * FRAME) as usize;
        let base = reserve(length, huge).map_err(refused("mmap"))?;
        // From here on the mapping is given back by `drop`.
        let state = State {
            free: BTreeMap::from([(0, frames)]),
            given: BTreeMap::new(),
            told: Spans::new(),
            holders: Spans::new(),
        };
        let arena = Arena { base, frames, state: Mutex::new(state) };
        // SAFETY: the range was reserved just now and nobody else knows of it.
        unsafe {
            mm::mmap(
                base.as_ptr().cast(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED,
                &file,
                0,
            )
        }
        .map_err(refused("mmap"))?;
        // SAFETY: within the mapping; populating changes no content.
        unsafe { mm::madvise(base.as_ptr().cast(), FRAME as usize, Advice::LinuxPopulateRead) }
            .map_err(refused("madvise(MADV_POPULATE_READ), which needs Linux 5.14,"))?;
        Ok(arena)
    }

    /// The bytes of a frame; `None` if it is not one of these.
    #[inline]
    pub(super) fn frame(&self, frame: u64) -> Option<FramePointer<'_>> {
        // SAFETY: the mapping is aligned to frames, and is there, readable and writable, for as long as the arena lives.
        self.pointer(frame).map(|start| unsafe { FramePointer::new(start) })
    }

    #[inline]
    fn pointer(&self, frame: u64) -> Option<NonNull<u8>> {
        // SAFETY: the frame is within the mapping, so its offset is too.
        (frame < self.frames).then(|| unsafe { self.base.add((frame * FRAME) as usize) })
    }

    /// The frame that contains a virtual address.
    pub(super) fn frame_of(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base.as_ptr() as u64)?;
        Some(offset / FRAME).filter(|&frame| frame < self.frames)
    }

    /// The virtual addresses that are its own.
    pub(super) fn addresses(&self) -> Range<u64> {
        let base = self.base.as_ptr() as u64;
        base..base + self.frames * FRAME
    }

    /// Memory of `frames` frames for the program, zeroed, from the first of `choices` that has them in one piece,
    /// aligned to `align` frames, in huge pages or not.
    pub(super) fn allocate(
        self: &Arc<Self>,
        frames: u64,
        (align, huge): (u64, bool),
        choices: impl Iterator<Item = Range<u64>>,
    ) -> Option<Memory> {
        let first = self.give(frames, (align, huge), choices)?;
        let start = self.pointer(first)?;
        let arena = Arc::clone(self);
        // SAFETY: the frames are mapped for as long as the closure holds the arena, and were given to nobody else. The
        // machine itself reaches them through raw pointers only.
        Some(unsafe {
            Memory::from_raw(start, (frames * FRAME) as usize, move |_, _| arena.take_back(first))
        })
    }

    /// Gives frames to the program, until [`Arena::take_back`].
    fn give(
        &self,
        frames: u64,
        (align, huge): (u64, bool),
        mut choices: impl Iterator<Item = Range<u64>>,
    ) -> Option<u64> {
        let mut state = lock(&self.state);
        let first = choices.find_map(|choice| state.find_free(frames, align, &choice))?;
        state.take_free(first..first + frames);
        state.given.insert(first, Given { end: first + frames, huge });
        state.hold(first..first + frames);
        Some(first)
    }

    /// The program gives back what starts at `first`.
    fn take_back(&self, first: u64) {
        let mut state = lock(&self.state);
        if let Some(Given { end, .. }) = state.given.remove(&first) {
            state.told.update(first..end, |_, _| None);
            self.let_go(&mut state, first..end);
        }
    }

    /// Holds frames that the program has; false if it does not have all of them.
    pub(super) fn pin(&self, frames: Range<u64>) -> bool {
        let mut state = lock(&self.state);
        let given = state.is_given(&frames);
        if given {
            state.hold(frames);
        }
        given
    }

    /// Holds frames no longer.
    pub(super) fn unpin(&self, frames: Range<u64>) {
        self.let_go(&mut lock(&self.state), frames);
    }

    /// Whether the program has a frame.
    pub(super) fn is_given(&self, frame: u64) -> bool {
        lock(&self.state).is_given(&(frame..frame + 1))
    }

    /// The program learns the address of a frame that it has; whether it has it.
    pub(super) fn tell(&self, frame: u64) -> bool {
        let mut state = lock(&self.state);
        let given = state.is_given(&(frame..frame + 1));
        if given {
            state.told.update(frame..frame + 1, |_, _| Some(()));
        }
        given
    }

    /// What the program knows of a frame.
    pub(super) fn known(&self, frame: u64) -> Known {
        let state = lock(&self.state);
        let (Some((told, ())), Some((&first, given))) =
            (state.told.get(frame), state.given.range(..=frame).next_back())
        else {
            return Known::Not;
        };
        match given.huge {
            true => Known::Fixed(told.start.max(first)..told.end.min(given.end)),
            false => Known::Movable,
        }
    }

    /// How many pins hold a frame.
    pub(super) fn pins(&self, frame: u64) -> u64 {
        let state = lock(&self.state);
        let holders = state.holders.get(frame).map_or(0, |(_, holders)| u64::from(holders));
        // The program is one of them.
        holders - u64::from(state.is_given(&(frame..frame + 1)))
    }

    /// Whether anybody holds a frame.
    pub(super) fn is_held(&self, frame: u64) -> bool {
        lock(&self.state).holders.get(frame).is_some()
    }

    fn let_go(&self, state: &mut State, frames: Range<u64>) {
        let mut idle = Vec::new();
        state.holders.update(frames, |piece, holders| {
            let left = holders.unwrap_or(0).saturating_sub(1);
            if left == 0 && holders.is_some() {
                idle.push(piece);
            }
            (left > 0).then_some(left)
        });
        for piece in idle {
            if self.empty(&piece) {
                state.add_free(piece);
            }
        }
    }

    /// Gives the memory of frames back to the host: they read as zeroes then. If the host fails to (it has no reason
    /// to), the frames are not used again.
    fn empty(&self, frames: &Range<u64>) -> bool {
        let length = ((frames.end - frames.start) * FRAME) as usize;
        let Some(start) = self.pointer(frames.start) else { return false };
        // SAFETY: the range is within the mapping, and nobody holds it: no one relies on its content.
        unsafe { mm::madvise(start.as_ptr().cast(), length, Advice::LinuxRemove) }.is_ok()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own; pieces of it that were given away keep the machine's memory, and so
        // this value, alive.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), (self.frames * FRAME) as usize) };
        debug_assert!(unmapped.is_ok(), "the range was mapped by `new`");
    }
}

impl State {
    fn find_free(&self, frames: u64, align: u64, within: &Range<u64>) -> Option<u64> {
        let before = self.free.range(..within.start).next_back();
        before.into_iter().chain(self.free.range(within.clone())).find_map(|(&start, &end)| {
            let first = start.max(within.start).next_multiple_of(align);
            (first.checked_add(frames)? <= end.min(within.end)).then_some(first)
        })
    }

    /// Takes frames that lie within one free piece.
    fn take_free(&mut self, frames: Range<u64>) {
        if let Some((&start, &end)) = self.free.range(..=frames.start).next_back() {
            self.free.remove(&start);
            if start < frames.start {
                self.free.insert(start, frames.start);
            }
            if frames.end < end {
                self.free.insert(frames.end, end);
            }
        }
    }

    fn add_free(&mut self, frames: Range<u64>) {
        let Range { mut start, mut end } = frames;
        if let Some((&before, &before_end)) = self.free.range(..start).next_back()
            && before_end == start
        {
            start = before;
        }
        if let Some(next_end) = self.free.remove(&end) {
            end = next_end;
        }
        self.free.insert(start, end);
    }

    fn hold(&mut self, frames: Range<u64>) {
        self.holders.update(frames, |_, holders| Some(holders.map_or(1, |holders| holders + 1)));
    }

    /// Whether the program has all of these frames, in however many pieces it was given them.
    fn is_given(&self, frames: &Range<u64>) -> bool {
        let mut at = frames.start;
        while at < frames.end {
            match self.given.range(..=at).next_back() {
                Some((_, given)) if at < given.end => at = given.end,
                _ => return false,
            }
        }
        true
    }
}

/// Reserves addresses, aligned to a power of two.
fn reserve(length: usize, align: usize) -> rustix::io::Result<NonNull<u8>> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address that the host picks disturbs nobody.
    let start =
        unsafe { mm::mmap_anonymous(std::ptr::null_mut(), length + align, ProtFlags::empty(), flags) }?
            .cast::<u8>();
    let before = start.align_offset(align);
    // SAFETY: the parts in front of the aligned range and behind it belong to the reservation made above, and nobody
    // knows of them.
    unsafe {
        if before > 0 {
            mm::munmap(start.cast(), before)?;
        }
        mm::munmap(start.wrapping_add(before + length).cast(), align - before)?;
    }
    NonNull::new(start.wrapping_add(before)).ok_or(rustix::io::Errno::NOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        Arena::new(4096).expect("16 MiB")
    }

    fn everywhere(arena: &Arena) -> impl Iterator<Item = Range<u64>> + use<> {
        std::iter::once(0..arena.frames)
    }

    #[test]
    fn a_frame_is_reused_only_when_nobody_holds_it() {
        let arena = arena();
        let first = arena.give(4, (1, false), everywhere(&arena)).expect("room");
        assert!(arena.pin(first + 1..first + 3));
        arena.take_back(first);
        assert!(!arena.pin(first + 1..first + 2), "it is no longer the program's");

        // Everything but the two pinned frames can be had.
        let before =
            arena.give(first + 1, (1, false), std::iter::once(0..first + 1)).expect("the frame in front");
        let behind = arena.give(4096 - first - 3, (1, false), everywhere(&arena)).expect("those behind");
        assert_eq!((before, behind), (0, first + 3));
        assert_eq!(arena.give(1, (1, false), everywhere(&arena)), None);

        arena.unpin(first + 2..first + 3);
        assert_eq!(arena.give(1, (1, false), everywhere(&arena)), Some(first + 2));
        assert_eq!(arena.give(1, (1, false), everywhere(&arena)), None);
        assert!(arena.is_held(first + 1) && !arena.is_given(first + 1));
    }

    #[test]
    fn free_pieces_grow_together() {
        let arena = arena();
        let pieces: Vec<_> =
            (0..4).map(|_| arena.give(1024, (1, false), everywhere(&arena)).expect("room")).collect();
        for at in [2, 0, 3, 1] {
            arena.take_back(pieces[at]);
        }
        assert_eq!(arena.give(4096, (512, false), everywhere(&arena)), Some(0));
    }

    #[test]
    fn what_was_used_comes_back_empty() {
        let arena = arena();
        let first = arena.give(2, (1, false), everywhere(&arena)).expect("room");
        let byte = arena.pointer(first).expect("a frame");
        // SAFETY: the frame was given to this test.
        unsafe { byte.write(7) };
        arena.take_back(first);
        assert_eq!(arena.give(2, (1, false), everywhere(&arena)), Some(first));
        // SAFETY: as above.
        assert_eq!(unsafe { byte.read() }, 0);
    }

    #[test]
    fn a_pin_may_span_several_pieces() {
        let arena = arena();
        let first = arena.give(2, (1, false), everywhere(&arena)).expect("room");
        assert_eq!(arena.give(2, (1, false), everywhere(&arena)), Some(first + 2));
        assert!(arena.pin(first + 1..first + 3));
        assert!(!arena.pin(first + 3..first + 5));
    }

    #[test]
    fn what_is_known_of_a_frame_holds_only_in_huge_pages_and_until_they_are_given_back() {
        let arena = arena();
        let small = arena.give(2, (1, false), everywhere(&arena)).expect("room");
        let huge = arena.give(512, (512, true), everywhere(&arena)).expect("room");
        assert_eq!(arena.known(huge), Known::Not);
        assert!(arena.tell(small) && arena.tell(huge) && arena.tell(huge + 1) && !arena.tell(small + 2));
        assert_eq!(arena.known(small), Known::Movable);
        assert_eq!(arena.known(huge + 1), Known::Fixed(huge..huge + 2));
        assert_eq!(arena.known(huge + 2), Known::Not);
        arena.take_back(huge);
        assert_eq!(arena.known(huge), Known::Not);
        assert_eq!(arena.give(512, (512, true), everywhere(&arena)), Some(huge));
        assert_eq!(arena.known(huge), Known::Not, "whoever has it next has not asked");
    }
}
