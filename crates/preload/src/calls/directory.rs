//! Listing directories, and being in one.

use std::ffi::{CStr, c_char, c_int};

use libc::{AT_FDCWD, DIR, FILE, size_t};

use super::next::next;
use crate::descriptors::{self, Kind};
use crate::paths::{self, Place, place};
use crate::raw::{Answer, raw, reply_int};

/// `opendir(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn opendir(path: *const c_char) -> *mut DIR {
    // SAFETY: as the program has promised.
    let shown = unsafe { place(AT_FDCWD, path, true) };
    let path = match &shown {
        Place::Shown(shown) | Place::Machine { shown, .. } => shown.as_ptr(),
        Place::Host => path,
    };
    let opened = next!(c"opendir", fn(*const c_char) -> *mut DIR, (path), std::ptr::null_mut());
    // SAFETY: what could be opened is a string.
    if !opened.is_null() && (matches!(shown, Place::Shown(_)) || unsafe { CStr::from_ptr(path) } == c"/") {
        // SAFETY: it is open.
        descriptors::set(unsafe { libc::dirfd(opened) }, Kind::Directory);
    }
    opened
}

/// `fopen(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: as the program has promised.
    match unsafe { place(AT_FDCWD, path, true) } {
        Place::Host => {
            next!(c"fopen", fn(*const c_char, *const c_char) -> *mut FILE, (path, mode), std::ptr::null_mut())
        }
        Place::Shown(shown) => {
            next!(
                c"fopen",
                fn(*const c_char, *const c_char) -> *mut FILE,
                (shown.as_ptr(), mode),
                std::ptr::null_mut()
            )
        }
        // SAFETY: as the program has promised.
        Place::Machine { .. } => unsafe { super::stream::open(path, mode) },
    }
}

/// `fopen(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: as the program has promised.
    unsafe { fopen(path, mode) }
}

/// `chdir(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn chdir(path: *const c_char) -> c_int {
    // SAFETY: as the program has promised.
    let answer = match unsafe { place(AT_FDCWD, path, true) } {
        // SAFETY: the kernel checks the path.
        Place::Host => unsafe { raw!(SYS_chdir, path) },
        Place::Shown(shown) | Place::Machine { shown, .. } => {
            // SAFETY: the path is a string that is alive.
            unsafe { raw!(SYS_chdir, shown.as_c_str()) }
        }
    };
    if answer.is_ok() {
        paths::look_where_we_are();
    }
    reply_int(answer)
}

/// `fchdir(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fchdir(number: c_int) -> c_int {
    // SAFETY: nothing but a descriptor is passed.
    let answer = unsafe { raw!(SYS_fchdir, number) };
    if answer.is_ok() {
        paths::look_where_we_are();
    }
    reply_int(answer)
}

/// `getcwd(3)`, in the machine's tree too
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn getcwd(buffer: *mut c_char, size: size_t) -> *mut c_char {
    let answer =
        next!(c"getcwd", fn(*mut c_char, size_t) -> *mut c_char, (buffer, size), std::ptr::null_mut());
    // SAFETY: libc answers null or a string that the program may write to.
    unsafe { paths::strip_root(answer) };
    answer
}

/// `getcwd(2)`, as the kernel has it: the length with its zero.
///
/// # Safety
///
/// So many bytes may be written to.
pub(super) unsafe fn working_directory(buffer: *mut c_char, size: size_t) -> Answer {
    // SAFETY: as the caller has promised.
    unsafe {
        raw!(SYS_getcwd, buffer, size)?;
        paths::strip_root(buffer);
        Ok(CStr::from_ptr(buffer).to_bytes_with_nul().len())
    }
}
