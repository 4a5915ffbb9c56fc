//! `ioctl`.

use std::ffi::{c_int, c_ulong, c_void};
use std::mem::offset_of;

use uapi::iommufd::{IOMMU_FAULT_QUEUE_ALLOC, IOMMU_VEVENTQ_ALLOC, IommuFaultAlloc, IommuVeventqAlloc};
use uapi::vfio::{VFIO_DEVICE_FEATURE, VFIO_GROUP_GET_DEVICE_FD};

use super::on_key;
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
    let answered = on_key(number, move |state, key| {
        let command = command as u32;
        let value = state.ioctl(key, number, command, argument.expose_provenance() as u64)?;
        if state.settings.report.traces {
            let path = String::from_utf8_lossy(&state.path_of(key)?).into_owned();
            state.made(format_args!("ioctl {command:#x} on {path}: {value}"));
        }
        // SAFETY: the call was made.
        if let Some(opened) = unsafe { opened(command, argument, value) } {
            descriptors::set(opened, Kind::Machine);
        }
        Ok(value as usize)
    });
    // SAFETY: as above.
    answered.unwrap_or_else(|| unsafe { raw!(SYS_ioctl, number, command, argument, 0, 0, filter::MARK) })
}

/// The descriptor that a call has opened, if any: what it answered, or a field of its argument.
///
/// # Safety
///
/// The call was made with this argument, and not refused.
unsafe fn opened(command: u32, argument: *const c_void, value: u64) -> Option<c_int> {
    let field = match command {
        VFIO_GROUP_GET_DEVICE_FD | VFIO_DEVICE_FEATURE => {
            return Some(value as c_int).filter(|number| *number > 0);
        }
        IOMMU_FAULT_QUEUE_ALLOC => offset_of!(IommuFaultAlloc, out_fault_fd),
        IOMMU_VEVENTQ_ALLOC => offset_of!(IommuVeventqAlloc, out_veventq_fd),
        _ => return None,
    };
    // SAFETY: the call has written the field.
    Some(unsafe { argument.byte_add(field).cast::<c_int>().read_unaligned() })
}

/// `ioctl(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ioctl(number: c_int, command: c_ulong, argument: *mut c_void) -> c_int {
    if !may_be_ours(number, command) {
        // SAFETY: as the program has promised.
        return reply_int(unsafe { raw!(SYS_ioctl, number, command, argument) });
    }
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
    unsafe { ioctl(number, command, argument) }
}
