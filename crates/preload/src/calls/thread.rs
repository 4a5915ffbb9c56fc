//! Threads of a program that makes system calls by itself: what catches those is a matter of each thread.

use std::ffi::{c_int, c_void};

use libc::{pthread_attr_t, pthread_t};

use super::next::next;
use crate::bypass;
use crate::inside::is_inside;

// The end of a thread (`pthread_exit`) may unwind through it.
type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// What a thread is to do.
struct Work {
    start: Start,
    argument: *mut c_void,
}

extern "C-unwind" fn begin(work: *mut c_void) -> *mut c_void {
    // SAFETY: it was made from a box for this thread alone.
    let Work { start, argument } = *unsafe { Box::from_raw(work.cast::<Work>()) };
    bypass::catch_calls();
    start(argument)
}

/// `pthread_create(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let create = |start: Start, argument: *mut c_void| {
        next!(
            c"pthread_create",
            fn(*mut pthread_t, *const pthread_attr_t, Start, *mut c_void) -> c_int,
            (thread, attributes, start, argument),
            libc::ENOSYS
        )
    };
    if is_inside() || !bypass::catches() {
        return create(start, argument);
    }
    let work = Box::into_raw(Box::new(Work { start, argument }));
    let answer = create(begin, work.cast());
    if answer != 0 {
        // SAFETY: no thread has begun that would take it.
        drop(unsafe { Box::from_raw(work) });
    }
    answer
}
