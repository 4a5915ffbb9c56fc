//! Memory for everything that the subsystem keeps: containers that can be refused memory and survive it.
//!
//! * [`Slab`]: objects under keys that are never reused by mistake.
//! * [`IdMap`]: values under small numbers, the lowest free one first.
//! * [`List`]: values in a row.
//! * [`IntervalMap`]: disjoint intervals of `u64`, in order, with the holes between them.
//!
//! All follow the same rules. Before memory is taken, [`Alloc::permit`] is asked. A refusal leaves the container as it
//! was. After `reserve`, the next insertion takes no memory, whatever was removed in between. Removal never takes any.
//! Memory comes in chunks, so that a large container grows without being copied; a [`List`] alone is in one piece.
#![forbid(unsafe_code)]

mod bits;
mod id_map;
mod interval_map;
mod list;
mod slab;
mod slots;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::Alloc;

pub use id_map::{IdError, IdMap};
pub use interval_map::{Entry, IntervalMap, Overlap};
pub use list::List;
pub use slab::{Key, Slab};

/// The host has no memory, or did not permit the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// Makes room for `additional` more elements, asking for permission if that takes memory. Growth is geometric.
fn reserve<T>(vec: &mut Vec<T>, alloc: &impl Alloc, additional: usize) -> Result<(), OutOfMemory> {
    if vec.capacity().saturating_sub(vec.len()) >= additional {
        return Ok(());
    }
    if !alloc.permit() {
        return Err(OutOfMemory);
    }
    vec.try_reserve(additional).map_err(|_| OutOfMemory)
}

/// Bytes that a vector holds beyond its own header.
fn bytes_of<T>(vec: &Vec<T>) -> usize {
    vec.capacity().saturating_mul(size_of::<T>())
}
