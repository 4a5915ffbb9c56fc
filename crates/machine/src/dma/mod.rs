//! How devices reach memory, and the check of each such access.
//!
//! A device has a [`DmaPort`] and is attached to at most one context (an iommufd context or a container). What is mapped
//! in the context may be reached, by physical address; everything else is a [`Finding`].
#![forbid(unsafe_code)]

mod checker;
mod finding;
mod port;
mod reach;
mod views;

pub(crate) use checker::Checker;
pub use checker::Mode;
pub use finding::{Access, Finding, Mapped, Why};
pub(crate) use port::PortControl;
pub use port::{DmaError, DmaPort, Doing};
pub(crate) use views::{View, Views};
