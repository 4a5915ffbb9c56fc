//! Sequences of calls, drawn at random, made on two systems and compared.
//!
//! A [`Sequence`] is a list of system calls as data: open, ioctl, read, write, mmap, dup, close, on several threads. It has
//! a text form that people read and edit ([`Sequence::parse`], [`std::fmt::Display`]):
//!
//! ```text
//! f0 = open iommufd rw
//! f1 = open device:0 rw
//! ioctl f1 VFIO_DEVICE_BIND_IOMMUFD iommufd=f0
//! ioctl f0 IOMMU_IOAS_ALLOC
//! ioctl f0 IOMMU_IOAS_MAP flags=0x7 ioas_id=0x2 user_va=buffer+0x1000 length=0x1000 iova=0x10000
//! close f1
//! ```
//!
//! [`play`] makes the calls on any [`sys::Suite`], and says of each what came of it ([`Outcome`]), with what must differ from
//! system to system taken out: descriptors, physical addresses up to renaming, how far memory is contiguous. [`draw`] draws calls
//! that fit what is open at the moment, near-misses and rubbish. [`compare`] finds where two systems part, and [`shrink`] the
//! shortest sequence with which they still do.
#![deny(clippy::unwrap_used)]

mod arena;
mod call;
mod command;
mod compare;
mod generate;
mod outcome;
mod player;
mod request;
mod script;
mod sequence;

pub use arena::Arena;
pub use compare::{Difference, compare, shrink};
pub use generate::draw;
pub use outcome::Outcome;
pub use player::play;
pub use request::Harmful;
pub use script::ScriptError;
pub use sequence::Sequence;
