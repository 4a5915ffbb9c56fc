//! Closing and duplicating descriptors.

use std::ffi::{c_int, c_long, c_uint};

use crate::descriptors::{self, Kind, duplicated};
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{Answer, raw, reply_int, waiting};
use crate::state;

/// What was closed may have been the last of a file of the machine.
pub(super) fn closed(kind: Kind) {
    if kind == Kind::Machine
        && !is_inside()
        && let Some(state) = state::existing()
    {
        shielded(|| {
            let _inside = Inside::enter();
            // A machine that is gone has no files to release.
            let _released = state.closed();
        });
    }
}

/// `close(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn close(number: c_int) -> c_int {
    let kind = descriptors::kind(number);
    let answer = descriptors::close(number);
    closed(kind);
    reply_int(answer)
}

/// `close_range(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    // SAFETY: the program closes its own descriptors.
    let answer = unsafe { raw!(SYS_close_range, first, last, flags) };
    if answer.is_ok() && flags as c_uint & libc::CLOSE_RANGE_CLOEXEC == 0 {
        (first..=last.min(0xffff)).for_each(|number| descriptors::set(number as c_int, Kind::Host));
        closed(Kind::Machine);
    }
    reply_int(answer)
}

/// `dup(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn dup(number: c_int) -> c_int {
    // SAFETY: nothing but a descriptor is passed.
    reply_int(duplicated(number, unsafe { raw!(SYS_dup, number) }))
}

/// `dup2(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn dup2(number: c_int, other: c_int) -> c_int {
    let before = descriptors::kind(other);
    // SAFETY: as above.
    let answer = duplicated(number, unsafe { raw!(SYS_dup2, number, other) });
    replaced(number, other, before, answer)
}

/// `dup3(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn dup3(number: c_int, other: c_int, flags: c_int) -> c_int {
    let before = descriptors::kind(other);
    // SAFETY: as above.
    let answer = duplicated(number, unsafe { raw!(SYS_dup3, number, other, flags) });
    replaced(number, other, before, answer)
}

fn replaced(number: c_int, other: c_int, before: Kind, answer: Answer) -> c_int {
    if answer.is_ok() && number != other {
        closed(before);
    }
    reply_int(answer)
}

/// `fcntl(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fcntl(number: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: the program has promised what the command expects.
    let answer = unsafe { waiting!(SYS_fcntl, number, command, argument) };
    reply_int(match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(number, answer),
        _ => answer,
    })
}

/// `fcntl(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fcntl64(number: c_int, command: c_int, argument: c_long) -> c_int {
    fcntl(number, command, argument)
}
