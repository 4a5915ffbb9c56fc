//! Numbered places for values, in chunks that stay where they are.

use alloc::vec::Vec;

use super::{OutOfMemory, bits::Bits, bytes_of, reserve};
use crate::Alloc;

/// Numbered places for values; the lowest free place is taken first.
///
/// Places come in chunks of `N` (a power of two, at most 64). A chunk grows up to that step by step, so that even a small
/// container takes little more than its values do. A chunk that became empty gives its memory back, unless it is the one
/// that the next value goes to: that keeps a reservation valid, and spares a caller who inserts and removes in turn. The
/// directory of chunks never shrinks.
pub(super) struct Slots<T, const N: usize> {
    chunks: Vec<Chunk<T>>,
    /// The chunks with a free place, with memory or without.
    room: Bits,
    /// Whether there is memory behind the lowest free place. Removal keeps it that way.
    reserved: bool,
    len: usize,
}

struct Chunk<T> {
    /// Bit `n`: place `n` is taken.
    taken: u64,
    /// All places up to the highest that was ever taken; without capacity if the memory was given back.
    places: Vec<Option<T>>,
}

impl<T> Chunk<T> {
    /// Whether the next value would take memory.
    fn is_closed(&self) -> bool {
        self.taken.trailing_ones() as usize >= self.places.capacity()
    }
}

impl<T, const N: usize> Slots<T, N> {
    /// `taken` of a full chunk.
    const FULL: u64 = {
        assert!(N.is_power_of_two() && N <= 64, "a chunk has a power of two of places, at most 64");
        u64::MAX >> (64 - N)
    };

    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), room: Bits::new(), reserved: false, len: 0 }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes are held, those of the values included.
    pub(super) fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| bytes_of(&chunk.places)).sum();
        chunks.saturating_add(bytes_of(&self.chunks)).saturating_add(self.room.memory())
    }

    /// The chunk of a place, and the place within it.
    #[inline]
    fn split(index: u32) -> (usize, usize) {
        let index = index as usize;
        (index.wrapping_shr(N.ilog2()), index & (N.wrapping_sub(1)))
    }

    /// The number of a place in a chunk.
    fn index(chunk: usize, place: usize) -> Option<u32> {
        u32::try_from(chunk.checked_mul(N)?.checked_add(place)?).ok()
    }

    /// Where the next value goes; `None` if all places that a `u32` can name are taken.
    pub(super) fn lowest_free(&self) -> Option<u32> {
        let chunk = self.room.lowest().unwrap_or(self.chunks.len());
        let taken = self.chunks.get(chunk).map_or(0, |chunk| chunk.taken);
        Self::index(chunk, taken.trailing_ones() as usize)
    }

    /// Whether the next value takes no memory.
    pub(super) fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Makes room for one more value.
    #[inline]
    pub(super) fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        if self.reserved { Ok(()) } else { self.grow(alloc) }
    }

    fn grow(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        if self.lowest_free().is_none() {
            return Err(OutOfMemory);
        }
        if self.room.lowest().is_none() {
            self.room.reserve(alloc)?;
            reserve(&mut self.chunks, alloc, 1)?;
            self.room.push();
            self.chunks.push(Chunk { taken: 0, places: Vec::new() });
        }
        let at = self.room.lowest().ok_or(OutOfMemory)?;
        let chunk = self.chunks.get_mut(at).ok_or(OutOfMemory)?;
        if chunk.is_closed() {
            let held = chunk.places.len();
            let step = (held / 8).max(1).min(N.saturating_sub(held));
            if !alloc.permit() {
                return Err(OutOfMemory);
            }
            chunk.places.try_reserve_exact(step).map_err(|_| OutOfMemory)?;
        }
        self.reserved = true;
        Ok(())
    }

    /// Stores a value at [`Slots::lowest_free`], which is returned. Needs [`Slots::reserve`]; `None` without it.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if !self.reserved {
            return None;
        }
        let at = self.room.lowest()?;
        let chunk = self.chunks.get_mut(at)?;
        let place = chunk.taken.trailing_ones() as usize;
        let index = Self::index(at, place)?;
        match chunk.places.get_mut(place) {
            Some(free) => *free = Some(value),
            None => chunk.places.push(Some(value)),
        }
        chunk.taken |= 1 << place;
        self.reserved = !chunk.is_closed();
        if chunk.taken == Self::FULL {
            self.room.clear(at);
        }
        self.len = self.len.saturating_add(1);
        Some(index)
    }

    /// The value at a place.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, place) = Self::split(index);
        self.chunks.get(chunk)?.places.get(place)?.as_ref()
    }

    /// The value at a place.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, place) = Self::split(index);
        self.chunks.get_mut(chunk)?.places.get_mut(place)?.as_mut()
    }

    /// The values at two places that are not the same.
    pub(super) fn pair_mut(&mut self, a: u32, b: u32) -> Option<(&mut T, &mut T)> {
        let ((chunk_a, a), (chunk_b, b)) = (Self::split(a), Self::split(b));
        let (a, b) = if chunk_a == chunk_b {
            let [a, b] = self.chunks.get_mut(chunk_a)?.places.get_disjoint_mut([a, b]).ok()?;
            (a, b)
        } else {
            let [chunk_a, chunk_b] = self.chunks.get_disjoint_mut([chunk_a, chunk_b]).ok()?;
            (chunk_a.places.get_mut(a)?, chunk_b.places.get_mut(b)?)
        };
        Some((a.as_mut()?, b.as_mut()?))
    }

    /// Takes the value at a place away.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let (at, place) = Self::split(index);
        let chunk = self.chunks.get_mut(at)?;
        let value = chunk.places.get_mut(place)?.take()?;
        chunk.taken &= !(1 << place);
        self.len = self.len.saturating_sub(1);
        let next = self.room.lowest().filter(|&next| next != at);
        self.room.set(at);
        if let Some(next) = next {
            self.release(at.max(next));
        }
        Some(value)
    }

    /// Gives back the memory of a chunk if it is empty.
    fn release(&mut self, at: usize) {
        if let Some(chunk) = self.chunks.get_mut(at).filter(|chunk| chunk.taken == 0) {
            chunk.places = Vec::new();
        }
    }

    /// All values with their places, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            chunk
                .places
                .iter()
                .enumerate()
                .filter_map(move |(place, value)| Some((Self::index(at, place)?, value.as_ref()?)))
        })
    }

    /// All values with their places, ascending.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.chunks.iter_mut().enumerate().flat_map(|(at, chunk)| {
            chunk
                .places
                .iter_mut()
                .enumerate()
                .filter_map(move |(place, value)| Some((Self::index(at, place)?, value.as_mut()?)))
        })
    }
}
