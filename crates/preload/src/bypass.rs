//! System calls that the program makes by itself, past libc: Rust on rustix, assembly.
//!
//! The kernel is asked to send SIGSYS for them instead (Syscall User Dispatch, Linux 5.11), and the handler makes the call as libc's
//! function of that name would come to it. Only code of the program's own file is meant: one range of addresses can be exempt, and
//! what the dynamic loader puts to one side of that file is: libc, and ourselves. A program without the instruction is left alone, unless `--raw` says otherwise.
//! A new thread begins without it, and the child of a fork too; a program that is started decides anew.
//!
//! The handler blocks other signals, and works on a stack of ours: Go's have no room for it. What only the host is asked for may
//! wait for long, so it is made after the return, by an instruction of ours.
//!
//! Ioctls of libraries come to the same handler (`filter`).

use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;
use std::sync::OnceLock;

use libc::{dl_phdr_info, siginfo_t, ucontext_t};
use sys::guarded;

use crate::calls::{numbered, poll};
use crate::code;
use crate::family;
use crate::filter;
use crate::fork::forking;
use crate::raw::{Answer, raw};
use crate::report::Kind;
use crate::signals::{self, FAULTS, pass_on};
use crate::state;
use crate::trap::stack::Stacks;

// <linux/prctl.h>
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_ON: c_int = 1;
/// The codes of a SIGSYS of this origin, and of a filter's.
const SYS_USER_DISPATCH: c_int = 2;
const SYS_SECCOMP: c_int = 1;

/// The addresses whose calls pass, if others are caught.
static EXEMPT: OnceLock<Range<usize>> = OnceLock::new();
/// What the handler works on.
static STACKS: OnceLock<Option<Stacks>> = OnceLock::new();

/// Catches the calls of the program, if it makes any.
pub(crate) fn set_up() {
    let Some(settings) = state::settings() else { return };
    let Some(image) = Image::of_program().filter(|image| image.makes_calls || settings.raw) else { return };
    let own = set_up as fn() as usize;
    // A range may begin with the lowest address, or end with the highest.
    let exempt =
        if own > image.addresses.end { image.addresses.end..usize::MAX } else { 0..image.addresses.start };
    if !handle_calls() {
        return;
    }
    if let Err(errno) = catch(&exempt) {
        let error = std::io::Error::from_raw_os_error(errno);
        if settings.report.explains {
            settings.report.tell(
                Kind::Call,
                format_args!("system calls of the program's own are not seen: Syscall User Dispatch (Linux 5.11): {error}"),
            );
        }
        return;
    }
    let _first = EXEMPT.set(exempt);
}

/// Puts the handler of calls in its place, once. Whether it is there.
pub(crate) fn handle_calls() -> bool {
    let stacks = STACKS.get_or_init(|| {
        // SAFETY: what is registered is a function of ours, which stays.
        let _registered = unsafe { libc::pthread_atfork(None, None, Some(after_fork)) };
        let stacks = Stacks::new().ok()?;
        machine::ask_for_interruptions(is_interrupted);
        signals::put_before(&[libc::SIGSYS], handle, libc::SA_ONSTACK, !signals::set_of(&FAULTS));
        Some(stacks)
    });
    stacks.is_some()
}

/// Whether calls of the program are caught.
pub(crate) fn catches() -> bool {
    EXEMPT.get().is_some()
}

/// Catches the calls of the calling thread, if the program is one that makes them.
pub(crate) fn catch_calls() {
    if let Some(exempt) = EXEMPT.get() {
        // As it has worked for the first thread.
        let _caught = catch(exempt);
    }
}

/// For the child of a fork, which has none of the other threads.
pub(crate) extern "C" fn after_fork() {
    if let Some(Some(stacks)) = STACKS.get() {
        stacks.forget_others();
    }
    catch_calls();
}

fn catch(exempt: &Range<usize>) -> Answer {
    // SAFETY: the handler is there. Without a byte that switches it, it is always on.
    unsafe {
        raw!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, exempt.start, exempt.len(), 0_usize)
    }
}

/// The program's own file, as it is mapped.
struct Image {
    addresses: Range<usize>,
    /// Whether its code has the instruction.
    makes_calls: bool,
}

impl Image {
    fn of_program() -> Option<Image> {
        let mut image: Option<Image> = None;
        // SAFETY: the function is one for this, and gets what it expects.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut image).cast()) };
        image
    }
}

/// Looks at the first object, which is the program.
unsafe extern "C" fn first(object: *mut dl_phdr_info, _: usize, image: *mut c_void) -> c_int {
    // SAFETY: the loader passes an object, and `of_program` the image.
    let (object, image) = unsafe { (&*object, &mut *image.cast::<Option<Image>>()) };
    // SAFETY: so many headers are there.
    let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        let end = start + header.p_memsz as usize;
        let image = image.get_or_insert(Image { addresses: start..end, makes_calls: false });
        image.addresses = image.addresses.start.min(start)..image.addresses.end.max(end);
        if header.p_flags & libc::PF_X != 0 && header.p_flags & libc::PF_R != 0 {
            // SAFETY: the loader has mapped these bytes, and nobody writes to them.
            let code = unsafe {
                slice::from_raw_parts(std::ptr::with_exposed_provenance(start), header.p_filesz as usize)
            };
            image.makes_calls = image.makes_calls || code::makes_calls(code);
        }
    }
    1
}

/// The program has made a system call by itself.
unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both to a handler of this form.
    let (info, context) = unsafe { (&mut *info, &mut *context.cast::<ucontext_t>()) };
    if info.si_code == SYS_USER_DISPATCH && family::handle_call(context) {
        return;
    }
    let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as usize;
    let number = register(libc::REG_RAX) as i64;
    let arguments = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9]
        .map(register);
    match info.si_code {
        SYS_USER_DISPATCH => {}
        SYS_SECCOMP if filter::is_about(number, &arguments) => {}
        _ => return pass_on(signal, info, context, None),
    }
    if number == libc::SYS_rt_sigreturn {
        // SAFETY: the program ends a handler of its own.
        unsafe { signals::return_from(register(libc::REG_RSP)) }
    }
    let answer = STACKS.get().and_then(Option::as_ref).and_then(|stacks| {
        stacks.run(context, |context| make(number, arguments, context)).unwrap_or_default()
    });
    match answer {
        Some(answer) => {
            context.uc_mcontext.gregs[libc::REG_RAX as usize] = match answer {
                Ok(value) => value as i64,
                Err(errno) => -i64::from(errno),
            }
        }
        None => make_after_return(context),
    }
}

/// Makes a call in the handler; `None` if it is to be made after.
fn make(number: i64, arguments: [usize; 6], context: &mut ucontext_t) -> Option<Answer> {
    match number {
        libc::SYS_ioctl if arguments[0] as c_int == filter::NO_DESCRIPTOR => Some(Ok(filter::PRESENT)),
        libc::SYS_rt_sigprocmask => Some(signals::change_mask(arguments, context)),
        libc::SYS_fork => Some(fork(libc::SIGCHLD as usize, [0; 3])),
        libc::SYS_vfork => Some(fork((libc::CLONE_VFORK | libc::SIGCHLD) as usize, [0; 3])),
        libc::SYS_clone => {
            let [flags, stack, others @ .., _] = arguments;
            Some(if stack == 0 { fork(flags, others) } else { refuse("clone with a stack") })
        }
        // Programs fall back to what was there before it.
        libc::SYS_clone3 => Some(Err(libc::ENOSYS)),
        // Signals are to end them.
        libc::SYS_recvmsg | libc::SYS_recvmmsg => None,
        libc::SYS_poll | libc::SYS_select | libc::SYS_epoll_wait => wait(number, arguments, None, context),
        libc::SYS_ppoll => wait(number, arguments, Some(3), context),
        libc::SYS_epoll_pwait => wait(number, arguments, Some(4), context),
        _ => call(number, arguments, context),
    }
}

thread_local! {
    /// The signals that end a wait which this thread makes in the handler, where none comes in.
    static ENDING: Cell<u64> = const { Cell::new(0) };
}

/// The signals that the interrupted code blocks.
fn mask_of(context: &ucontext_t) -> u64 {
    // SAFETY: the first word has the signals that there are.
    unsafe { *(&raw const context.uc_sigmask).cast::<u64>() }
}

/// Makes a call that may wait for others.
fn call(number: i64, arguments: [usize; 6], context: &ucontext_t) -> Option<Answer> {
    ENDING.set(!mask_of(context));
    // SAFETY: as the program has promised to the kernel.
    let answer = unsafe { numbered::call(number, arguments) };
    ENDING.set(0);
    answer
}

/// Waits in the handler if a device needs its turn meanwhile. One of the arguments may be where a mask is, for as long as it waits.
fn wait(number: i64, mut arguments: [usize; 6], mask: Option<usize>, context: &ucontext_t) -> Option<Answer> {
    poll::turn()?;
    let interrupted = mask_of(context);
    let place = mask.map_or(0, |at| std::mem::take(&mut arguments[at]));
    let mut blocked = interrupted.to_ne_bytes();
    // SAFETY: a fault is recovered from.
    if place != 0 && unsafe { guarded::read(place as u64, &mut blocked) }.is_err() {
        return Some(Err(libc::EFAULT));
    }
    ENDING.set(!u64::from_ne_bytes(blocked));
    // SAFETY: as the program has promised to the kernel.
    let answer = unsafe { numbered::call(number, arguments) };
    ENDING.set(0);
    // What is open for as long as it waits only comes in if it waits outside, where it is over at once.
    answer.filter(|answer| place == 0 || *answer != Err(libc::EINTR))
}

/// After how many milliseconds a wait looks whether it is interrupted; `None` if a signal ends it.
pub(crate) fn slice() -> Option<c_int> {
    (ENDING.get() != 0).then_some(10)
}

/// Whether a signal has come that ends a wait in the handler.
pub(crate) fn is_interrupted() -> bool {
    let ending = ENDING.get();
    let mut pending = 0_u64;
    // SAFETY: a set of the size that the kernel has.
    if ending == 0 || unsafe { raw!(SYS_rt_sigpending, &raw mut pending, size_of::<u64>()) }.is_err() {
        return false;
    }
    let ends = |signal: &c_int| pending & ending & signals::set_of(&[*signal]) != 0;
    (1..=64).filter(ends).any(|signal| !signals::is_ignored(signal))
}

/// What a function of the ABI may use below its stack pointer.
const RED_ZONE: i64 = 128;

/// Has the interrupted code make its call from here, and go on behind its own instruction.
fn make_after_return(context: &mut ucontext_t) {
    let registers = &mut context.uc_mcontext.gregs;
    let back = registers[libc::REG_RIP as usize];
    let stack = registers[libc::REG_RSP as usize] - RED_ZONE - size_of::<i64>() as i64;
    // SAFETY: below the red zone nothing is in use, and what a signal may put there begins lower than the new stack pointer.
    unsafe { std::ptr::with_exposed_provenance_mut::<i64>(stack as usize).write(back) };
    registers[libc::REG_RSP as usize] = stack;
    registers[libc::REG_RIP as usize] = make_call as *const () as i64;
}

/// Makes the call that the registers say, and takes back what [`make_after_return`] has put on the stack.
#[unsafe(naked)]
unsafe extern "C" fn make_call() {
    naked_asm!("syscall", "ret {red_zone}", red_zone = const RED_ZONE)
}

/// Makes a child that goes on from here too, with memory of its own: what the child of a `vfork` may do, it may.
pub(crate) fn fork(flags: usize, others: [usize; 3]) -> Answer {
    let flags = flags & !(libc::CLONE_VM as usize);
    let [parent, child, storage] = others;
    // SAFETY: without memory in common, each returns by a stack of its own.
    let answer = forking(flags, || unsafe { raw!(SYS_clone, flags, 0_usize, parent, child, storage) });
    if answer == Ok(0) {
        after_fork();
    }
    answer
}

/// A call that cannot be made for the program.
fn refuse(what: &str) -> Answer {
    if let Some(settings) = state::settings() {
        settings
            .report
            .tell(Kind::Trouble, format_args!("{what}, by the program itself, cannot be followed"));
    }
    Err(libc::ENOSYS)
}
