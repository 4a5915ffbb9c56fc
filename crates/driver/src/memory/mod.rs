//! Memory that a device reads and writes.

mod access;
mod addresses;
mod addressing;
mod buffer;
mod container;
mod ioas;
mod iovas;
mod options;
mod pagemap;
mod pinned;
mod space;

pub(crate) use addressing::Addressing;
pub(crate) use container::Container;
pub(crate) use ioas::{Ioas, Translation};
pub(crate) use pagemap::Pagemap;

pub use addresses::Segment;
pub use buffer::{DmaBuffer, Segments};
pub use options::DmaOptions;
pub use space::AddressSpace;
