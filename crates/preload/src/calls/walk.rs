//! `nftw` and `ftw` from paths of the tree on, or from above it: libc's walk by calls of its own, and would see the folder or the host.

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;

use libc::{AT_FDCWD, stat as Stat};
use rustix::fs::{Mode, OFlags};

use super::directory::{chdir, fchdir};
use super::listing::names_in;
use super::next::next;
use super::path::{lstat, stat};
use crate::paths::links::place_behind_links;
use crate::paths::{Place, place};
use crate::raw::reply_int;
use crate::state;

/// Where an entry is: where its name begins in the path, and how deep.
#[repr(C)]
pub struct Where {
    base: c_int,
    level: c_int,
}

type Visit = unsafe extern "C-unwind" fn(*const c_char, *const Stat, c_int, *mut Where) -> c_int;
type PlainVisit = unsafe extern "C-unwind" fn(*const c_char, *const Stat, c_int) -> c_int;

/// The flags.
const PHYSICAL: c_int = 1;
const ONE_MOUNT: c_int = 2;
const CHANGE_DIRECTORY: c_int = 4;
const DEPTH_FIRST: c_int = 8;
const ACTIONS: c_int = 16;

/// What an entry is.
const FILE: c_int = 0;
const DIRECTORY: c_int = 1;
const UNREADABLE: c_int = 2;
const UNKNOWN: c_int = 3;
const LINK: c_int = 4;
const DIRECTORY_DONE: c_int = 5;
const DANGLING: c_int = 6;

/// What a visit answers, if it may choose.
const SKIP_BELOW: c_int = 2;
const SKIP_BESIDE: c_int = 3;

/// A walk.
struct Walk<V> {
    visit: V,
    flags: c_int,
    /// The file system that it began on.
    device: Option<u64>,
    /// The working directory at the beginning, if it changes.
    start: Option<c_int>,
    /// The directories that links led to, so that none is walked twice.
    seen: HashSet<(u64, u64)>,
}

impl<V: FnMut(&CStr, &Stat, c_int, Where) -> c_int> Walk<V> {
    fn has(&self, flag: c_int) -> bool {
        self.flags & flag != 0
    }

    fn tell(&mut self, path: &CStr, stat: &Stat, kind: c_int, level: c_int) -> c_int {
        let base = path.to_bytes().iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        if self.has(CHANGE_DIRECTORY) && !self.go_to(&path.to_bytes()[..base]) {
            return -1;
        }
        (self.visit)(path, stat, kind, Where { base: base as c_int, level })
    }

    /// Goes to a directory, by way of where the walk began.
    fn go_to(&self, directory: &[u8]) -> bool {
        let (Some(start), Ok(directory)) = (self.start, CString::new(directory)) else { return false };
        // SAFETY: the path is a string.
        fchdir(start) == 0 && (directory.is_empty() || unsafe { chdir(directory.as_ptr()) } == 0)
    }

    /// Walks from a path on. What a visit has answered to end it, or 0.
    fn go(&mut self, path: &CStr, level: c_int) -> c_int {
        if self.has(CHANGE_DIRECTORY) && !self.go_to(b"") {
            return -1;
        }
        let Some((stat, kind)) = self.look(path) else {
            // SAFETY: a `stat` may be all zero.
            return self.tell(path, &unsafe { std::mem::zeroed() }, UNKNOWN, level);
        };
        if self.has(ONE_MOUNT) && *self.device.get_or_insert(stat.st_dev) != stat.st_dev {
            return 0;
        }
        if kind != DIRECTORY {
            return self.tell(path, &stat, kind, level);
        }
        if !self.has(PHYSICAL) && !self.seen.insert((stat.st_dev, stat.st_ino)) {
            return 0;
        }
        let Ok(mut names) = names_in(path) else {
            return self.tell(path, &stat, UNREADABLE, level);
        };
        names.retain(|name| ![c".", c".."].contains(&name.as_c_str()));
        if !self.has(DEPTH_FIRST) {
            match self.tell(path, &stat, DIRECTORY, level) {
                0 => {}
                SKIP_BELOW if self.has(ACTIONS) => return 0,
                ends => return ends,
            }
        }
        for name in names {
            let separator: &[u8] = if path.to_bytes().ends_with(b"/") { b"" } else { b"/" };
            let Ok(below) = CString::new([path.to_bytes(), separator, name.to_bytes()].concat()) else {
                continue;
            };
            match self.go(&below, level + 1) {
                0 => {}
                SKIP_BELOW if self.has(ACTIONS) => {}
                SKIP_BESIDE if self.has(ACTIONS) => break,
                ends => return ends,
            }
        }
        if self.has(DEPTH_FIRST) { self.tell(path, &stat, DIRECTORY_DONE, level) } else { 0 }
    }

    /// What there is at a path.
    fn look(&self, path: &CStr) -> Option<(Stat, c_int)> {
        let ask = |look: unsafe extern "C-unwind" fn(*const c_char, *mut Stat) -> c_int| {
            let mut answer = MaybeUninit::uninit();
            // SAFETY: the path is a string, and the answer is written if there is one.
            unsafe { (look(path.as_ptr(), answer.as_mut_ptr()) == 0).then(|| answer.assume_init()) }
        };
        let kind = |stat: &Stat| match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => DIRECTORY,
            libc::S_IFLNK => LINK,
            _ => FILE,
        };
        let there = if self.has(PHYSICAL) { None } else { ask(stat) };
        let found = there.or_else(|| ask(lstat))?;
        Some(match kind(&found) {
            LINK if !self.has(PHYSICAL) => (found, DANGLING),
            kind => (found, kind),
        })
    }
}

/// Whether a path leads to the tree, or to the root, which is above it.
///
/// # Safety
///
/// The path is null or a string that ends in a zero.
pub(super) unsafe fn is_shown(path: *const c_char) -> bool {
    // SAFETY: as the program has promised.
    let places = unsafe { [place(AT_FDCWD, path, true), place_behind_links(AT_FDCWD, path, true)] };
    if places.iter().any(|place| !matches!(place, Place::Host)) {
        return true;
    }
    if path.is_null() || state::settings().is_none() {
        return false;
    }
    // SAFETY: as above.
    let found = rustix::fs::stat(unsafe { CStr::from_ptr(path) });
    let same = |found: rustix::fs::Stat, root: rustix::fs::Stat| {
        (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino)
    };
    found.and_then(|found| Ok(same(found, rustix::fs::stat("/")?))).unwrap_or(false)
}

/// `nftw(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn nftw(
    path: *const c_char,
    visit: Visit,
    descriptors: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as the program has promised.
    if !unsafe { is_shown(path) } {
        return next!(
            c"nftw",
            fn(*const c_char, Visit, c_int, c_int) -> c_int,
            (path, visit, descriptors, flags),
            -1
        );
    }
    // SAFETY: as the program has promised.
    let visit = |path: &CStr, stat: &Stat, kind, mut place| unsafe {
        visit(path.as_ptr(), stat, kind, &raw mut place)
    };
    // SAFETY: as the program has promised.
    unsafe { walk(path, visit, flags) }
}

/// `nftw(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn nftw64(
    path: *const c_char,
    visit: Visit,
    descriptors: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { nftw(path, visit, descriptors, flags) }
}

/// `ftw(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ftw(path: *const c_char, visit: PlainVisit, descriptors: c_int) -> c_int {
    // SAFETY: as the program has promised.
    if !unsafe { is_shown(path) } {
        return next!(c"ftw", fn(*const c_char, PlainVisit, c_int) -> c_int, (path, visit, descriptors), -1);
    }
    // SAFETY: as the program has promised.
    let visit = |path: &CStr, stat: &Stat, kind, _| unsafe {
        visit(path.as_ptr(), stat, if kind == DANGLING { UNKNOWN } else { kind })
    };
    // SAFETY: as the program has promised.
    unsafe { walk(path, visit, 0) }
}

/// `ftw(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ftw64(path: *const c_char, visit: PlainVisit, descriptors: c_int) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { ftw(path, visit, descriptors) }
}

/// # Safety
///
/// The path is a string that ends in a zero.
unsafe fn walk(
    path: *const c_char,
    visit: impl FnMut(&CStr, &Stat, c_int, Where) -> c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: as the caller has promised.
    let path = unsafe { CStr::from_ptr(path) };
    let start = if flags & CHANGE_DIRECTORY == 0 {
        None
    } else {
        match rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(start) => Some(start),
            Err(errno) => return reply_int(Err(errno.raw_os_error())),
        }
    };
    let number = start.as_ref().map(|start| start.as_raw_fd());
    let answer = Walk { visit, flags, start: number, device: None, seen: HashSet::new() }.go(path, 0);
    let _back = number.map(|number| fchdir(number));
    answer
}
