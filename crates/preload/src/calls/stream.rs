//! Attributes of the machine as streams: libc reads and writes those by calls of its own.

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{FILE, off64_t, size_t, ssize_t};

use super::descriptor::close;
use super::io::{lseek, read, write};
use super::next::next;
use super::on_file;
use super::open::open_at;
use crate::paths::{Place, place};
use crate::raw::reply_int;
use crate::state;

type Cookie = *mut c_void;

#[repr(C)]
struct Functions {
    read: unsafe extern "C-unwind" fn(Cookie, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C-unwind" fn(Cookie, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C-unwind" fn(Cookie, *mut off64_t, c_int) -> c_int,
    close: unsafe extern "C-unwind" fn(Cookie) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: Cookie, mode: *const c_char, functions: Functions) -> *mut FILE;
}

/// The descriptor is the cookie.
fn number(cookie: Cookie) -> c_int {
    cookie.addr() as c_int
}

unsafe extern "C-unwind" fn read_stream(cookie: Cookie, to: *mut c_char, length: size_t) -> ssize_t {
    // SAFETY: libc passes memory to be written to.
    unsafe { read(number(cookie), to.cast(), length) }
}

unsafe extern "C-unwind" fn write_stream(cookie: Cookie, from: *const c_char, length: size_t) -> ssize_t {
    // SAFETY: libc passes memory to be read. An error is told as nothing written.
    unsafe { write(number(cookie), from.cast(), length) }.max(0)
}

unsafe extern "C-unwind" fn seek_stream(cookie: Cookie, offset: *mut off64_t, whence: c_int) -> c_int {
    // SAFETY: libc passes where the offset is.
    unsafe {
        let at = lseek(number(cookie), *offset, whence);
        *offset = at;
        if at < 0 { -1 } else { 0 }
    }
}

unsafe extern "C-unwind" fn close_stream(cookie: Cookie) -> c_int {
    close(number(cookie))
}

/// Opens a stream on a node or an attribute.
///
/// # Safety
///
/// As for `fopen(3)`.
pub(super) unsafe fn open(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: as the program has promised.
    let words = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let both = words.contains(&b'+');
    let flags = match words.first() {
        _ if both => libc::O_RDWR,
        Some(b'r') => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    };
    let close_on_exec = if words.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    // SAFETY: as the program has promised.
    let number = match unsafe { open_at(libc::AT_FDCWD, path, flags | close_on_exec, 0) } {
        Ok(number) => number,
        refused => {
            reply_int(refused);
            return std::ptr::null_mut();
        }
    };
    // SAFETY: as above.
    unsafe { on(number, mode) }
}

/// A stream on a descriptor of the machine.
///
/// # Safety
///
/// As for `fdopen(3)`.
unsafe fn on(number: usize, mode: *const c_char) -> *mut FILE {
    let functions =
        Functions { read: read_stream, write: write_stream, seek: seek_stream, close: close_stream };
    // SAFETY: the functions are what libc expects, and the cookie is a number.
    unsafe { fopencookie(std::ptr::without_provenance_mut(number), mode, functions) }
}

/// `fdopen(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fdopen(number: c_int, mode: *const c_char) -> *mut FILE {
    match usize::try_from(number) {
        // SAFETY: as the program has promised.
        Ok(own) if on_file(number, |_, _| Ok(())).is_some() => unsafe { on(own, mode) },
        _ => next!(c"fdopen", fn(c_int, *const c_char) -> *mut FILE, (number, mode), std::ptr::null_mut()),
    }
}

/// `freopen(3)`; a stream that is there cannot become one on a file of the machine, nor the reverse (EOPNOTSUPP)
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn freopen(
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> *mut FILE {
    // SAFETY: as the program has promised.
    let shown = unsafe { place(libc::AT_FDCWD, path, true) };
    // glibc's own falls over such a stream. SAFETY: as above.
    if state::settings().is_some() && unsafe { libc::fileno(stream) } < 0 {
        reply_int(Err(libc::EOPNOTSUPP));
        return std::ptr::null_mut();
    }
    let path = match &shown {
        Place::Host => path,
        Place::Shown(shown) => shown.as_ptr(),
        Place::Machine { state, path, .. } => {
            let error = sys::Error::new("freopen", path.display(), uapi::Errno::EOPNOTSUPP);
            state.refused(&error);
            reply_int(Err(libc::EOPNOTSUPP));
            return std::ptr::null_mut();
        }
    };
    next!(
        c"freopen",
        fn(*const c_char, *const c_char, *mut FILE) -> *mut FILE,
        (path, mode, stream),
        std::ptr::null_mut()
    )
}

/// `freopen(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn freopen64(
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> *mut FILE {
    // SAFETY: as the program has promised.
    unsafe { freopen(path, mode, stream) }
}
