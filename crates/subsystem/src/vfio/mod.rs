//! VFIO: groups, containers and device files, what they refuse, and the devices behind them: PCI functions, and devices that
//! a driver emulates.

pub(crate) mod args;
pub(crate) mod cdev;
pub(crate) mod container;
pub(crate) mod device;
pub(crate) mod driver;
pub(crate) mod emulated;
pub(crate) mod file;
pub(crate) mod group;
pub(crate) mod hot_reset;
pub(crate) mod noiommu;
pub(crate) mod pci;
mod set;

pub use file::{Access, FileId, MapRequest, Mapped, MappedMemory, MappedRegion, Ready, Whence};
