//! What the subsystem runs on when there is no kernel: memory, a PCI bus, device models, the checker of their memory
//! accesses, and a small file system of nodes and sysfs.
//!
//! [`Machine`] implements `sys::Sys`, so that whatever is written for the kernel runs on it unchanged, without hardware
//! and without privileges.

mod bus;
mod dma;
mod file;
mod iommu;
mod kept;
mod lock;
mod log;
mod machine;
mod mediated;
pub mod model;
mod models;
mod process;
mod ram;
mod spec;
mod sync;
mod tree;
mod world;

pub use bus::{Doorbells, Interrupts};
pub use dma::{Access, DmaError, DmaPort, Doing, Finding, Mapped, Mode as DmaMode, Why};
pub use file::{BareFile, File, FileKey};
pub use kept::kept_descriptors;
pub use machine::{BareRegion, CustomDevice, GiveDescriptor, Handle, Machine, Process, TreeEntry};
pub use ram::{Fate, LayoutKind, PinCounts};
pub use spec::{
    CAPABILITIES, CdevName, DeviceSpec, Driver, Iommu, IommuSpec, Limits, MachineSpec, MediatedModel,
    MediatedSpec, MemorySpec, ModelSpec, NvmeBacking, PciAddress, PortSpec, Size, SpecError, Type1Spec, Uuid,
    setting,
};
pub use subsystem::kconfig;
pub use world::ask_for_interruptions;
