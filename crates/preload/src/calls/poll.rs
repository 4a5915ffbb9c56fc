//! Waiting for descriptors.

use std::ffi::c_int;

use libc::epoll_event;

use super::on_file;
use crate::raw::{raw, reply_int};

/// `epoll_ctl(2)`: VFIO's files cannot be waited for so.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    number: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: as the program has promised.
    let ask = || unsafe { raw!(SYS_epoll_ctl, epoll, operation, number, event) };
    let refused = on_file(number, |_, file| if file.path().is_absolute() { Err(libc::EPERM) } else { Ok(0) });
    reply_int(match refused {
        Some(Err(errno)) => Err(errno),
        _ => ask(),
    })
}
