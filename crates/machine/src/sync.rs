//! What threads agree through where they share no lock.
//!
//! The files that use it are read by `tests/interleavings` too, which has a module of this name with the types of a model
//! checker in it.

pub(crate) use std::sync::{Mutex, atomic};
pub(crate) use std::thread;
