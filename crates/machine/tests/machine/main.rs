//! A machine as its user sees it: through the machine file and the system calls.

mod common;
mod container;
mod descriptors;
mod devices;
mod fail_nth;
mod fault_queue;
mod files;
mod hotplug;
mod impossible;
mod kconfig;
mod main_path;
mod mediated;
mod misbehaviour;
mod ownership;
mod pump;
mod spec;
mod sriov;
mod threads;
mod type1;
mod unbind;
mod vga;
