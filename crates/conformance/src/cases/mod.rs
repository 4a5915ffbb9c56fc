//! The cases, by area.

mod attach;
mod bind;
mod close;
mod compat;
mod config_space;
mod container;
mod copy;
mod dma_buf;
mod fault_queue;
mod feature;
mod get_pa;
mod group;
mod hot_reset;
mod hwpt;
mod info;
mod ioeventfd;
mod irqs;
mod map;
mod map_file;
mod mixed;
mod objects;
mod open;
mod option;
mod pasid;
mod physical;
mod pin;
mod placement;
mod read_write;
mod registration;
mod size;
mod synthetic_group;
mod unmap;

use sys::Suite;

use crate::case::Case;

/// Every case.
pub(crate) fn all<S: Suite>() -> Vec<Case<S>> {
    let areas = [
        registration::cases(),
        synthetic_group::cases(),
        open::cases(),
        bind::cases(),
        attach::cases(),
        pasid::cases(),
        mixed::cases(),
        info::cases(),
        hot_reset::cases(),
        feature::cases(),
        irqs::cases(),
        read_write::cases(),
        ioeventfd::cases(),
        config_space::cases(),
        size::cases(),
        objects::cases(),
        fault_queue::cases(),
        hwpt::cases(),
        map::cases(),
        placement::cases(),
        pin::cases(),
        map_file::cases(),
        unmap::cases(),
        copy::cases(),
        get_pa::cases(),
        physical::cases(),
        dma_buf::cases(),
        option::cases(),
        close::cases(),
        group::cases(),
        container::cases(),
        compat::cases(),
    ];
    areas.into_iter().flatten().collect()
}
