//! Extended attributes of paths: the machine's files have those that the folder's have.

use std::ffi::{c_char, c_void};

use libc::{AT_FDCWD, size_t, ssize_t};

use super::path::on_path;
use crate::paths::links::is_missing;
use crate::raw::{raw, reply};

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident(path $(, $argument:ident: $type:ty)*) => $follow:expr, $call:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(path: *const c_char $(, $argument: $type)*) -> ssize_t {
            // SAFETY: as the program has promised.
            let (answer, _) = unsafe {
                on_path(AT_FDCWD, path, $follow, |_, path| raw!($call, path $(, $argument)*), is_missing)
            };
            reply(answer) as ssize_t
        }
    )*};
}

attributes! {
    /// `getxattr(2)`
    getxattr(path, name: *const c_char, value: *mut c_void, size: size_t) => true, SYS_getxattr;
    /// `lgetxattr(2)`
    lgetxattr(path, name: *const c_char, value: *mut c_void, size: size_t) => false, SYS_lgetxattr;
    /// `listxattr(2)`
    listxattr(path, list: *mut c_char, size: size_t) => true, SYS_listxattr;
    /// `llistxattr(2)`
    llistxattr(path, list: *mut c_char, size: size_t) => false, SYS_llistxattr;
}
