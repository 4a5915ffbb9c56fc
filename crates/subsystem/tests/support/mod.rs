//! A simulated host: everything that the subsystem asks for, kept in plain data and checked at each call.
//!
//! It panics where the subsystem breaks a promise: a page given back twice, memory unpinned while a device may reach
//! it, a lock taken twice by one thread, an account that falls below zero.

pub(crate) mod bus;
pub(crate) mod emulated;
pub(crate) mod function;
pub(crate) mod host;
pub(crate) mod iommu;
pub(crate) mod locks;
pub(crate) mod memory;
