//! `ioctl(2)` with a number that is known at run time only.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

struct Call {
    command: u32,
    argument: *mut c_void,
}

// SAFETY: `command` and `argument` are passed on as they are, and whoever makes a `Call` vouches for the pair. The
// argument may be written to, so the call is mutating. The output is the number that the call returns.
unsafe impl Ioctl for Call {
    type Output = u32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.command
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<u32, Errno> {
        Ok(output.cast_unsigned())
    }
}

/// Makes the call.
///
/// # Safety
///
/// `argument` is what the command expects, as for [`Sys::ioctl_raw`](crate::Sys::ioctl_raw).
pub(super) unsafe fn call(fd: BorrowedFd<'_>, command: u32, argument: *mut c_void) -> Result<u32, Errno> {
    // SAFETY: the caller's promise.
    unsafe { rustix::ioctl::ioctl(fd, Call { command, argument }) }
}
