//! `ioctl`.

use std::ffi::{c_int, c_ulong, c_void};

use super::on_file;
use crate::descriptors::{self, Kind};
use crate::filter;
use crate::raw::{Answer, raw, reply_int};

/// The type of the ioctls of VFIO and IOMMUFD, `';'`, in their numbers.
const TYPE: c_ulong = 0x3b00;

/// Whether an ioctl may be for the machine: by its type, or on a file of the machine.
pub(super) fn may_be_ours(number: c_int, command: c_ulong) -> bool {
    command & 0xffff_ff00 == TYPE || descriptors::kind(number) != Kind::Host
}

/// Makes an ioctl.
///
/// # Safety
///
/// As for `ioctl(2)`.
pub(crate) unsafe fn ioctl_on(number: c_int, command: c_ulong, argument: *mut c_void) -> Answer {
    if command & 0xffff_ff00 == TYPE && descriptors::kind(number) == Kind::Host {
        // A descriptor that came about unseen: sent by somebody, or duplicated by a system call of the program's own.
        descriptors::set(number, Kind::Machine);
    }
    let answered = on_file(number, |state, file| {
        let (command, argument) = (command as u32, argument.expose_provenance() as u64);
        let value = state.ioctl(file.key, number, command, argument)?;
        state.made(format_args!("ioctl {command:#x} on {}: {value}", file.path.display()));
        opened(command, value);
        Ok(value as usize)
    });
    // SAFETY: as above.
    answered.unwrap_or_else(|| unsafe { raw!(SYS_ioctl, number, command, argument, 0, 0, filter::MARK) })
}

/// Remembers a descriptor that a call has opened.
fn opened(command: u32, value: u64) {
    let answers_a_descriptor =
        [uapi::vfio::VFIO_GROUP_GET_DEVICE_FD, uapi::vfio::VFIO_DEVICE_FEATURE].contains(&command);
    if answers_a_descriptor && value > 0 {
        descriptors::set(value as c_int, Kind::Machine);
    }
}

/// `ioctl(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ioctl(number: c_int, command: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: as the program has promised.
    reply_int(unsafe { ioctl_on(number, command, argument) })
}

/// `ioctl(2)`, for 64-bit time
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __ioctl_time64(
    number: c_int,
    command: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as the program has promised.
    reply_int(unsafe { ioctl_on(number, command, argument) })
}
