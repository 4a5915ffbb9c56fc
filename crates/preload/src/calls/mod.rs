//! The functions of libc that the library stands in for. Each decides whether the machine is meant; if not, it makes the system
//! call that libc would make.
#![expect(unreachable_pub, reason = "the dynamic loader finds them by name")]

mod attributes;
mod capabilities;
mod descriptor;
mod directory;
mod fork;
mod fts;
mod glob;
mod io;
mod ioctl;
mod listing;
mod log;
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

use std::ffi::{OsString, c_int};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use machine::FileKey;

use crate::call::NOT_OURS;
use crate::descriptors::{self, Kind};
use crate::inside::{Inside, is_inside, shielded};
use crate::state::{self, State};

/// Does work on the machine's file behind a descriptor; `None` if it is none.
#[inline]
fn on_file<R: Copy>(
    number: c_int,
    work: impl FnOnce(&'static State, File) -> Result<R, c_int> + Copy,
) -> Option<Result<R, c_int>> {
    on_key(number, move |state, key| work(state, File { key, path: path_of(state, key)? }))
}

fn path_of(state: &State, key: FileKey) -> Result<PathBuf, c_int> {
    Ok(OsString::from_vec(state.path_of(key)?).into())
}

/// As [`on_file`], for a call that finds by itself whether there is such a file.
// Most descriptors are the host's: a call on one is to cost no more than a look at its number.
#[inline]
fn on_key<R: Copy>(
    number: c_int,
    work: impl FnOnce(&'static State, FileKey) -> Result<R, c_int> + Copy,
) -> Option<Result<R, c_int>> {
    if descriptors::kind(number) == Kind::Machine {
        shielded(|| on_key_of_machine(number, work))
    } else {
        None
    }
}

fn on_key_of_machine<R>(
    number: c_int,
    work: impl FnOnce(&'static State, FileKey) -> Result<R, c_int>,
) -> Option<Result<R, c_int>> {
    if is_inside() {
        return None;
    }
    let state = state::existing()?;
    let _inside = Inside::enter()?;
    let key = descriptors::lend(number, |descriptor| FileKey::of(descriptor).ok());
    match key.flatten().map_or(Err(NOT_OURS), |key| work(state, key)) {
        Err(NOT_OURS) => {
            descriptors::set(number, Kind::Host);
            None
        }
        done => Some(done),
    }
}

/// A file of the machine.
struct File {
    key: FileKey,
    /// Where it was opened.
    path: PathBuf,
}
