//! VFIO: device files, what they refuse, and PCI functions behind them.

mod args;
pub(crate) mod cdev;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod noiommu;
pub(crate) mod pci;
mod set;

pub use file::{Access, FileId, MappedRegion, Ready};
