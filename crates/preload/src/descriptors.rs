//! Which descriptors may be the machine's: a hint by number, so that calls on others cost nothing.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::raw::{Answer, raw};

/// What a descriptor was when the library saw it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The host's.
    Host = 0,
    /// A file of the machine.
    Machine = 1,
    /// A directory of the machine's tree, or the root.
    Directory = 2,
    /// What was looked at in the machine, and not opened.
    Handle = 3,
}

/// Numbers beyond are looked at each time.
const TOLD: usize = 1 << 16;

static KINDS: [AtomicU8; TOLD] = [const { AtomicU8::new(0) }; TOLD];

/// What a descriptor may be.
pub(crate) fn kind(number: c_int) -> Kind {
    match usize::try_from(number)
        .ok()
        .and_then(|number| KINDS.get(number))
        .map(|kind| kind.load(Ordering::Relaxed))
    {
        Some(0) => Kind::Host,
        Some(2) => Kind::Directory,
        Some(3) => Kind::Handle,
        Some(_) => Kind::Machine,
        None if number < 0 => Kind::Host,
        None => Kind::Machine,
    }
}

/// Says what a descriptor is from now on.
pub(crate) fn set(number: c_int, kind: Kind) {
    if let Some(known) = usize::try_from(number).ok().and_then(|number| KINDS.get(number)) {
        known.store(kind as u8, Ordering::Relaxed);
    }
}

/// Forgets all that the library has seen: in a process that has none of them any more.
pub(crate) fn forget() {
    KINDS.iter().for_each(|kind| kind.store(Kind::Host as u8, Ordering::Relaxed));
}

/// The answer of a call that duplicates a descriptor.
pub(crate) fn duplicated(from: c_int, answer: Answer) -> Answer {
    if let Ok(number) = answer {
        set(number as c_int, kind(from));
    }
    answer
}

/// Lends a descriptor of the program for one call. One that is not open answers EBADF to that.
pub(crate) fn lend<R>(number: c_int, work: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
    if number < 0 {
        return None;
    }
    // SAFETY: what is done with it are system calls, which answer EBADF for a number that is not open.
    Some(work(unsafe { BorrowedFd::borrow_raw(number) }))
}

/// Closes a descriptor.
pub(crate) fn close(number: c_int) -> Answer {
    set(number, Kind::Host);
    // SAFETY: the program closes its own descriptor.
    unsafe { raw!(SYS_close, number) }
}
