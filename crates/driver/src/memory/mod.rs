//! Memory that a device reads and writes.

mod access;
mod addresses;
mod buffer;
mod space;

pub use addresses::Segment;
pub use buffer::{DmaBuffer, Segments};
pub use space::{AddressSpace, DmaOptions};
