//! `ioctl(2)` with arguments that nobody would pass.

use std::ffi::c_void;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use sys::{Result, Suite};

/// `ioctl(2)`. `argument` is a plain number, or an address that [`Arena`](crate::Arena) gave.
pub(crate) fn ioctl<S: Suite>(sys: &S, file: BorrowedFd<'_>, command: u32, argument: u64) -> Result<u32> {
    // SAFETY: `request::encode` lets no address into an argument, and no plain number be one, but addresses of the arena, whose
    // memory outlives every file of a sequence and is reached through copies alone, and such as nothing is mapped at, which
    // are EFAULT. An argument ends with the memory that can be reached. No sequence has a device do DMA.
    unsafe { sys.ioctl_raw(file, command, argument as usize as *mut c_void) }
}

/// A descriptor that a call has just answered with.
pub(crate) fn opened(fd: u32) -> OwnedFd {
    // SAFETY: the call has opened it for its caller, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) }
}
