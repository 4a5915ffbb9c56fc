//! Links of the host's that lead to the machine, as one in a home directory to `/dev/vfio/vfio`.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Place, look, may_lead_to_machine, target_of, working_directory};
use crate::inside::Inside;
use crate::raw::Answer;
use crate::state;

/// What a path leads to by such links. To look for them costs system calls: it is done where the host has nothing for the program
/// ([`is_missing`]), or its own file of such a directory ([`is_shadowed`]).
///
/// # Safety
///
/// As for [`super::place`].
pub(crate) unsafe fn place_behind_links(directory: c_int, path: *const c_char, follow: bool) -> Place {
    if path.is_null() || state::settings().is_none() {
        return Place::Host;
    }
    let Some(_inside) = Inside::enter() else { return Place::Host };
    // SAFETY: it is not null, and the caller has promised the rest.
    let path = unsafe { CStr::from_ptr(path) };
    let beyond = || {
        let beyond =
            if has_links(directory, path, follow) { beyond_links(directory, path, follow) } else { None };
        look(libc::AT_FDCWD, beyond?.as_os_str().as_bytes(), follow)
    };
    beyond().unwrap_or(Place::Host)
}

/// Whether an answer of the host's says that it has nothing at a path, or nothing that the program may have.
pub(crate) fn is_missing(answer: Answer) -> bool {
    matches!(answer, Err(libc::ENOENT | libc::EACCES | libc::ENXIO | libc::ENODEV))
}

/// Whether a file that the host has found, by its file system, is of a directory in which the machine has something.
pub(crate) fn is_shadowed(device: u64) -> bool {
    state::settings().is_some_and(|settings| settings.shadowed.contains(&device))
}

/// The file systems of those directories.
pub(crate) fn shadowed() -> [u64; 2] {
    ["/dev", "/sys"].map(|top| rustix::fs::stat(top).map_or(u64::MAX, |stat| stat.st_dev))
}

/// Whether there may be a link on the way: one call tells of most paths that there is none.
fn has_links(directory: c_int, path: &CStr, follow: bool) -> bool {
    let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let directory = match directory {
        0.. if !path.to_bytes().starts_with(b"/") => directory,
        _ => libc::AT_FDCWD,
    };
    let opened = openat2(
        // SAFETY: it is that of a directory, or the kernel says that it is none.
        unsafe { BorrowedFd::borrow_raw(directory) },
        path,
        OFlags::PATH | OFlags::CLOEXEC | last,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    );
    // Where the host has no such call, it is not known.
    matches!(opened, Err(Errno::LOOP | Errno::NOSYS | Errno::PERM))
}

/// The path at which links come into a directory in which the machine has something, with what follows there.
fn beyond_links(directory: c_int, path: &CStr, follow: bool) -> Option<PathBuf> {
    /// Links that the kernel follows in a path.
    const MOST: usize = 40;
    let names = |path: &[u8]| -> Vec<OsString> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        names.rev().map(|name| OsString::from_vec(name.to_vec())).collect()
    };
    let mut left = names(path.to_bytes());
    let mut at = match (path.to_bytes(), directory) {
        ([b'/', ..], _) => PathBuf::from("/"),
        (_, libc::AT_FDCWD) => working_directory()?,
        (_, number) => target_of(format!("/proc/self/fd/{number}"))?,
    };
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(name);
        if links > 0 && may_lead_to_machine(at.as_os_str().as_bytes()) {
            at.extend(left.into_iter().rev());
            return Some(at);
        }
        if left.is_empty() && !follow {
            break;
        }
        if let Some(target) = target_of(&at) {
            links += 1;
            if links > MOST {
                break;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(names(target.as_os_str().as_bytes()));
        }
    }
    None
}
