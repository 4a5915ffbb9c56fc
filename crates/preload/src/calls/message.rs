//! Messages: a descriptor that arrives may be the machine's.

use std::ffi::{c_int, c_uint};

use libc::{mmsghdr, msghdr, ssize_t, timespec};

use crate::descriptors::{self, Kind};
use crate::raw::{reply, reply_int, waiting};

/// Looks at the descriptors that came with a message.
///
/// # Safety
///
/// The message has been received.
unsafe fn arrived(message: &msghdr) {
    // SAFETY: the kernel has written the headers, and so many bytes behind each.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(head) = header.as_ref() {
            if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let numbers = libc::CMSG_DATA(head).cast::<c_int>();
                let count = (head.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<c_int>();
                // One that is not is found out with the first call on it.
                (0..count).for_each(|at| descriptors::set(numbers.add(at).read_unaligned(), Kind::Machine));
            }
            header = libc::CMSG_NXTHDR(message, head);
        }
    }
}

/// `recvmsg(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: as the program has promised.
    let answer = unsafe { waiting!(SYS_recvmsg, socket, message, flags) };
    if answer.is_ok() {
        // SAFETY: as above; it has been received.
        unsafe { arrived(&*message) };
    }
    reply(answer) as ssize_t
}

/// `recvmmsg(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmmsg(
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: as the program has promised.
    let answer = unsafe { waiting!(SYS_recvmmsg, socket, messages, count, flags, timeout) };
    if let Ok(received) = answer {
        // SAFETY: as above; so many have been received.
        (0..received).for_each(|at| unsafe { arrived(&(*messages.add(at)).msg_hdr) });
    }
    reply_int(answer)
}
