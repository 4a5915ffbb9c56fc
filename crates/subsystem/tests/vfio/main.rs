//! Device files through the calls of the file layer, on a simulated host. The names of tests begin with the rows of the
//! behaviour tables that they hold against.

/// What the locks of the simulated host are made of.
mod sync {
    pub(crate) use std::sync::{Mutex, RwLock};
    pub(crate) use std::thread_local;
}

#[expect(dead_code, reason = "what the tests of other files need is in there too")]
#[path = "../support/mod.rs"]
mod support;

mod attach;
mod bind;
mod client;
mod close;
mod config;
mod config_recorded;
mod container;
mod dma_buf;
mod emulated;
mod fault_queue;
mod faults;
mod files;
mod group;
mod group_model;
mod guest;
mod hot_reset;
mod info;
mod ioeventfd;
mod irqs;
mod line;
mod locks;
mod low_power;
mod map;
mod random;
mod regions;
mod register;
mod rules;
mod software_dma;
mod software_dma_container;
mod software_dma_dirty;
mod test_access;
mod token;
mod type1;
mod vga;
