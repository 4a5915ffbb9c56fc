//! Opening by path.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::{AT_FDCWD, mode_t, open_how};
use machine::FileKey;
use sys::guarded;

use super::io::LOG;
use crate::call::NOT_OURS;
use crate::descriptors::{self, Kind};
use crate::filter;
use crate::inside::{Inside, shielded};
use crate::paths::links::{is_missing, is_shadowed, place_behind_links};
use crate::paths::{self, Place, leads, place};
use crate::raw::{Answer, raw, reply_int, waiting};
use crate::report::Kind as Line;
use crate::state::{self, State};
use crate::tree;

/// Opens a path, of the machine or of the host.
///
/// # Safety
///
/// The path is null or a string that ends in a zero.
pub(super) unsafe fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> Answer {
    // SAFETY: as the caller has promised.
    let descriptor = unsafe { paths::descriptor(path) };
    if let Some(opened) = descriptor.and_then(|number| shielded(|| open_again(number, flags))) {
        return opened;
    }
    let follow = flags & libc::O_NOFOLLOW == 0;
    // SAFETY: the kernel checks the path, which is a string if it could be opened.
    let on_host = || unsafe {
        let opened = waiting!(SYS_openat, directory, path, flags, mode)?;
        if CStr::from_ptr(path) == c"/" {
            // Paths from there on may lead to the tree.
            descriptors::set(opened as c_int, Kind::Directory);
        }
        Ok(opened)
    };
    // SAFETY: as the caller has promised.
    let leads = unsafe { leads(directory, path) };
    // SAFETY: as above.
    let by_names = || open_in(unsafe { place(directory, path, follow) }, flags, mode);
    // SAFETY: as above.
    let by_links = || open_in(unsafe { place_behind_links(directory, path, follow) }, flags, mode);
    if leads && let Some(opened) = shielded(by_names) {
        return opened;
    }
    let opened = on_host();
    if is_missing(opened) {
        return shielded(by_links).unwrap_or_else(|| {
            if leads && opened == Err(libc::ENOENT) {
                // SAFETY: the kernel has found it to be a string.
                shielded(|| explain_missing(unsafe { CStr::from_ptr(path) }));
            }
            opened
        });
    }
    if let Ok(number) = opened
        && !leads
        && is_of_a_shadowed_directory(number as c_int, flags)
        && let Some(instead) = shielded(by_links)
    {
        descriptors::close(number as c_int).ok();
        return instead;
    }
    opened
}

/// Whether what was opened is one of the host's directories, or nodes, in whose place the machine may have something. Files that are only
/// read are not looked at: most calls that open open those.
fn is_of_a_shadowed_directory(number: c_int, flags: c_int) -> bool {
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & (libc::O_CREAT | libc::O_TRUNC) == 0;
    if flags & libc::O_DIRECTORY == 0 && !writes {
        return false;
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: there is room for the answer, which is written if there is one.
    unsafe { raw!(SYS_fstat, number, stat.as_mut_ptr()).is_ok() && is_shadowed(stat.assume_init().st_dev) }
}

/// Tells of a node that the machine does not have, if that is asked for.
fn explain_missing(path: &CStr) {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    if !path.starts_with("/dev/iommu") && !path.starts_with("/dev/vfio") {
        return;
    }
    let Some(settings) = state::settings().filter(|settings| settings.report.explains) else { return };
    let Some(_inside) = Inside::enter() else { return };
    let mut nodes = Vec::new();
    for folder in ["/dev", "/dev/vfio", "/dev/vfio/devices"].map(Path::new) {
        let shown = tree::inside(&settings.root, folder);
        let entries = fs::read_dir(shown).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        nodes.extend(files.map(|file| folder.join(file.file_name()).display().to_string()));
    }
    nodes.sort_unstable();
    let (path, nodes) = (path.display(), nodes.join(", "));
    settings.report.tell(
        Line::Call,
        format_args!(
            "open {path}: ENOENT (no such file or directory): the machine has no such node; it has {nodes}"
        ),
    );
}

/// Opens what is at a place of the machine; `None` if it is the host's.
fn open_in(place: Place, flags: c_int, mode: mode_t) -> Option<Answer> {
    match place {
        Place::Host => None,
        Place::Shown(shown) => {
            // SAFETY: the path is a string that is alive.
            let opened = unsafe { raw!(SYS_openat, AT_FDCWD, shown.as_c_str(), flags, mode) };
            if let Ok(number) = opened {
                descriptors::set(number as c_int, Kind::Directory);
            }
            Some(opened)
        }
        // Looked at, not opened.
        Place::Machine { state, path, shown } if flags & libc::O_PATH != 0 => {
            // SAFETY: as above.
            let opened = unsafe { raw!(SYS_openat, AT_FDCWD, shown.as_c_str(), flags, mode) };
            if let Ok(number) = opened {
                hold(state, &path, number as c_int);
            }
            Some(opened)
        }
        Place::Machine { state, path, .. } => {
            Some(open_file(state, &path, flags, |read, write| state.open(&path, read, write)))
        }
    }
}

/// A descriptor stands for what was looked at: it can be opened by that.
fn hold(state: &State, path: &Path, number: c_int) {
    let _inside = Inside::enter();
    let key = descriptors::lend(number, |descriptor| FileKey::of(descriptor).ok()).flatten();
    // What is not held is not found when it is to be opened.
    if key.is_some_and(|key| state.hold(key, path).is_ok()) {
        descriptors::set(number, Kind::Handle);
    }
}

/// Opens once more what a descriptor of the machine stands for; `None` if it is the host's.
fn open_again(number: c_int, flags: c_int) -> Option<Answer> {
    if flags & (libc::O_PATH | libc::O_NOFOLLOW) != 0
        || ![Kind::Machine, Kind::Handle].contains(&descriptors::kind(number))
    {
        return None;
    }
    let state = state::existing()?;
    let key = descriptors::lend(number, |descriptor| FileKey::of(descriptor).ok()).flatten()?;
    let opened = open_file(
        state,
        Path::new("/proc/self/fd").join(number.to_string()).as_path(),
        flags,
        |read, write| state.reopen(key, read, write),
    );
    Some(opened).filter(|opened| *opened != Err(NOT_OURS))
}

/// Opens a file of the machine.
fn open_file(
    state: &State,
    path: &Path,
    flags: c_int,
    open: impl FnOnce(bool, bool) -> Result<OwnedFd, c_int>,
) -> Answer {
    if flags & libc::O_DIRECTORY != 0 {
        return Err(libc::ENOTDIR);
    }
    if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
        return Err(libc::EEXIST);
    }
    let access = flags & libc::O_ACCMODE;
    let _inside = Inside::enter();
    let descriptor = open(access != libc::O_WRONLY, access != libc::O_RDONLY)?;
    state.used();
    filter::install(state.settings);
    let number = descriptor.into_raw_fd();
    state.made(format_args!("open {}: {number}", path.display()));
    if flags & libc::O_CLOEXEC == 0 {
        // SAFETY: it is the number of a descriptor that was made here.
        unsafe { raw!(SYS_fcntl, number, libc::F_SETFD, 0) }?;
    }
    if flags & libc::O_NONBLOCK != 0 || path == Path::new(LOG) {
        // SAFETY: as above.
        unsafe { raw!(SYS_fcntl, number, libc::F_SETFL, flags & libc::O_NONBLOCK) }?;
    }
    descriptors::set(number, Kind::Machine);
    Ok(number as usize)
}

/// `openat2(2)`. In the tree there are no limits to what a path leads through: ENOSYS, upon which programs do without them.
///
/// # Safety
///
/// As for the system call.
pub(super) unsafe fn openat2(
    directory: c_int,
    path: *const c_char,
    how: *const open_how,
    size: usize,
) -> Answer {
    // SAFETY: the kernel checks all of it.
    let on_host = || unsafe { raw!(SYS_openat2, directory, path, how, size) };
    let mut wanted = [0; size_of::<open_how>()];
    // What is not there, or of another size, the kernel refuses.
    // SAFETY: a fault is recovered from.
    if size != wanted.len() || unsafe { guarded::read(how.expose_provenance() as u64, &mut wanted) }.is_err()
    {
        return on_host();
    }
    // SAFETY: three numbers, of which any bytes are some.
    let [flags, mode, resolve] = unsafe { std::mem::transmute::<[u8; 24], [u64; 3]>(wanted) };
    // SAFETY: as the program has promised.
    let is_of_host =
        || matches!(unsafe { place(directory, path, flags & libc::O_NOFOLLOW as u64 == 0) }, Place::Host);
    // SAFETY: as the program has promised.
    if unsafe { !leads(directory, path) } || shielded(is_of_host) {
        let opened = on_host();
        if resolve != 0 || !is_missing(opened) {
            return opened;
        }
    } else if resolve != 0 {
        return Err(libc::ENOSYS);
    }
    // SAFETY: as the program has promised.
    unsafe { open_at(directory, path, flags as c_int, mode as mode_t) }
}

macro_rules! opens {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) => ($directory:expr, $path:expr, $flags:expr, $mode:expr);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the program has promised to libc that the path is a string.
            reply_int(unsafe { open_at($directory, $path, $flags, $mode) })
        }
    )*};
}

// Where C passes a variable number of arguments, they are in the same registers as these.
opens! {
    /// `open(2)`
    open(path: *const c_char, flags: c_int, mode: mode_t) => (AT_FDCWD, path, flags, mode);
    /// `open(2)`
    open64(path: *const c_char, flags: c_int, mode: mode_t) => (AT_FDCWD, path, flags, mode);
    /// `open(2)`, checked
    __open_2(path: *const c_char, flags: c_int) => (AT_FDCWD, path, flags, 0);
    /// `open(2)`, checked
    __open64_2(path: *const c_char, flags: c_int) => (AT_FDCWD, path, flags, 0);
    /// `openat(2)`
    openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) => (directory, path, flags, mode);
    /// `openat(2)`
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) => (directory, path, flags, mode);
    /// `openat(2)`, checked
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) => (directory, path, flags, 0);
    /// `openat(2)`, checked
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) => (directory, path, flags, 0);
    /// `creat(2)`
    creat(path: *const c_char, mode: mode_t) => (AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
    /// `creat(2)`
    creat64(path: *const c_char, mode: mode_t) => (AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
}
