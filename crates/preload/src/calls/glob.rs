//! `glob`: libc lists by the functions that it is given.

use std::ffi::{c_char, c_int};

use libc::DIR;

use super::directory::opendir;
use super::listing::{closedir, readdir};
use super::next::next;
use super::path::{lstat, stat};
use crate::state;

type OnError = Option<unsafe extern "C-unwind" fn(*const c_char, c_int) -> c_int>;

/// `glob_t`, with the members that the crate `libc` hides.
#[repr(C)]
pub struct Glob {
    paths: [usize; 3],
    flags: c_int,
    close_directory: unsafe extern "C-unwind" fn(*mut DIR) -> c_int,
    read_directory: unsafe extern "C-unwind" fn(*mut DIR) -> *mut libc::dirent,
    open_directory: unsafe extern "C-unwind" fn(*const c_char) -> *mut DIR,
    look: unsafe extern "C-unwind" fn(*const c_char, *mut libc::stat) -> c_int,
    look_following: unsafe extern "C-unwind" fn(*const c_char, *mut libc::stat) -> c_int,
}

/// `glob(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn glob(
    pattern: *const c_char,
    flags: c_int,
    on_error: OnError,
    found: *mut Glob,
) -> c_int {
    let ours = state::settings().is_some() && flags & libc::GLOB_ALTDIRFUNC == 0;
    if ours {
        // SAFETY: as the program has promised; libc does not look at these members otherwise.
        unsafe {
            (*found).close_directory = closedir;
            (*found).read_directory = readdir;
            (*found).open_directory = opendir;
            (*found).look = lstat;
            (*found).look_following = stat;
        }
    }
    let all = if ours { flags | libc::GLOB_ALTDIRFUNC } else { flags };
    let answer = next!(
        c"glob",
        fn(*const c_char, c_int, OnError, *mut Glob) -> c_int,
        (pattern, all, on_error, found),
        libc::GLOB_ABORTED
    );
    if ours {
        // SAFETY: as above.
        unsafe { (*found).flags &= !libc::GLOB_ALTDIRFUNC };
    }
    answer
}

/// `glob(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn glob64(
    pattern: *const c_char,
    flags: c_int,
    on_error: OnError,
    found: *mut Glob,
) -> c_int {
    // SAFETY: as the program has promised; the structures are the same with 64 bits.
    unsafe { glob(pattern, flags, on_error, found) }
}
