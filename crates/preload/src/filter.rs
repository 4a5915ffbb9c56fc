//! Ioctls of VFIO and IOMMUFD that are made past libc by code that Syscall User Dispatch does not follow (`bypass`): that of libraries, and
//! what is made at run time.
//!
//! Once the program opens a node of the machine, a seccomp filter sends SIGSYS for ioctls of these numbers, on all threads. Our own
//! calls of them have a mark among the arguments that ioctls have not. No filter ever goes away: children have it, and a program that
//! this one turns into. That has our handler too if the library is under it; else such an ioctl ends it.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_DATA, SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, sock_filter, sock_fprog,
};

use crate::bypass;
use crate::raw::{Answer, raw};
use crate::report::Kind;
use crate::state::Settings;

/// The sixth argument of an ioctl that is to go to the kernel.
pub(crate) const MARK: u64 = 0x696f_6173_6973_5f3b;
/// What the handler answers to a call that asks whether there is a filter.
pub(crate) const PRESENT: usize = 0x3b;
/// The descriptor of that call.
pub(crate) const NO_DESCRIPTOR: c_int = -0x3b;

/// The numbers of the ioctls of VFIO and IOMMUFD.
const FIRST: u32 = 0x3b64;
const LAST: u32 = 0x3bff;

/// `AUDIT_ARCH_X86_64`, <linux/audit.h>
const ARCHITECTURE: u32 = 0xc000_003e;
/// Where `struct seccomp_data` has what is looked at.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(at: u32) -> u32 {
    16 + 8 * at
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

const fn jump(test: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt: yes, jf: no, k: value }
}

const fn answer(action: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// What is decided by the number of a call alone comes first: the kernel remembers it, so that other calls cost nothing.
const FILTER: [sock_filter; 15] = [
    load(ARCH),
    jump(BPF_JEQ, ARCHITECTURE, 0, 10),
    load(NUMBER),
    jump(BPF_JEQ, libc::SYS_io_uring_setup as u32, 10, 0),
    jump(BPF_JEQ, libc::SYS_ioctl as u32, 0, 7),
    load(argument(1)),
    jump(BPF_JGE, FIRST, 0, 5),
    jump(BPF_JGT, LAST, 4, 0),
    load(argument(5)),
    jump(BPF_JEQ, MARK as u32, 0, 3),
    load(argument(5) + 4),
    jump(BPF_JEQ, (MARK >> 32) as u32, 0, 1),
    answer(SECCOMP_RET_ALLOW),
    answer(SECCOMP_RET_TRAP),
    answer(SECCOMP_RET_ERRNO | libc::ENOSYS as u32 & SECCOMP_RET_DATA),
];

/// Whether the filter is there.
static PRESENT_HERE: AtomicBool = AtomicBool::new(false);

/// Whether this program has the filter from the one that it was before.
pub(crate) fn inherit() {
    // SAFETY: nothing is passed but numbers; the descriptor is none.
    let (mode, asked) =
        unsafe { (raw!(SYS_prctl, libc::PR_GET_SECCOMP), || raw!(SYS_ioctl, NO_DESCRIPTOR, FIRST)) };
    // Without any filter there is nothing to ask. A filter of others lets the call through, or refuses it in its own way.
    if mode == Ok(libc::SECCOMP_MODE_FILTER as usize) && bypass::handle_calls() && asked() == Ok(PRESENT) {
        PRESENT_HERE.store(true, Ordering::Relaxed);
    }
}

/// Has the calls caught from now on, in a program that has opened a node of the machine.
pub(crate) fn install(settings: &Settings) {
    if PRESENT_HERE.swap(true, Ordering::Relaxed) {
        return;
    }
    let why = match bypass::handle_calls().then(set) {
        Some(Ok(0)) => return,
        Some(Ok(thread)) => format!("thread {thread} has a filter of its own"),
        Some(Err(errno)) => std::io::Error::from_raw_os_error(errno).to_string(),
        None => "no memory for its handler".to_owned(),
    };
    if settings.report.explains {
        settings.report.tell(
            Kind::Call,
            format_args!("ioctls that libraries make by themselves are not seen: seccomp: {why}"),
        );
    }
}

/// Sets the filter for all threads. The answer is 0, or a thread that it cannot be set for.
fn set() -> Answer {
    let program = sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies the filter, which is a whole one.
    let set = || unsafe {
        raw!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program as *const c_void)
    };
    match set() {
        // Who may not do so gives up privileges that programs have from their files.
        Err(libc::EACCES) => {
            // SAFETY: nothing is passed but numbers.
            unsafe { raw!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }?;
            set()
        }
        answer => answer,
    }
}

/// Whether a signal of a filter is about one of our calls.
pub(crate) fn is_about(number: c_long, arguments: &[usize; 6]) -> bool {
    number == libc::SYS_ioctl && (FIRST..=LAST).contains(&(arguments[1] as u32))
}
