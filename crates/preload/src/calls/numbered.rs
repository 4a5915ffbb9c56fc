//! System calls by their number: `syscall(2)`, and those that the program makes by itself (`bypass`). They come to the same
//! functions as those by name.

use std::ffi::{c_int, c_long};

use super::next::next;
use super::{
    attributes, capabilities, descriptor, directory, io, ioctl, log, memory, message, open, path, poll,
    signal,
};
use crate::descriptors::{self, Kind};
use crate::raw::{self, Answer, Word};
use crate::{bypass, family};

/// What fits into a register, as what it is.
trait FromWord {
    fn from_word(word: usize) -> Self;
}

macro_rules! from_words {
    ($($type:ty)*) => {$(
        impl FromWord for $type {
            fn from_word(word: usize) -> Self {
                word as Self
            }
        }
    )*};
}

from_words!(i32 u32 i64 u64 usize);

impl<T> FromWord for *const T {
    fn from_word(word: usize) -> Self {
        std::ptr::with_exposed_provenance(word)
    }
}

impl<T> FromWord for *mut T {
    fn from_word(word: usize) -> Self {
        std::ptr::with_exposed_provenance_mut(word)
    }
}

/// The answer of the kernel that a function of libc has told its caller, whose errno stays what it is.
fn answer<T: Word>(function: impl FnOnce() -> T) -> Answer {
    // SAFETY: it points to the calling thread's own errno.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    let value = function().word();
    let told = std::mem::replace(errno, before);
    // An `int` is as wide as a register by now, with its sign.
    if value == usize::MAX { Err(told) } else { Ok(value) }
}

/// Makes a system call, on the machine if that is meant; `None` if it is one that only the host is asked for.
///
/// # Safety
///
/// As for the call itself.
pub(crate) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Option<Answer> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    /// Calls a function of the library with the arguments in their order.
    macro_rules! with {
        ($function:expr; $($argument:expr),*) => {
            answer(|| $function($(FromWord::from_word($argument)),*))
        };
    }
    // SAFETY: as the caller has promised.
    Some(unsafe {
        match number {
            // These may wait for long.
            libc::SYS_read
            | libc::SYS_write
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_preadv
            | libc::SYS_pwritev
                if descriptors::kind(first as c_int) == Kind::Host =>
            {
                return None;
            }
            libc::SYS_ioctl if !ioctl::may_be_ours(first as c_int, second as u64) => return None,
            libc::SYS_exit_group => {
                family::leave();
                return None;
            }
            libc::SYS_open => with!(open::open; first, second, third),
            libc::SYS_openat => with!(open::openat; first, second, third, fourth),
            libc::SYS_openat2 => {
                open::openat2(first as c_int, FromWord::from_word(second), FromWord::from_word(third), fourth)
            }
            libc::SYS_creat => with!(open::creat; first, second),
            libc::SYS_capget => with!(capabilities::capget; first, second),
            libc::SYS_capset => with!(capabilities::capset; first, second),
            libc::SYS_syslog => with!(log::klogctl; first, second, third),
            libc::SYS_setuid | libc::SYS_setreuid | libc::SYS_setresuid => {
                capabilities::user_by_number(number, arguments)
            }
            libc::SYS_unshare => with!(capabilities::unshare; first),
            libc::SYS_close => with!(descriptor::close; first),
            libc::SYS_close_range => with!(descriptor::close_range; first, second, third),
            libc::SYS_dup => with!(descriptor::dup; first),
            libc::SYS_dup2 => with!(descriptor::dup2; first, second),
            libc::SYS_dup3 => with!(descriptor::dup3; first, second, third),
            libc::SYS_fcntl => with!(descriptor::fcntl; first, second, third),
            libc::SYS_ioctl => {
                ioctl::ioctl_on(first as c_int, second as u64, std::ptr::with_exposed_provenance_mut(third))
            }
            libc::SYS_read => with!(io::read; first, second, third),
            libc::SYS_write => with!(io::write; first, second, third),
            libc::SYS_pread64 => with!(io::pread; first, second, third, fourth),
            libc::SYS_pwrite64 => with!(io::pwrite; first, second, third, fourth),
            libc::SYS_readv => with!(io::readv; first, second, third),
            libc::SYS_writev => with!(io::writev; first, second, third),
            libc::SYS_preadv => with!(io::preadv; first, second, third, fourth),
            libc::SYS_pwritev => with!(io::pwritev; first, second, third, fourth),
            libc::SYS_preadv2 => with!(io::preadv2; first, second, third, fourth, sixth),
            libc::SYS_pwritev2 => with!(io::pwritev2; first, second, third, fourth, sixth),
            libc::SYS_lseek => with!(io::lseek; first, second, third),
            libc::SYS_mmap => with!(memory::mmap; first, second, third, fourth, fifth, sixth),
            libc::SYS_munmap => with!(memory::munmap; first, second),
            libc::SYS_mprotect => with!(memory::mprotect; first, second, third),
            libc::SYS_mremap => with!(memory::mremap; first, second, third, fourth, fifth),
            libc::SYS_madvise => with!(memory::madvise; first, second, third),
            libc::SYS_mlock => with!(memory::mlock; first, second),
            libc::SYS_mlock2 => with!(memory::mlock2; first, second, third),
            libc::SYS_stat => with!(path::stat; first, second),
            libc::SYS_lstat => with!(path::lstat; first, second),
            libc::SYS_fstat => with!(path::fstat; first, second),
            libc::SYS_newfstatat => with!(path::fstatat; first, second, third, fourth),
            libc::SYS_statx => with!(path::statx; first, second, third, fourth, fifth),
            libc::SYS_access => with!(path::access; first, second),
            libc::SYS_faccessat => with!(path::faccessat; first, second, third, 0),
            libc::SYS_faccessat2 => with!(path::faccessat; first, second, third, fourth),
            libc::SYS_readlink => with!(path::readlink; first, second, third),
            libc::SYS_readlinkat => with!(path::readlinkat; first, second, third, fourth),
            libc::SYS_chdir => with!(directory::chdir; first),
            libc::SYS_fchdir => with!(directory::fchdir; first),
            libc::SYS_getcwd => directory::working_directory(FromWord::from_word(first), second),
            libc::SYS_inotify_add_watch => with!(path::inotify_add_watch; first, second, third),
            libc::SYS_poll => with!(poll::poll; first, second, third),
            libc::SYS_ppoll => with!(poll::ppoll; first, second, third, fourth),
            libc::SYS_select => with!(poll::select; first, second, third, fourth, fifth),
            libc::SYS_epoll_wait => with!(poll::epoll_wait; first, second, third, fourth),
            libc::SYS_epoll_pwait => with!(poll::epoll_pwait; first, second, third, fourth, fifth),
            libc::SYS_recvmsg => with!(message::recvmsg; first, second, third),
            libc::SYS_recvmmsg => with!(message::recvmmsg; first, second, third, fourth, fifth),
            libc::SYS_epoll_ctl => with!(poll::epoll_ctl; first, second, third, fourth),
            libc::SYS_getxattr => with!(attributes::getxattr; first, second, third, fourth),
            libc::SYS_lgetxattr => with!(attributes::lgetxattr; first, second, third, fourth),
            libc::SYS_listxattr => with!(attributes::listxattr; first, second, third),
            libc::SYS_llistxattr => with!(attributes::llistxattr; first, second, third),
            libc::SYS_rt_sigaction => signal::kernel_sigaction(
                first as c_int,
                FromWord::from_word(second),
                FromWord::from_word(third),
                fourth,
            ),
            libc::SYS_rt_sigprocmask => signal::kernel_sigprocmask(
                first as c_int,
                FromWord::from_word(second),
                FromWord::from_word(third),
                fourth,
            ),
            _ => return None,
        }
    })
}

/// `syscall(2)`
///
/// # Safety
///
/// As for the call that is made.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall(
    number: c_long,
    first: usize,
    second: usize,
    third: usize,
    fourth: usize,
    fifth: usize,
    sixth: usize,
) -> c_long {
    match number {
        libc::SYS_fork => return raw::reply(bypass::fork(libc::SIGCHLD as usize, [0; 3])),
        libc::SYS_clone if second == 0 => return raw::reply(bypass::fork(first, [third, fourth, fifth])),
        _ => {}
    }
    let returns_elsewhere = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_vfork, libc::SYS_rt_sigreturn];
    if returns_elsewhere.contains(&number) {
        return next!(
            c"syscall",
            fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long,
            (number, first, second, third, fourth, fifth, sixth),
            -1
        );
    }
    let arguments = [first, second, third, fourth, fifth, sixth];
    // SAFETY: as the program has promised.
    raw::reply(unsafe { call(number, arguments).unwrap_or_else(|| raw::call(number, arguments)) })
}
