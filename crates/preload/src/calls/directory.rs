//! Listing directories, and being in one.

use std::ffi::{CStr, c_char, c_int};

use libc::{AT_FDCWD, DIR, FILE, size_t};

use super::next::next;
use super::open::open_at;
use super::path::on_path;
use crate::descriptors;
use crate::inside::shielded;
use crate::paths::links::{is_missing, place_behind_links};
use crate::paths::{self, Place, place};
use crate::raw::{self, Answer, raw, reply_int};

/// `opendir(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn opendir(path: *const c_char) -> *mut DIR {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: as the program has promised.
    let number = reply_int(unsafe { open_at(AT_FDCWD, path, flags, 0) });
    if number < 0 {
        return std::ptr::null_mut();
    }
    // SAFETY: it is the number of a directory, which nobody else knows.
    let opened = unsafe { libc::fdopendir(number) };
    if opened.is_null() {
        descriptors::close(number).ok();
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
    let on_host = |path: *const c_char| -> *mut FILE {
        next!(c"fopen", fn(*const c_char, *const c_char) -> *mut FILE, (path, mode), std::ptr::null_mut())
    };
    // SAFETY: as the program has promised.
    match unsafe { place(AT_FDCWD, path, true) } {
        Place::Host => {
            let opened = on_host(path);
            let refused = raw::told();
            if !opened.is_null() || !is_missing(refused) {
                return opened;
            }
            // SAFETY: as above.
            match unsafe { place_behind_links(AT_FDCWD, path, true) } {
                Place::Host => {
                    reply_int(refused);
                    opened
                }
                Place::Shown(shown) => on_host(shown.as_ptr()),
                // SAFETY: as above.
                Place::Machine { .. } => unsafe { super::stream::open(path, mode) },
            }
        }
        Place::Shown(shown) => on_host(shown.as_ptr()),
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
    // SAFETY: the kernel checks the path.
    let go = |_, path| unsafe { raw!(SYS_chdir, path) };
    // SAFETY: as the program has promised.
    let (answer, _) = unsafe { on_path(AT_FDCWD, path, true, go, is_missing) };
    if answer.is_ok() {
        shielded(paths::change_working_directory);
    }
    reply_int(answer)
}

/// `fchdir(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fchdir(number: c_int) -> c_int {
    // SAFETY: nothing but a descriptor is passed.
    let answer = unsafe { raw!(SYS_fchdir, number) };
    if answer.is_ok() {
        shielded(paths::change_working_directory);
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
