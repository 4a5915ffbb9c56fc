//! Attributes of the machine as streams: libc reads and writes those by calls of its own.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use libc::{FILE, off64_t, size_t, ssize_t};

use super::descriptor::{close, closed};
use super::io::{lseek, read, write};
use super::next::next;
use super::open::open_at;
use super::{on_file, on_key_of_machine};
use crate::descriptors::{self, Kind};
use crate::filter;
use crate::paths::links::place_behind_links;
use crate::paths::{Place, place};
use crate::raw::{self, raw, reply_int};
use crate::state::State;

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
    fn flockfile(stream: *mut FILE);
    fn funlockfile(stream: *mut FILE);
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

/// The flags that a mode stands for.
///
/// # Safety
///
/// The mode is a string.
unsafe fn flags_of(mode: *const c_char) -> c_int {
    // SAFETY: as the caller has promised.
    let words = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let access = match words.first() {
        _ if words.contains(&b'+') => libc::O_RDWR,
        Some(b'r') => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    };
    let flag = |letter, flag| if words.contains(&letter) { flag } else { 0 };
    access | flag(b'e', libc::O_CLOEXEC) | flag(b'x', libc::O_CREAT | libc::O_EXCL)
}

/// Opens a stream on a node or an attribute.
///
/// # Safety
///
/// As for `fopen(3)`.
pub(super) unsafe fn open(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: as the program has promised.
    let number = reply_int(unsafe { open_at(libc::AT_FDCWD, path, flags_of(mode), 0) });
    // SAFETY: as above.
    if number < 0 { ptr::null_mut() } else { unsafe { on(number, mode) } }
}

/// A stream on a descriptor of the machine.
///
/// # Safety
///
/// As for `fdopen(3)`.
unsafe fn on(number: c_int, mode: *const c_char) -> *mut FILE {
    let functions =
        Functions { read: read_stream, write: write_stream, seek: seek_stream, close: close_stream };
    // SAFETY: the functions are what libc expects, and the cookie is a number.
    let stream = unsafe { fopencookie(ptr::without_provenance_mut(number as usize), mode, functions) };
    if !stream.is_null() {
        // So libc tells the descriptor of such a stream, and `freopen` makes a plain one of it: that writes to what is known of wide
        // characters, unless it is null. Here it was -1.
        // SAFETY: the members are where the header says, for macros in programs.
        unsafe {
            stream.byte_add(DESCRIPTOR).cast::<c_int>().write(number);
            stream.byte_add(WIDE_DATA).cast::<*mut c_void>().write(ptr::null_mut());
        }
    }
    stream
}

/// Where a stream of libc has its descriptor, and what it knows of wide characters, <bits/types/struct_FILE.h>
const DESCRIPTOR: usize = 112;
const WIDE_DATA: usize = 160;

/// `fdopen(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fdopen(number: c_int, mode: *const c_char) -> *mut FILE {
    if on_file(number, |_, _| Ok(())).is_some() {
        // SAFETY: as the program has promised.
        return unsafe { on(number, mode) };
    }
    next!(c"fdopen", fn(c_int, *const c_char) -> *mut FILE, (number, mode), ptr::null_mut())
}

/// `freopen(3)`
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
    let before = unsafe { libc::fileno(stream) };
    // Without a path the file stays, and is opened in another mode.
    let own = if path.is_null() { on_path_of(before) } else { None };
    let path = own.as_ref().map_or(path, |own| own.as_ptr());
    let place = [place, place_behind_links]
        .into_iter()
        // SAFETY: as above.
        .map(|place| unsafe { place(libc::AT_FDCWD, path, true) })
        .find(|place| !matches!(place, Place::Host));
    let path = match &place {
        Some(Place::Machine { state, .. }) => {
            // SAFETY: as above.
            return unsafe { freopen_here(state, path, mode, stream) };
        }
        Some(Place::Shown(shown)) => shown.as_ptr(),
        _ => path,
    };
    let kind = descriptors::kind(before);
    // SAFETY: as above.
    let opened = unsafe { freopen_on_host(path, mode, stream) };
    descriptors::set(before, Kind::Host);
    closed(kind);
    opened
}

/// The path at which the machine's file behind a descriptor was opened.
fn on_path_of(number: c_int) -> Option<CString> {
    CString::new(on_key_of_machine(number, |state, key| state.path_of(key))?.ok()?).ok()
}

/// # Safety
///
/// As for `freopen(3)`.
unsafe fn freopen_on_host(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
    next!(
        c"freopen",
        fn(*const c_char, *const c_char, *mut FILE) -> *mut FILE,
        (path, mode, stream),
        ptr::null_mut()
    )
}

/// Has a stream of libc's stand for a file of the machine: it is one on that descriptor, and libc's system calls on it are answered
/// (`filter`). To be on it by functions of ours ([`on`]) it would have to be another one.
///
/// # Safety
///
/// As for `freopen(3)`.
unsafe fn freopen_here(
    state: &State,
    path: *const c_char,
    mode: *const c_char,
    stream: *mut FILE,
) -> *mut FILE {
    // SAFETY: the program has promised that all of them are what they seem.
    unsafe {
        flockfile(stream);
        let flags = flags_of(mode);
        let moved = open_at(libc::AT_FDCWD, path, flags, 0).and_then(|opened| {
            // libc's own work, on something that any mode fits.
            let plain = freopen_on_host(c"/dev/null".as_ptr(), mode, stream);
            let number = if plain.is_null() { -1 } else { libc::fileno(stream) };
            let moved = match number {
                0.. if filter::answer_libc(number) => raw!(SYS_dup3, opened, number, flags & libc::O_CLOEXEC)
                    .inspect(|_| {
                        descriptors::set(number, Kind::Machine);
                    }),
                0.. => {
                    let path = CStr::from_ptr(path).to_string_lossy();
                    state.refused(&sys::Error::new("freopen", path, uapi::Errno::EOPNOTSUPP));
                    Err(libc::EOPNOTSUPP)
                }
                _ => raw::told(),
            };
            close(opened as c_int);
            moved
        });
        if moved.is_err() {
            // A stream that cannot be opened anew is closed.
            freopen_on_host(c"".as_ptr(), c"r".as_ptr(), stream);
            reply_int(moved);
        }
        funlockfile(stream);
        if moved.is_ok() { stream } else { ptr::null_mut() }
    }
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
