//! VFIO and IOMMUFD, behaving as Linux 7.3 behaves: the kernel's side of the system-call boundary.
//!
//! The crate knows no host. It meets its surroundings through two things: [`Host`], which lends memory, locks, a bus
//! and a log, and [`CallCtx`], which stands for the caller of each call and is passed with it. Every refusal names the
//! rule that was broken ([`Refusal`], [`rules`]).
#![no_std]
#![forbid(unsafe_code)]
// No form that can panic is in what ships; unit tests may use them.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ctx;
mod host;
pub mod iommufd;
pub mod kconfig;
pub mod mem;
mod parameters;
pub mod rules;
mod subsystem;
mod tables;
pub mod vfio;

pub use ctx::{CallCtx, Caps, Descriptors, Polling, UserMemory, UserMemoryExt};
pub use host::{
    Account, Alloc, Backing, Bus, DmaOwner, DomainKind, Emulated, Function, Host, Iommu, IommuInfo, IrqKind,
    Level, Locks, Mapping, Memory, Mutex, Node, NodeKind, Nodes, PinError, Place, Region, RegionKind, Rights,
    Run, RwLock, Slept, Source, Sriov, Task, Transfer, Watch,
};
pub use kconfig::{Kconfig, Symbol};
pub use parameters::{ModuleParameters, Parameters};
pub use rules::{Refusal, Rule};
pub use subsystem::{Subsystem, Usage};
pub use vfio::{Access, FileId, MapRequest, Mapped, MappedMemory, MappedRegion, Ready, Whence};
