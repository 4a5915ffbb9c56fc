//! What a path of the program leads to.

pub(crate) mod links;

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::call::Entry;
use crate::descriptors::{self, Kind};
use crate::inside::Inside;
use crate::state::{self, State};

/// What a path leads to.
pub(crate) enum Place {
    /// To the host.
    Host,
    /// To a file that the folder of the machine's tree really has.
    Shown(CString),
    /// To a node or an attribute of the machine, with its path in the machine and in the folder.
    Machine { state: &'static State, path: PathBuf, shown: CString },
}

/// Whether the working directory is in the folder of the tree, or the root, which is above it.
static IN_TREE: AtomicBool = AtomicBool::new(false);

/// What a path leads to. It starts at a directory if it is relative; a link at its end is followed if `follow`.
///
/// # Safety
///
/// The path is null or a string that ends in a zero.
pub(crate) unsafe fn place(directory: c_int, path: *const c_char, follow: bool) -> Place {
    // SAFETY: as the caller has promised.
    let Some(path) = (unsafe { leading_path(directory, path) }) else { return Place::Host };
    // What the library itself opens is the host's.
    let Some(_inside) = Inside::enter() else { return Place::Host };
    look(directory, path, follow).unwrap_or(Place::Host)
}

/// The descriptor of this process that a path names, if it is one of `/proc` or of `/dev/fd`.
///
/// # Safety
///
/// The path is null or a string that ends in a zero.
pub(crate) unsafe fn descriptor(path: *const c_char) -> Option<c_int> {
    if path.is_null() || state::settings().is_none() {
        return None;
    }
    // SAFETY: it is not null, and the caller has promised the rest.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let number = match path.strip_prefix(b"/proc/") {
        Some(below) => {
            let (process, number) = str::from_utf8(below).ok()?.split_once("/fd/")?;
            let is_own =
                ["self", "thread-self"].contains(&process) || process.parse() == Ok(std::process::id());
            is_own.then_some(number)?
        }
        None => str::from_utf8(path.strip_prefix(b"/dev/fd/")?).ok()?,
    };
    number.parse().ok()
}

/// Whether a path may lead to the machine by its names. If not, only links of the host's may ([`place_behind_links`]).
///
/// # Safety
///
/// As for [`place`].
pub(crate) unsafe fn leads(directory: c_int, path: *const c_char) -> bool {
    // SAFETY: as the caller has promised.
    unsafe { leading_path(directory, path) }.is_some()
}

/// A path, if it may.
///
/// # Safety
///
/// As for [`place`].
unsafe fn leading_path<'a>(directory: c_int, path: *const c_char) -> Option<&'a [u8]> {
    if path.is_null() || state::settings().is_none() {
        return None;
    }
    // SAFETY: it is not null, and the caller has promised the rest.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    (!is_plainly_of_host(directory, path)).then_some(path)
}

fn look(directory: c_int, path: &[u8], follow: bool) -> Option<Place> {
    let absolute = match path {
        [b'/', ..] => PathBuf::from(OsStr::from_bytes(path)),
        // An empty path means the descriptor itself.
        [] => return None,
        _ => base(directory)?.join(OsStr::from_bytes(path)),
    };
    let found = if may_lead_to_machine(absolute.as_os_str().as_bytes()) {
        let state = state::get()?;
        state.look_up(&absolute, follow).ok().map(|entry| (state, entry))
    } else {
        None
    };
    let Some((state, entry)) = found else {
        // In a directory of the tree the folder has a link for what is the host's: that itself is meant.
        let is_name = !path.starts_with(b"/") && !path.contains(&b'/') && path != b"..";
        return if is_name { c_string(absolute).map(Place::Shown) } else { None };
    };
    let answers = entry != Entry::Shown;
    // The folder has no /proc: what the host has there is about the process that looks.
    if !answers && absolute.starts_with("/proc") {
        return None;
    }
    // Who asks about a file of a process is told what the host has there.
    let is_of_process = absolute.starts_with("/proc");
    let shown = if is_of_process { absolute.clone() } else { state.shown_path(&plain(&absolute)) };
    let shown = c_string(shown)?;
    Some(if answers { Place::Machine { state, path: absolute, shown } } else { Place::Shown(shown) })
}

/// Whether a path leads to the host, as most do, by a look at where it begins.
fn is_plainly_of_host(directory: c_int, path: &[u8]) -> bool {
    match path {
        [] => true,
        [b'/', ..] => !may_lead_to_machine(path),
        _ if directory == libc::AT_FDCWD => !IN_TREE.load(Ordering::Relaxed),
        _ => descriptors::kind(directory) != Kind::Directory,
    }
}

/// Whether an absolute path may lead to the machine: it goes through a directory in which it has something. All calls on paths pay for this.
fn may_lead_to_machine(path: &[u8]) -> bool {
    let is_name = |name: &&[u8]| !name.is_empty() && *name != b".";
    let mut names = path.split(|&byte| byte == b'/').filter(is_name);
    let leads = match names.next() {
        Some(b"dev") => matches!(names.next(), None | Some(b"iommu" | b"kmsg" | b"vfio")),
        Some(b"sys" | b"proc") => true,
        _ => false,
    };
    leads || path.windows(2).any(|pair| pair == b"..")
}

fn target_of(link: impl AsRef<Path>) -> Option<PathBuf> {
    let target = rustix::fs::readlink(link.as_ref(), Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()).into())
}

/// The path in the machine of a directory of the tree, or of the root.
fn base(directory: c_int) -> Option<PathBuf> {
    let link = match directory {
        libc::AT_FDCWD if IN_TREE.load(Ordering::Relaxed) => "/proc/self/cwd".to_owned(),
        libc::AT_FDCWD => return None,
        number if descriptors::kind(number) == Kind::Directory => format!("/proc/self/fd/{number}"),
        _ => return None,
    };
    let real = rustix::fs::readlink(link.as_str(), Vec::new()).ok()?.into_bytes();
    let path = if real == b"/" { &real } else { without_root(&real)? };
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// A path without `..`, as far as names alone tell.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

fn c_string(path: PathBuf) -> Option<CString> {
    CString::new(path.into_os_string().into_vec()).ok()
}

/// The path in the machine that a real one in the folder of the tree has.
pub(crate) fn without_root(real: &[u8]) -> Option<&[u8]> {
    let root = state::settings()?.root.as_os_str().as_bytes();
    match real.strip_prefix(root)? {
        [] => Some(b"/"),
        below @ [b'/', ..] => Some(below),
        _ => None,
    }
}

/// Takes the folder of the tree away from the front of a path.
///
/// # Safety
///
/// `path` is null or a string that ends in a zero and may be written to.
pub(crate) unsafe fn strip_root(path: *mut c_char) {
    if path.is_null() {
        return;
    }
    // SAFETY: as the caller has promised; what is written is shorter than what was there.
    unsafe {
        if let Some(below) = without_root(CStr::from_ptr(path).to_bytes()) {
            std::ptr::copy(below.as_ptr().cast(), path, below.len());
            *path.add(below.len()) = 0;
        }
    }
}

/// The program is in another working directory. If that is one of the host's which the tree has, too (a link led there), it goes on in the
/// tree.
pub(crate) fn change_working_directory() {
    let here = working_directory();
    let is_shadowed = |here: &&PathBuf| may_lead_to_machine(here.as_os_str().as_bytes());
    let place = here.as_ref().filter(is_shadowed).and_then(|here| c_string(here.clone())).map(|here| {
        // SAFETY: it is a string.
        unsafe { place(libc::AT_FDCWD, here.as_ptr(), true) }
    });
    match place {
        Some(Place::Shown(shown)) if rustix::process::chdir(&shown).is_ok() => look_where_we_are(),
        _ => remember(here),
    }
}

/// Looks whether the working directory is in the tree or above it.
pub(crate) fn look_where_we_are() {
    remember(working_directory());
}

fn working_directory() -> Option<PathBuf> {
    target_of("/proc/self/cwd")
}

fn remember(here: Option<PathBuf>) {
    let is_there = |here: &[u8]| here == b"/" || without_root(here).is_some();
    IN_TREE.store(here.is_some_and(|here| is_there(here.as_os_str().as_bytes())), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_a_path_tells_most_of_the_host_s() {
        let leads =
            ["/dev", "//dev/./vfio/5", "/dev/kmsg", "/./sys", "/proc/self/fd", "/tmp/../dev/iommu", "/.."];
        leads.iter().for_each(|path| assert!(may_lead_to_machine(path.as_bytes()), "{path}"));
        let others = ["/", "/.", "/devices", "/dev/null", "/dev/shm/vfio", "/home/dev/vfio", "/usr/lib/sys"];
        others.iter().for_each(|path| assert!(!may_lead_to_machine(path.as_bytes()), "{path}"));
    }
}
