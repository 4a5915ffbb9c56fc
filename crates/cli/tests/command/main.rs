//! The `ioasis` command as its user meets it.
#![forbid(unsafe_code)]

mod bad_input;
mod common;
mod demo;
mod nvme;
mod outputs;
mod signals;
mod terminal;
