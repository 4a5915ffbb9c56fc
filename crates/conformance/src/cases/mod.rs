//! The cases, by area.

mod attach;
mod bind;
mod close;
mod config_space;
mod copy;
mod dma_buf;
mod fault_queue;
mod get_pa;
mod info;
mod irqs;
mod map;
mod map_file;
mod objects;
mod open;
mod option;
mod physical;
mod pin;
mod placement;
mod read_write;
mod registration;
mod size;
mod unmap;

use sys::{Result, Suite};

use crate::fixture::Fixture;
use crate::outcome::Outcome;
use crate::run::Case;

/// Every case.
pub(crate) fn all<S: Suite>() -> Vec<Case<S>> {
    let areas = [
        registration::cases(),
        open::cases(),
        bind::cases(),
        attach::cases(),
        info::cases(),
        irqs::cases(),
        read_write::cases(),
        config_space::cases(),
        size::cases(),
        objects::cases(),
        fault_queue::cases(),
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
    ];
    areas.into_iter().flatten().collect()
}

/// The case of a row.
fn case<S: Suite>(id: &'static str, ask: fn(&mut Fixture<S>) -> Outcome) -> Case<S> {
    Case { id, ask }
}

/// The answer of the call that a row speaks of.
fn answer<T: Into<u64>>(result: Result<T>) -> Outcome {
    Ok(result.into())
}
