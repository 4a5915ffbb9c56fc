//! Reading directories of the tree: entries have the kinds that the program is told elsewhere, not those of the folder's files.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use libc::{DIR, dirent, dirent64};

use super::directory::opendir;
use super::next::next;
use crate::descriptors::{self, Kind};

type Filter = unsafe extern "C-unwind" fn(*const dirent) -> c_int;
type Order = unsafe extern "C-unwind" fn(*mut *const dirent, *mut *const dirent) -> c_int;

/// Sets the kind of an entry, if it is one of a directory of the tree.
///
/// # Safety
///
/// The directory is open, and the name a string.
unsafe fn set_kind(directory: *mut DIR, name: *const c_char, kind: &mut u8) {
    // SAFETY: as the program has promised.
    let number = unsafe { libc::dirfd(directory) };
    if descriptors::kind(number) != Kind::Directory || ![libc::DT_REG, libc::DT_LNK].contains(kind) {
        return;
    }
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: the name is a string, and there is room for the answer.
    let found = unsafe { super::path::stat_at(number, name, stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    if found == 0 {
        // SAFETY: it has been written.
        let mode = unsafe { stat.assume_init() }.st_mode;
        // The kinds of entries are those of modes, further down.
        *kind = ((mode & libc::S_IFMT) >> 12) as u8;
    }
}

macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident, $next:literal, $entry:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(directory: *mut DIR) -> *mut $entry {
            let entry = next!($next, fn(*mut DIR) -> *mut $entry, (directory), ptr::null_mut());
            // SAFETY: libc answers null or an entry that is there until the next call.
            if let Some(entry) = unsafe { entry.as_mut() } {
                // SAFETY: the directory is open, as it has just been read.
                unsafe { set_kind(directory, entry.d_name.as_ptr(), &mut entry.d_type) };
            }
            entry
        }
    )*};
}

reads! {
    /// `readdir(3)`
    readdir, c"readdir", dirent;
    /// `readdir(3)`
    readdir64, c"readdir64", dirent64;
}

/// `closedir(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn closedir(directory: *mut DIR) -> c_int {
    // SAFETY: as the program has promised.
    descriptors::set(unsafe { libc::dirfd(directory) }, Kind::Host);
    next!(c"closedir", fn(*mut DIR) -> c_int, (directory), -1)
}

/// The names in a directory, or why it cannot be read.
pub(super) fn names_in(path: &CStr) -> Result<Vec<CString>, c_int> {
    // SAFETY: the path is a string; the directory is open until it is closed here, and an entry's name is a string.
    unsafe {
        let directory = opendir(path.as_ptr());
        if directory.is_null() {
            return Err(*libc::__errno_location());
        }
        let mut names = Vec::new();
        while let Some(entry) = readdir(directory).as_ref() {
            names.push(CStr::from_ptr(entry.d_name.as_ptr()).to_owned());
        }
        closedir(directory);
        Ok(names)
    }
}

/// `scandir(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn scandir(
    path: *const c_char,
    list: *mut *mut *mut dirent,
    filter: Option<Filter>,
    order: Option<Order>,
) -> c_int {
    // SAFETY: as the program has promised.
    let directory = unsafe { opendir(path) };
    if directory.is_null() {
        return -1;
    }
    let mut entries: Vec<*mut dirent> = Vec::new();
    // SAFETY: the directory is open until it is closed here; an entry has the length that it tells; `free` is what the program gives entries
    // and the list back with.
    unsafe {
        while let Some(entry) = readdir(directory).as_mut() {
            if filter.is_none_or(|filter| filter(entry) != 0) {
                let length = usize::from(entry.d_reclen);
                let copy = libc::malloc(length).cast::<u8>();
                ptr::copy_nonoverlapping(ptr::from_ref(entry).cast(), copy, length);
                entries.push(copy.cast());
            }
        }
        closedir(directory);
        let room = entries.len() * size_of::<*mut dirent>();
        let array = libc::malloc(room.max(1)).cast::<*mut dirent>();
        ptr::copy_nonoverlapping(entries.as_ptr(), array, entries.len());
        if let Some(order) = order {
            let order = std::mem::transmute::<
                Order,
                unsafe extern "C" fn(*const c_void, *const c_void) -> c_int,
            >(order);
            libc::qsort(array.cast(), entries.len(), size_of::<*mut dirent>(), Some(order));
        }
        *list = array;
    }
    entries.len() as c_int
}

/// `scandir(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn scandir64(
    path: *const c_char,
    list: *mut *mut *mut dirent,
    filter: Option<Filter>,
    order: Option<Order>,
) -> c_int {
    // SAFETY: as the program has promised; both kinds of entries are the same with 64 bits.
    unsafe { scandir(path, list, filter, order) }
}
