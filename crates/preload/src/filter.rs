//! Ioctls of VFIO and IOMMUFD that are made past libc by code that Syscall User Dispatch does not follow (`bypass`): that of libraries, and
//! what is made at run time.
//!
//! Once the program opens a node of the machine, a seccomp filter sends SIGSYS for ioctls of these numbers, on all threads. Our own
//! calls of them have a mark among the arguments that ioctls have not. No filter ever goes away: children have it, and a program that
//! this one turns into. That has our handler too if the library is under it; else such an ioctl ends it.
//!
//! And the calls that libc makes for a stream of its own which `freopen` has put on a file of the machine.

use std::ffi::{c_int, c_long, c_void};
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_DATA, SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, dl_phdr_info, sock_filter, sock_fprog,
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
const POINTER: u32 = 8;
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

/// How many descriptors there may be whose calls libc has answered: those of streams have low numbers.
const STREAMS: usize = 256;

/// The descriptors on which libc's own calls are answered.
static ANSWERED: [AtomicBool; STREAMS] = [const { AtomicBool::new(false) }; STREAMS];

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
    let why = match bypass::handle_calls().then(|| set(&FILTER)) {
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

/// Has those calls answered that libc itself makes for a stream on this descriptor. Whether that can be.
///
/// They are known by the descriptor and by where in memory libc is: what the process turns into by `exec` has it elsewhere.
pub(crate) fn answer_libc(number: c_int) -> bool {
    let (Some(is_answered), Some(libc)) =
        (usize::try_from(number).ok().and_then(|number| ANSWERED.get(number)), code_of_libc())
    else {
        return false;
    };
    let ([low, high], [end, same]) = [libc.start, libc.end].map(|at| [at as u32, (at >> 32) as u32]).into();
    let filter = [
        load(ARCH),
        jump(BPF_JEQ, ARCHITECTURE, 0, 12),
        load(NUMBER),
        jump(BPF_JEQ, libc::SYS_read as u32, 2, 0),
        jump(BPF_JEQ, libc::SYS_write as u32, 1, 0),
        jump(BPF_JEQ, libc::SYS_lseek as u32, 0, 8),
        load(argument(0)),
        jump(BPF_JEQ, number as u32, 0, 6),
        load(POINTER + 4),
        jump(BPF_JEQ, high, 0, 4),
        load(POINTER),
        jump(BPF_JGE, low, 0, 2),
        jump(BPF_JGE, end, 1, 0),
        answer(SECCOMP_RET_TRAP),
        answer(SECCOMP_RET_ALLOW),
    ];
    high == same
        && bypass::handle_calls()
        && (is_answered.swap(true, Ordering::Relaxed) || set(&filter) == Ok(0) || {
            is_answered.store(false, Ordering::Relaxed);
            false
        })
}

/// Where libc has its code.
fn code_of_libc() -> Option<Range<usize>> {
    unsafe extern "C" fn find(object: *mut dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
        // SAFETY: the loader passes an object with so many headers, and `code_of_libc` what is to be found.
        let (object, found) = unsafe { (&*object, &mut *found.cast::<Option<Range<usize>>>()) };
        // SAFETY: likewise.
        let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        let within = libc::gnu_get_libc_version as *const () as usize;
        *found = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD)
            .map(|header| (object.dlpi_addr + header.p_vaddr, header.p_memsz))
            .map(|(start, length)| start as usize..(start + length) as usize)
            .find(|range| range.contains(&within));
        found.is_some().into()
    }
    let mut found = None;
    // SAFETY: the function is one for this, and gets what it expects.
    unsafe { libc::dl_iterate_phdr(Some(find), (&raw mut found).cast()) };
    found
}

/// Sets a filter for all threads. The answer is 0, or a thread that it cannot be set for.
fn set(filter: &[sock_filter]) -> Answer {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
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
    match number {
        libc::SYS_ioctl => (FIRST..=LAST).contains(&(arguments[1] as u32)),
        libc::SYS_read | libc::SYS_write | libc::SYS_lseek => {
            ANSWERED.get(arguments[0]).is_some_and(|answered| answered.load(Ordering::Relaxed))
        }
        _ => false,
    }
}
