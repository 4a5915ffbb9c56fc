//! Room for queues and small structures.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sys::Sys;

use crate::{DmaBuffer, Error, Result};

/// What a queue or an array of structures needs.
///
/// ```
/// use ioasis::Shape;
/// let submission_queue = Shape::array(64, 64).align(4096).contiguous(true);
/// let prp_list = Shape::array(8, 512).align(4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    element: usize,
    count: usize,
    align: usize,
    contiguous: bool,
}

impl Shape {
    /// `count` elements of `element` bytes each, aligned to 8 bytes.
    #[must_use]
    pub const fn array(element: usize, count: usize) -> Self {
        Shape { element, count, align: 8, contiguous: false }
    }

    /// What the device address of the first element is to be a multiple of: a power of two up to 4096.
    #[must_use]
    pub const fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Whether all elements must be in one segment, as a ring needs that the device is told by one address.
    #[must_use]
    pub const fn contiguous(mut self, contiguous: bool) -> Self {
        self.contiguous = contiguous;
        self
    }

    /// Its length in bytes, if it makes sense.
    fn bytes(&self) -> Result<usize> {
        let Shape { element, count, align, .. } = *self;
        match element.checked_mul(count) {
            Some(bytes) if bytes > 0 && align.is_power_of_two() && align <= 4096 => Ok(bytes),
            _ => Err(Error::Argument(format!(
                "{count} elements of {element} bytes aligned to {align} were asked for; elements have a size, there is at \
                 least one, and the alignment is a power of two up to 4096"
            ))),
        }
    }
}

/// An allocator for queues and small structures, whose elements never straddle a segment.
///
/// It cuts one [`DmaBuffer`] into pieces, first fit; a piece that is dropped goes back. Cloning gives another handle.
pub struct DmaPool<S: Sys>(Arc<Inner<S>>);

struct Inner<S: Sys> {
    buffer: DmaBuffer<S>,
    /// Start to end of each free stretch; neighbours are joined.
    free: Mutex<BTreeMap<usize, usize>>,
}

impl<S: Sys> Clone for DmaPool<S> {
    fn clone(&self) -> Self {
        DmaPool(self.0.clone())
    }
}

impl<S: Sys> DmaPool<S> {
    /// A pool in a buffer.
    #[must_use]
    pub fn new(buffer: DmaBuffer<S>) -> Self {
        let free = Mutex::new(BTreeMap::from([(0, buffer.len())]));
        DmaPool(Arc::new(Inner { buffer, free }))
    }

    /// The buffer that it is in.
    #[must_use]
    pub fn buffer(&self) -> &DmaBuffer<S> {
        &self.0.buffer
    }

    /// How many bytes are free, maybe not in one piece.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free().iter().map(|(start, end)| end - start).sum()
    }

    /// The longest free piece that is contiguous for the device, in bytes. A driver whose queue does not fit takes a
    /// shorter one, or memory in larger pages.
    #[must_use]
    pub fn largest_contiguous(&self) -> usize {
        let free = self.0.free();
        free.iter()
            .map(|(&start, &end)| self.0.buffer.slice(start..end).largest_contiguous())
            .max()
            .unwrap_or(0)
    }

    /// Room for a shape. Its bytes are zero.
    ///
    /// # Errors
    ///
    /// [`Error::NotContiguous`] if a contiguous shape is longer than any segment of the whole pool,
    /// [`Error::PoolFull`] if there is no room left.
    pub fn allocate(&self, shape: Shape) -> Result<Pooled<S>> {
        let bytes = shape.bytes()?;
        let Some(start) = self.0.take(shape, bytes) else {
            return Err(self.0.why_not(shape, bytes));
        };
        let buffer = self.0.buffer.slice(start..start + bytes);
        buffer.fill(0);
        Ok(Pooled { pool: self.0.clone(), start, buffer })
    }
}

impl<S: Sys> Inner<S> {
    fn free(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, shape: Shape, bytes: usize) -> Option<usize> {
        let mut free = self.free();
        let (stretch, start) =
            free.iter().find_map(|(&start, &end)| Some((start, self.fit(shape, bytes, start, end)?)))?;
        let end = free.remove(&stretch)?;
        if stretch < start {
            free.insert(stretch, start);
        }
        if start + bytes < end {
            free.insert(start + bytes, end);
        }
        Some(start)
    }

    /// The first place in a free stretch where the shape fits.
    fn fit(&self, shape: Shape, bytes: usize, start: usize, end: usize) -> Option<usize> {
        let mut candidate = start;
        loop {
            candidate = candidate.checked_next_multiple_of(shape.align)?;
            if candidate.checked_add(bytes)? > end {
                return None;
            }
            match self.straddled(shape, bytes, candidate) {
                None => return Some(candidate),
                Some(next) => candidate = next,
            }
        }
    }

    /// Where to try next, if an element at this place would straddle two segments.
    fn straddled(&self, shape: Shape, bytes: usize, start: usize) -> Option<usize> {
        let unit = if shape.contiguous { bytes } else { shape.element };
        let mut done = 0;
        loop {
            let (_, run) = self.buffer.address_at(start + done);
            if run >= bytes - done {
                return None;
            }
            // An end of a segment within the array must be an end of an element too. No smaller shift makes it one.
            let cut = run % unit;
            if cut > 0 {
                return Some(start + cut);
            }
            done += run;
        }
    }

    fn why_not(&self, shape: Shape, bytes: usize) -> Error {
        let largest = self.buffer.largest_contiguous();
        let unit = if shape.contiguous { bytes } else { shape.element };
        if unit > largest {
            return Error::NotContiguous { needed: unit, largest };
        }
        let free = self.free().iter().map(|(start, end)| end - start).sum();
        Error::PoolFull { needed: bytes, free, size: self.buffer.len() }
    }

    fn give_back(&self, mut start: usize, mut end: usize) {
        let mut free = self.free();
        if let Some((&before, &until)) = free.range(..start).next_back()
            && until == start
        {
            free.remove(&before);
            start = before;
        }
        if let Some(until) = free.remove(&end) {
            end = until;
        }
        free.insert(start, end);
    }
}

/// A piece of a [`DmaPool`]: a [`DmaBuffer`] that goes back to its pool when it is dropped.
///
/// A clone or a slice of the buffer keeps the memory, but not its place in the pool.
pub struct Pooled<S: Sys> {
    pool: Arc<Inner<S>>,
    start: usize,
    buffer: DmaBuffer<S>,
}

impl<S: Sys> Deref for Pooled<S> {
    type Target = DmaBuffer<S>;

    fn deref(&self) -> &DmaBuffer<S> {
        &self.buffer
    }
}

impl<S: Sys> Drop for Pooled<S> {
    fn drop(&mut self) {
        self.pool.give_back(self.start, self.start + self.buffer.len());
    }
}

impl<S: Sys> fmt::Debug for Pooled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pooled({:?} at {})", self.buffer, self.start)
    }
}
