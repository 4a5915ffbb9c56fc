//! Whether a thread is at work inside the library: what it calls then is for the host.

use std::cell::Cell;

thread_local! {
    // Without a destructor it is a plain thread-local variable, in signal handlers too.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The work of a thread inside the library, until it is dropped.
pub(crate) struct Inside(());

impl Inside {
    /// Goes inside; `None` if the thread is inside already.
    pub(crate) fn enter() -> Option<Self> {
        (!INSIDE.replace(true)).then(|| Inside(()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// Whether the calling thread is inside.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}
