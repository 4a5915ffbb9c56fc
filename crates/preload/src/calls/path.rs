//! Asking about paths.

use std::ffi::{CStr, c_char, c_int, c_uint};

use libc::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, size_t, ssize_t, stat as Stat, statx as Statx};

use super::next::next;
use super::{on_file, on_key_of_machine};
use crate::call::Entry;
use crate::inside::{Inside, shielded};
use crate::paths::links::{is_missing, is_shadowed, place_behind_links};
use crate::paths::{self, Place, leads, place, without_root};
use crate::raw::{self, Answer, raw, reply, reply_int};
use crate::state::State;

/// A character device, for who asks about a path.
#[derive(Clone, Copy)]
pub(super) struct Node {
    mode: u32,
    major: u32,
    minor: u32,
}

/// The node at a path of the machine; `None` if it is an attribute.
fn node(state: &State, path: &std::path::Path) -> Option<Node> {
    let _inside = Inside::enter();
    match state.look_up(path, true) {
        Ok(Entry::Node { mode, major, minor }) => Some(Node { mode, major, minor }),
        _ => None,
    }
}

/// Makes a call on a path, with the directory and the path that are to be looked at; the node that is there. What the host answers
/// is not meant if it is `foreign`.
///
/// # Safety
///
/// The path is null or a string that ends in a zero.
pub(super) unsafe fn on_path(
    directory: c_int,
    path: *const c_char,
    follow: bool,
    call: impl Fn(c_int, *const c_char) -> Answer + Copy,
    foreign: impl Fn(Answer) -> bool,
) -> (Answer, Option<Node>) {
    let at = move |place| match place {
        Place::Host => None,
        Place::Shown(shown) => Some((call(AT_FDCWD, shown.as_ptr()), None)),
        Place::Machine { state, path, shown } => Some((call(AT_FDCWD, shown.as_ptr()), node(state, &path))),
    };
    // SAFETY: as the caller has promised.
    unsafe {
        let leads = leads(directory, path);
        if leads && let Some(found) = shielded(|| at(place(directory, path, follow))) {
            return found;
        }
        let answer = call(directory, path);
        if (if leads { is_missing(answer) } else { foreign(answer) })
            && let Some(found) = shielded(|| at(place_behind_links(directory, path, follow)))
        {
            return found;
        }
        (answer, None)
    }
}

/// The node behind a descriptor.
fn node_behind(number: c_int) -> Option<Node> {
    on_file(number, |state, file| node(state, &file.path).ok_or(0))?.ok()
}

/// # Safety
///
/// `to` is null or may be written to.
pub(super) unsafe fn stat_at(directory: c_int, path: *const c_char, to: *mut Stat, flags: c_int) -> c_int {
    // SAFETY: as the program has promised.
    let (answer, node) = unsafe {
        let ask = |directory, path| raw!(SYS_newfstatat, directory, path, to, flags);
        let foreign = |answer: Answer| is_missing(answer) || answer.is_ok() && is_shadowed((*to).st_dev);
        on_path(directory, path, flags & AT_SYMLINK_NOFOLLOW == 0, ask, foreign)
    };
    if let (Ok(_), Some(node)) = (answer, node.or_else(|| by_descriptor(directory, path, flags))) {
        // SAFETY: the kernel has written to it.
        unsafe {
            (*to).st_mode = libc::S_IFCHR | node.mode;
            (*to).st_rdev = libc::makedev(node.major, node.minor);
            (*to).st_size = 0;
        }
    }
    reply_int(answer)
}

/// The node that a descriptor with an empty path means.
fn by_descriptor(directory: c_int, path: *const c_char, flags: c_int) -> Option<Node> {
    // SAFETY: the kernel has taken it for a string.
    let empty = flags & libc::AT_EMPTY_PATH != 0 && (path.is_null() || unsafe { *path == 0 });
    if empty { node_behind(directory) } else { None }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) => ($directory:expr, $path:expr, $to:expr, $flags:expr);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: as the program has promised.
            unsafe { stat_at($directory, $path, $to, $flags) }
        }
    )*};
}

stats! {
    /// `stat(2)`
    stat(path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, 0);
    /// `stat(2)`
    stat64(path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, 0);
    /// `lstat(2)`
    lstat(path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
    /// `lstat(2)`
    lstat64(path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
    /// `fstat(2)`
    fstat(number: c_int, to: *mut Stat) => (number, c"".as_ptr(), to, libc::AT_EMPTY_PATH);
    /// `fstat(2)`
    fstat64(number: c_int, to: *mut Stat) => (number, c"".as_ptr(), to, libc::AT_EMPTY_PATH);
    /// `fstatat(2)`
    fstatat(directory: c_int, path: *const c_char, to: *mut Stat, flags: c_int) => (directory, path, to, flags);
    /// `fstatat(2)`
    fstatat64(directory: c_int, path: *const c_char, to: *mut Stat, flags: c_int) => (directory, path, to, flags);
    /// `stat(2)`, as programs call it that were built with an older glibc
    __xstat(_version: c_int, path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, 0);
    /// `stat(2)`, likewise
    __xstat64(_version: c_int, path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, 0);
    /// `lstat(2)`, likewise
    __lxstat(_version: c_int, path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
    /// `lstat(2)`, likewise
    __lxstat64(_version: c_int, path: *const c_char, to: *mut Stat) => (AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
    /// `fstat(2)`, likewise
    __fxstat(_version: c_int, number: c_int, to: *mut Stat) => (number, c"".as_ptr(), to, libc::AT_EMPTY_PATH);
    /// `fstat(2)`, likewise
    __fxstat64(_version: c_int, number: c_int, to: *mut Stat) => (number, c"".as_ptr(), to, libc::AT_EMPTY_PATH);
    /// `fstatat(2)`, likewise
    __fxstatat(_version: c_int, directory: c_int, path: *const c_char, to: *mut Stat, flags: c_int)
        => (directory, path, to, flags);
    /// `fstatat(2)`, likewise
    __fxstatat64(_version: c_int, directory: c_int, path: *const c_char, to: *mut Stat, flags: c_int)
        => (directory, path, to, flags);
}

/// `statx(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn statx(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    to: *mut Statx,
) -> c_int {
    // SAFETY: as the program has promised.
    let (answer, node) = unsafe {
        let ask = |directory, path| raw!(SYS_statx, directory, path, flags, mask, to);
        let device = || libc::makedev((*to).stx_dev_major, (*to).stx_dev_minor);
        let foreign = |answer: Answer| is_missing(answer) || answer.is_ok() && is_shadowed(device());
        on_path(directory, path, flags & AT_SYMLINK_NOFOLLOW == 0, ask, foreign)
    };
    if let (Ok(_), Some(node)) = (answer, node.or_else(|| by_descriptor(directory, path, flags))) {
        // SAFETY: the kernel has written to it.
        unsafe {
            (*to).stx_mode = (libc::S_IFCHR | node.mode) as u16;
            ((*to).stx_rdev_major, (*to).stx_rdev_minor) = (node.major, node.minor);
            (*to).stx_size = 0;
        }
    }
    reply_int(answer)
}

macro_rules! on_paths {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) => ($directory:expr, $path:expr, $follow:expr), $call:ident($($more:expr),*);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: as the program has promised.
            let (answer, _) = unsafe {
                on_path($directory, $path, $follow, |directory, path| raw!($call, directory, path $(, $more)*), is_missing)
            };
            reply_int(answer)
        }
    )*};
}

on_paths! {
    /// `access(2)`
    access(path: *const c_char, mode: c_int) => (AT_FDCWD, path, true), SYS_faccessat(mode);
    /// `faccessat(2)`
    faccessat(directory: c_int, path: *const c_char, mode: c_int, flags: c_int)
        => (directory, path, flags & AT_SYMLINK_NOFOLLOW == 0), SYS_faccessat2(mode, flags);
    /// `euidaccess(3)`
    euidaccess(path: *const c_char, mode: c_int) => (AT_FDCWD, path, true), SYS_faccessat2(mode, libc::AT_EACCESS);
    /// `eaccess(3)`
    eaccess(path: *const c_char, mode: c_int) => (AT_FDCWD, path, true), SYS_faccessat2(mode, libc::AT_EACCESS);
}

/// # Safety
///
/// The path is null or a string, and `to` is null or may be written to.
unsafe fn read_link(directory: c_int, path: *const c_char, to: *mut c_char, size: size_t) -> ssize_t {
    // SAFETY: as the program has promised.
    let (answer, _) = unsafe {
        let read = |directory, path| raw!(SYS_readlinkat, directory, path, to, size);
        on_path(directory, path, false, read, is_missing)
    };
    let Ok(length) = answer else { return reply(answer) as ssize_t };
    // SAFETY: the kernel has written so many bytes there, and taken the path for a string.
    let (target, path) =
        unsafe { (std::slice::from_raw_parts(to.cast::<u8>(), length), CStr::from_ptr(path).to_bytes()) };
    if !target.starts_with(b"/") && !target.starts_with(b"socket:") {
        return length as ssize_t;
    }
    shielded(|| {
        let shorter = match without_root(target) {
            Some(below) => Some(below.to_vec()),
            None if target.starts_with(b"/memfd:ioasis") || target.starts_with(b"socket:") => described(path),
            None => None,
        };
        let Some(name) = shorter else { return length as ssize_t };
        let length = name.len().min(size);
        // SAFETY: the program has passed so much room.
        unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), to.cast(), length) };
        length as ssize_t
    })
}

/// The path that the machine's file under a link of `/proc/self/fd` has.
fn described(link: &[u8]) -> Option<Vec<u8>> {
    let number = link.rsplit(|byte| *byte == b'/').next()?;
    let number: c_int = str::from_utf8(number).ok()?.parse().ok()?;
    on_key_of_machine(number, |state, key| state.path_of(key))?.ok()
}

/// `readlink(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn readlink(path: *const c_char, to: *mut c_char, size: size_t) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { read_link(AT_FDCWD, path, to, size) }
}

/// `readlinkat(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn readlinkat(
    directory: c_int,
    path: *const c_char,
    to: *mut c_char,
    size: size_t,
) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { read_link(directory, path, to, size) }
}

/// `readlink(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __readlink_chk(
    path: *const c_char,
    to: *mut c_char,
    size: size_t,
    _: size_t,
) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { read_link(AT_FDCWD, path, to, size) }
}

/// `realpath(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn realpath(path: *const c_char, to: *mut c_char) -> *mut c_char {
    let resolve = |path: *const c_char| -> *mut c_char {
        next!(c"realpath", fn(*const c_char, *mut c_char) -> *mut c_char, (path, to), std::ptr::null_mut())
    };
    // SAFETY: as the program has promised.
    let answer = match unsafe { place(AT_FDCWD, path, true) } {
        Place::Shown(shown) | Place::Machine { shown, .. } => resolve(shown.as_ptr()),
        Place::Host => {
            let answer = resolve(path);
            let refused = raw::told();
            if !answer.is_null() || !is_missing(refused) {
                return answer;
            }
            // SAFETY: as above.
            match unsafe { place_behind_links(AT_FDCWD, path, true) } {
                Place::Shown(shown) | Place::Machine { shown, .. } => resolve(shown.as_ptr()),
                Place::Host => {
                    reply(refused);
                    answer
                }
            }
        }
    };
    // SAFETY: libc answers null or a string that the program may write to.
    unsafe { paths::strip_root(answer) };
    answer
}

/// `realpath(3)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __realpath_chk(
    path: *const c_char,
    to: *mut c_char,
    _: size_t,
) -> *mut c_char {
    // SAFETY: as the program has promised.
    unsafe { realpath(path, to) }
}

/// `inotify_add_watch(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn inotify_add_watch(inotify: c_int, path: *const c_char, mask: u32) -> c_int {
    // SAFETY: as the program has promised.
    let (answer, _) = unsafe {
        let watch = |_, path| raw!(SYS_inotify_add_watch, inotify, path, mask);
        on_path(AT_FDCWD, path, mask & libc::IN_DONT_FOLLOW == 0, watch, is_missing)
    };
    reply_int(answer)
}
