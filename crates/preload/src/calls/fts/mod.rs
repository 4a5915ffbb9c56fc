//! `fts_open` and its kin, from paths of the tree on, or from above it, as `walk` does it for `nftw`. The working directory stays: an entry is
//! reached by its path (as with `FTS_NOCHDIR`).

mod entry;
mod walk;

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::{LazyLock, Mutex, PoisonError};

use self::entry::{AGAIN, Entry, FOLLOW, NOTHING, SKIP};
use self::walk::{ALL_OPTIONS, Compare, Fts, Walk};
use super::next::next;
use super::walk::is_shown;

/// The walks that are ours, by their address.
static WALKS: LazyLock<Mutex<HashSet<usize>>> = LazyLock::new(Mutex::default);

fn is_ours(fts: *mut Fts) -> bool {
    WALKS.lock().unwrap_or_else(PoisonError::into_inner).contains(&fts.addr())
}

fn set_errno(errno: c_int) {
    // SAFETY: it points to the calling thread's own errno.
    unsafe { *libc::__errno_location() = errno };
}

/// Begins a walk, if any of the paths is of the tree or above it.
unsafe fn open(paths: *const *const c_char, options: c_int, compare: Option<Compare>) -> Option<*mut Fts> {
    let mut given = Vec::new();
    // SAFETY: the program has promised strings, with a null pointer behind the last.
    let any = unsafe {
        let mut any = false;
        for at in 0.. {
            let path = *paths.add(at);
            if path.is_null() {
                break;
            }
            any |= is_shown(path);
            given.push(CStr::from_ptr(path).to_owned());
        }
        any
    };
    if !any {
        return None;
    }
    if options & !ALL_OPTIONS != 0 || given.iter().any(|path| path.is_empty()) {
        set_errno(if options & !ALL_OPTIONS != 0 { libc::EINVAL } else { libc::ENOENT });
        return Some(ptr::null_mut());
    }
    let walk = Box::into_raw(Box::new(Walk::begin(given, options, compare)));
    WALKS.lock().unwrap_or_else(PoisonError::into_inner).insert(walk.addr());
    Some(walk.cast())
}

macro_rules! walks {
    ($($open:ident $open_next:literal, $read:ident $read_next:literal, $children:ident $children_next:literal,
       $set:ident $set_next:literal, $close:ident $close_next:literal;)*) => {$(
        /// `fts_open(3)`
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $open(
            paths: *const *const c_char,
            options: c_int,
            compare: Option<Compare>,
        ) -> *mut Fts {
            // SAFETY: as the program has promised.
            unsafe { open(paths, options, compare) }.unwrap_or_else(|| {
                next!(
                    $open_next,
                    fn(*const *const c_char, c_int, Option<Compare>) -> *mut Fts,
                    (paths, options, compare),
                    ptr::null_mut()
                )
            })
        }

        /// `fts_read(3)`
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $read(fts: *mut Fts) -> *mut Entry {
            if !is_ours(fts) {
                return next!($read_next, fn(*mut Fts) -> *mut Entry, (fts), ptr::null_mut());
            }
            // SAFETY: it is a walk of ours, which has not been closed.
            unsafe { &mut *fts.cast::<Walk>() }.read()
        }

        /// `fts_children(3)`
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $children(fts: *mut Fts, options: c_int) -> *mut Entry {
            if !is_ours(fts) {
                return next!(
                    $children_next,
                    fn(*mut Fts, c_int) -> *mut Entry,
                    (fts, options),
                    ptr::null_mut()
                );
            }
            // SAFETY: as above.
            unsafe { &mut *fts.cast::<Walk>() }.children(options)
        }

        /// `fts_set(3)`
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $set(fts: *mut Fts, entry: *mut Entry, instruction: c_int) -> c_int {
            if !is_ours(fts) {
                return next!(
                    $set_next,
                    fn(*mut Fts, *mut Entry, c_int) -> c_int,
                    (fts, entry, instruction),
                    1
                );
            }
            match u16::try_from(instruction) {
                Ok(instruction @ (0 | AGAIN | FOLLOW | NOTHING | SKIP)) => {
                    // SAFETY: the program passes an entry of the walk.
                    unsafe { (*entry).instruction = instruction };
                    0
                }
                _ => {
                    set_errno(libc::EINVAL);
                    1
                }
            }
        }

        /// `fts_close(3)`
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $close(fts: *mut Fts) -> c_int {
            if !WALKS.lock().unwrap_or_else(PoisonError::into_inner).remove(&fts.addr()) {
                return next!($close_next, fn(*mut Fts) -> c_int, (fts), -1);
            }
            // SAFETY: it was made from a box, and is none of ours any more.
            drop(unsafe { Box::from_raw(fts.cast::<Walk>()) });
            0
        }
    )*};
}

walks! {
    fts_open c"fts_open", fts_read c"fts_read", fts_children c"fts_children", fts_set c"fts_set", fts_close c"fts_close";
    fts64_open c"fts64_open", fts64_read c"fts64_read", fts64_children c"fts64_children", fts64_set c"fts64_set",
        fts64_close c"fts64_close";
}
