//! The driver against controllers of embedded machines.
#![forbid(unsafe_code)]

mod bring_up;
mod broken;
mod common;
mod errors;
mod faults;
mod modes;
mod stream;
mod teardown;
mod transfers;
