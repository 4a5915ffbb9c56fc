//! The functions of libc that the library stands in for. Each decides whether the machine is meant; if not, it makes the system
//! call that libc would make.
#![expect(unreachable_pub, reason = "the dynamic loader finds them by name")]

mod attributes;
mod descriptor;
mod directory;
mod fork;
mod glob;
mod io;
mod ioctl;
mod listing;
mod memory;
mod message;
mod next;
pub(crate) mod numbered;
mod open;
mod path;
pub(crate) mod poll;
mod signal;
mod stream;
mod thread;
mod walk;

use std::ffi::c_int;

use crate::descriptors::{self, Kind};
use crate::inside::{Inside, is_inside};
use crate::state::{self, State};

/// Does work on the machine's file behind a descriptor; `None` if it is none.
fn on_file<R>(
    number: c_int,
    work: impl FnOnce(&'static State, &machine::File) -> Result<R, c_int>,
) -> Option<Result<R, c_int>> {
    if descriptors::kind(number) != Kind::Machine || is_inside() {
        return None;
    }
    let state = state::existing()?;
    let _inside = Inside::enter()?;
    let found = descriptors::lend(number, |descriptor| {
        let path = state.machine.bare_path(descriptor)?;
        let own = descriptor.try_clone_to_owned().ok()?;
        sys::Sys::adopt(&state.machine, own, &path).ok()
    });
    let Some(Some(file)) = found else {
        descriptors::set(number, Kind::Host);
        return None;
    };
    let done = work(state, &file);
    drop(file);
    state.settle();
    Some(done)
}
