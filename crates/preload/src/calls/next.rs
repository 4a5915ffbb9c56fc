//! Functions of libc behind this library.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function that the next library has, found when it is called first.
pub(super) struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    pub(super) const fn new(name: &'static CStr) -> Self {
        Next { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Its address; null if there is none.
    pub(super) fn address(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends in a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Calls a function of the next library; answers `$missing` if there is none.
macro_rules! next {
    ($name:literal, fn($($type:ty),*) -> $answer:ty, ($($argument:expr),*), $missing:expr) => {{
        static NEXT: $crate::calls::next::Next = $crate::calls::next::Next::new($name);
        let address = NEXT.address();
        if address.is_null() {
            $missing
        } else {
            // SAFETY: the function of that name has this type.
            let function = unsafe {
                std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C-unwind" fn($($type),*) -> $answer>(address)
            };
            // SAFETY: the caller has promised to libc what it expects.
            unsafe { function($($argument),*) }
        }
    }};
}
pub(super) use next;
