//! The `ioasis` command as its user meets it.
#![forbid(unsafe_code)]

mod bad_input;
mod bench;
mod common;
mod conform;
mod demo;
mod differ;
mod kconfig;
mod modes;
mod no_iommu;
mod nvme;
mod open;
mod outputs;
mod signals;
mod terminal;
