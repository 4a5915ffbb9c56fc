//! The device models that come with the machine.
//!
//! Each is one [`Model`](crate::model::Model): it sees registers, its [`Reach`](crate::model::Reach) and nothing else.
#![forbid(unsafe_code)]

mod edu;
mod igb;
mod ioat;
mod nvme;
mod port;
#[cfg(test)]
mod rig;
mod vga;

pub(crate) use edu::Edu;
pub(crate) use igb::{Igb, IgbVirtual};
pub(crate) use ioat::Ioat;
pub(crate) use nvme::{Namespace, Nvme};
pub(crate) use port::Port;
pub(crate) use vga::Vga;
