//! How devices reach memory, and the check of each such access.
//!
//! A device has a [`DmaPort`] and is attached to at most one domain. What is mapped in the domain may be reached: without an
//! IOMMU by physical address, and the domain is that of an iommufd context or a container; behind one by IOVA, and the domain
//! is a page table. Everything else is a [`Finding`].
#![forbid(unsafe_code)]

mod checker;
mod domains;
mod finding;
mod gate;
mod memo;
mod port;
mod reach;
#[cfg(test)]
mod tests;
mod translation;

pub(crate) use checker::Checker;
pub use checker::Mode;
pub(crate) use domains::{Domain, Domains, UNMANAGED};
pub use finding::{Access, Finding, Mapped, Why};
pub(crate) use port::PortControl;
pub use port::{DmaError, DmaPort, Doing};
