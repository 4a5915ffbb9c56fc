//! How memory gets the addresses that a device is told.
#![forbid(unsafe_code)]

use sys::{Memory, PageSize, Sys};

use super::addresses::Segment;
use super::container::Container;
use super::ioas::Ioas;
use super::pagemap::Pagemap;
use crate::{DmaOptions, Iova, Result};

/// How memory gets the addresses that a device is told.
pub(crate) enum Addressing<S: Sys> {
    /// An IOAS of IOMMUFD: its IOVAs, or the physical addresses behind them.
    Ioas(Ioas<S>),
    /// A container of VFIO, with an IOMMU: IOVAs.
    Container(Container<S>),
    /// Nothing is mapped; the kernel tells where the pages of the process are.
    Pagemap(Pagemap<S>),
}

impl<S: Sys> Addressing<S> {
    /// The pages that memory is made of, where these are wished for.
    pub(super) fn page_size(&self, wish: PageSize) -> PageSize {
        match self {
            Addressing::Ioas(_) | Addressing::Container(_) => wish,
            Addressing::Pagemap(_) => Pagemap::<S>::PAGE_SIZE,
        }
    }

    /// Gives memory to the device, under a name for [`Addressing::segments`] and [`Addressing::unmap`].
    pub(super) fn map(&self, memory: &Memory, options: &DmaOptions) -> Result<Iova> {
        match self {
            Addressing::Ioas(ioas) => ioas.map(memory),
            Addressing::Container(container) => container.map(memory, options),
            // Such memory is where it is; its name is its address in the process.
            Addressing::Pagemap(_) => Ok(Iova::new(memory.start().as_ptr() as u64)),
        }
    }

    /// What the device is to be told of memory that it was given.
    pub(super) fn segments(&self, memory: &Memory, iova: Iova) -> Result<Vec<Segment>> {
        match self {
            Addressing::Ioas(ioas) => ioas.segments(iova, memory.length()),
            Addressing::Container(_) => Ok(vec![Segment { address: iova.into(), length: memory.length() }]),
            Addressing::Pagemap(pagemap) => pagemap.segments(memory),
        }
    }

    /// Takes memory back from the device.
    pub(super) fn unmap(&self, iova: Iova, length: usize) {
        match self {
            Addressing::Ioas(ioas) => ioas.unmap(iova, length),
            Addressing::Container(container) => container.unmap(iova, length),
            Addressing::Pagemap(_) => {}
        }
    }
}
