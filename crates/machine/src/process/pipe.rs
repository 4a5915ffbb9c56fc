//! Copies through a pipe: the kernel looks at both addresses, and answers EFAULT where a copy of our own would be a signal. For
//! hosts without `process_vm_readv` (built without `CONFIG_CROSS_MEMORY_ATTACH`, or a filter forbids it).

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, OnceLock};

use crate::lock::lock;
use rustix::pipe::{PipeFlags, pipe_with};

/// What fits into an empty pipe, however small the host makes it.
const CHUNK: usize = 4096;

/// Copies `length` bytes; false where one of them cannot be read or written. Those before it are copied then.
///
/// # Safety
///
/// No Rust reference to the bytes at `to` exists but the caller's own, and what is there may be overwritten; no
/// exclusive one to those at `from`. Either address may be one where nothing is mapped.
pub(super) unsafe fn copy(from: *const c_void, to: *mut c_void, length: usize) -> bool {
    static PIPE: OnceLock<Option<Mutex<(OwnedFd, OwnedFd)>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok().map(Mutex::new));
    let Some(pipe) = pipe else { return false };
    let (output, input) = &*lock(pipe);
    let mut done = 0;
    while done < length {
        let chunk = CHUNK.min(length - done);
        let (from, to) = (from.wrapping_byte_add(done), to.wrapping_byte_add(done));
        // SAFETY: the kernel reads at most `chunk` bytes there, and answers an error where it cannot.
        let entered = unsafe { libc::write(input.as_raw_fd(), from, chunk) };
        let Ok(entered) = usize::try_from(entered) else { return false };
        // SAFETY: the kernel writes at most `chunk` bytes there, which the caller allows, and answers an error where it
        // cannot.
        let left = unsafe { libc::read(output.as_raw_fd(), to, entered) };
        if usize::try_from(left) != Ok(entered) {
            // What stays in the pipe must not come out in the next copy.
            while rustix::io::read(output, &mut [0; CHUNK]).is_ok_and(|count| count > 0) {}
            return false;
        }
        if entered < chunk {
            return false;
        }
        done += chunk;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Reserved;

    #[test]
    fn bytes_arrive_or_the_copy_says_that_they_do_not() {
        let from: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
        let mut to = vec![0; from.len()];
        let reserved = Reserved::new(4096).unwrap();
        let nowhere = reserved.start().as_ptr().cast::<c_void>();
        for _ in 0..3 {
            to.fill(0);
            // SAFETY: the slices are live, and the reserved pages are mapped for neither direction.
            unsafe {
                assert!(!copy(nowhere, to.as_mut_ptr().cast(), 16));
                assert!(!copy(from.as_ptr().cast(), nowhere, 5000));
                assert!(copy(from.as_ptr().cast(), to.as_mut_ptr().cast(), from.len()));
            }
            assert!(from == to);
        }
    }
}
