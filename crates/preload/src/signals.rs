//! SIGSEGV, SIGBUS and SIGSYS: ours first, the program's behind.
//!
//! Once registers are mapped, the first two have our handler; the third has it if the program makes system calls by itself
//! (`bypass`). What ours has no use for goes to the handler that the program has set, or thinks that it has.

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use libc::{SIG_DFL, SIG_IGN, SIGBUS, SIGSEGV, SIGSYS, siginfo_t, sigset_t, ucontext_t};
use sys::guarded;

use crate::crash;
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{Answer, raw};
use crate::state;
use crate::traps::Signal;

/// A handler as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: u64,
    pub(crate) restorer: usize,
    pub(crate) mask: u64,
}

impl Action {
    /// What the kernel does by itself.
    pub(crate) const DEFAULT: Action = Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 };
}

pub(crate) const SA_RESTORER: u64 = 0x0400_0000;

/// What an access may raise.
pub(crate) const FAULTS: [c_int; 2] = [SIGSEGV, SIGBUS];
/// The signals that may be ours.
const SIGNALS: [c_int; 3] = [SIGSEGV, SIGBUS, SIGSYS];

/// What the program has set for each of them.
static PROGRAM: Mutex<[Action; SIGNALS.len()]> = Mutex::new([Action::DEFAULT; SIGNALS.len()]);
/// Those that have our handler.
static OURS: AtomicU64 = AtomicU64::new(0);

/// A handler of the form that gets all there is to know.
pub(crate) type Handler = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// Signals as a set of the kernel's.
pub(crate) fn set_of(signals: &[c_int]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// The signals that the program must not block, since they are ours, or will be when it uses the machine.
pub(crate) fn never_blocked() -> u64 {
    if state::settings().is_some() { set_of(&SIGNALS) } else { 0 }
}

/// Whether a signal is ours.
pub(crate) fn is_ours(signal: c_int) -> bool {
    SIGNALS.contains(&signal) && OURS.load(Ordering::Relaxed) & set_of(&[signal]) != 0
}

fn slot(signal: c_int) -> usize {
    SIGNALS.iter().position(|known| *known == signal).unwrap_or_default()
}

/// Asks the kernel for a handler, or sets one.
///
/// # Safety
///
/// A handler that is set is one.
pub(crate) unsafe fn kernel_action(signal: c_int, new: Option<&Action>) -> Result<Action, c_int> {
    let mut old = Action::DEFAULT;
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both are null or what the kernel expects; else as the caller has promised.
    unsafe { raw!(SYS_rt_sigaction, signal, new, &raw mut old, size_of::<u64>()) }?;
    Ok(old)
}

/// Whether a signal that is let in does nothing.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    let by_default = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    // SAFETY: nothing is set.
    match unsafe { kernel_action(signal, None) } {
        Ok(action) => action.handler == SIG_IGN || action.handler == SIG_DFL && by_default.contains(&signal),
        Err(_) => true,
    }
}

/// Puts the handler of faults before the program's.
pub(crate) fn take_over() {
    // Another handler must not come between: it might reach the machine too, whose locks this thread holds meanwhile.
    put_before(&FAULTS, handle, libc::SA_ONSTACK, !set_of(&FAULTS));
    // SAFETY: the handler does so, and stays the kernel's; the program's threads do not block what it handles (`never_blocked`).
    unsafe { guarded::rely_on_handlers() };
}

/// The calling thread has none of these signals blocked from now on; answers what it had blocked.
fn let_in(signals: &[c_int]) -> u64 {
    let (set, mut before) = (set_of(signals), 0_u64);
    // SAFETY: both are sets of the size that the kernel has.
    let _open: Answer = unsafe {
        raw!(SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, &raw mut before, size_of::<u64>())
    };
    before
}

/// Does work that may start threads: they have no fault blocked.
pub(crate) fn with_faults_let_in<R>(work: impl FnOnce() -> R) -> R {
    let before = let_in(&FAULTS);
    let done = work();
    // SAFETY: a set of the size that the kernel has.
    let _as_before: Answer =
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, 0_usize, size_of::<u64>()) };
    done
}

/// Does work that starts a thread: it has all signals blocked that are not ours.
pub(crate) fn with_all_but_ours_blocked<R>(work: impl FnOnce() -> R) -> R {
    let (set, mut before) = (!set_of(&SIGNALS), 0_u64);
    // SAFETY: both are sets of the size that the kernel has.
    let _blocked: Answer = unsafe {
        raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, &raw mut before, size_of::<u64>())
    };
    let done = work();
    // SAFETY: likewise.
    let _as_before: Answer =
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, 0_usize, size_of::<u64>()) };
    done
}

/// `rt_sigprocmask(2)` of the interrupted code.
pub(crate) fn change_mask([how, set, old, size, ..]: [usize; 6], context: &mut ucontext_t) -> Answer {
    if size != size_of::<u64>() {
        return Err(libc::EINVAL);
    }
    let (set, old) =
        (std::ptr::with_exposed_provenance::<u64>(set), std::ptr::with_exposed_provenance_mut::<u64>(old));
    // SAFETY: the first word has the signals that there are.
    let mask = unsafe { &mut *(&raw mut context.uc_sigmask).cast::<u64>() };
    let before = *mask;
    // SAFETY: the program has promised that it is there, or null.
    if let Some(set) = unsafe { set.as_ref() } {
        let wanted = match how as c_int {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => *set,
            _ => return Err(libc::EINVAL),
        };
        *mask = wanted & !never_blocked();
    }
    // SAFETY: likewise.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = before;
    }
    Ok(0)
}

/// Puts a handler before the program's, once. The calling thread does not block the signals then.
pub(crate) fn put_before(signals: &[c_int], handler: Handler, flags: c_int, mask: u64) {
    let set = set_of(signals);
    if OURS.fetch_or(set, Ordering::Relaxed) & set != 0 {
        return;
    }
    let flags = flags | libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
    let ours = Action {
        handler: handler as usize,
        flags: flags as u64 | SA_RESTORER,
        restorer: restore as *const () as usize,
        mask,
    };
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in signals {
        // SAFETY: the handler is one, and returns by way of the restorer.
        if let Ok(before) = unsafe { kernel_action(*signal, Some(&ours)) } {
            program[slot(*signal)] = before;
        }
    }
    let_in(signals);
}

/// The program asks for its handler, or sets one, of a signal that is ours.
pub(crate) fn program_action(signal: c_int, new: Option<Action>) -> Action {
    shielded(|| {
        let _inside = Inside::enter();
        let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
        let action = &mut program[slot(signal)];
        let before = *action;
        if let Some(new) = new {
            *action = new;
        }
        before
    })
}

/// Where the system call is that ends a handler: the address, and the length.
pub(crate) fn end_of_handlers() -> (usize, usize) {
    // Two instructions of 5 and 2 bytes.
    (restore as *const () as usize, 8)
}

/// The end of a handler.
#[unsafe(naked)]
unsafe extern "C" fn restore() {
    naked_asm!("mov rax, 15", "syscall")
}

/// Ends a handler of the program, whose frame is where its stack pointer is.
///
/// # Safety
///
/// The frame is there.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn return_from(frame: usize) -> ! {
    naked_asm!("mov rsp, rdi", "mov rax, 15", "syscall")
}

/// An access of the program, or of a guarded copy, has faulted.
unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both to a handler of this form.
    let (info, context) = unsafe { (&mut *info, &mut *context.cast::<ucontext_t>()) };
    if guarded::recover(context) {
        return;
    }
    // SAFETY: both signals have an address, unless somebody has sent them.
    let address = unsafe { info.si_addr() }.addr() as u64;
    let write = context.uc_mcontext.gregs[libc::REG_ERR as usize] & 2 != 0;
    let trapped = match state::existing() {
        // Sent ones have a code of 0 or less. SAFETY: the context is that of this signal.
        Some(state) if signal == SIGSEGV && info.si_code > 0 && !is_inside() => unsafe {
            state.trap(context, address, write)
        },
        _ => None,
    };
    match trapped {
        Some(Ok(())) => {}
        Some(Err(Signal::Segv(address))) => pass_on(SIGSEGV, info, context, Some(address)),
        Some(Err(Signal::Bus(address))) => pass_on(SIGBUS, info, context, Some(address)),
        Some(Err(Signal::Stuck)) => die(libc::SIGABRT),
        None if info.si_code > 0 && is_inside() => crash::ended_by(signal, address),
        None => pass_on(signal, info, context, None),
    }
}

/// What the program does at a signal; `address` is where it is told that the access was.
pub(crate) fn pass_on(signal: c_int, info: &mut siginfo_t, context: &mut ucontext_t, address: Option<u64>) {
    if let Some(address) = address {
        info.si_signo = signal;
        // BUS_ADRERR is SEGV_ACCERR.
        info.si_code = 2;
        // SAFETY: the address is behind the three numbers of the head, and their padding.
        unsafe { std::ptr::from_mut(info).cast::<u64>().add(2).write(address) };
    }
    let action = program_action(signal, None);
    match action.handler {
        SIG_DFL => die(signal),
        // The kernel does not ignore what an access has raised.
        SIG_IGN if info.si_code > 0 => die(signal),
        SIG_IGN => {}
        handler => {
            if action.flags & libc::SA_RESETHAND as u64 != 0 {
                program_action(signal, Some(Action::DEFAULT));
            }
            // SAFETY: the first word of a set has the signals that there are.
            let interrupted = unsafe { *(&raw const context.uc_sigmask).cast::<u64>() };
            // The signals themselves stay open: registers may be reached in the handler too.
            let mask = (interrupted | action.mask) & !never_blocked();
            // SAFETY: a set of the size that the kernel has; the end of our handler brings back what it was.
            let _blocked = unsafe {
                raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0_usize, size_of::<u64>())
            };
            if action.flags & libc::SA_SIGINFO as u64 != 0 {
                // SAFETY: the program has set it as a handler of this form.
                let handler: Handler = unsafe { transmute(handler) };
                // SAFETY: as above.
                unsafe { handler(signal, info, std::ptr::from_mut(context).cast()) };
            } else {
                // SAFETY: as above.
                let handler: unsafe extern "C" fn(c_int) = unsafe { transmute(handler) };
                // SAFETY: as above.
                unsafe { handler(signal) };
            }
        }
    }
}

/// Ends the process by a signal.
pub(crate) fn die(signal: c_int) {
    // SAFETY: the default action is set, and the signal is sent to this thread and let in.
    unsafe {
        let _default = kernel_action(signal, Some(&Action::DEFAULT));
        let (process, thread) = (
            rustix::process::getpid().as_raw_nonzero().get(),
            rustix::thread::gettid().as_raw_nonzero().get(),
        );
        let _sent: Answer = raw!(SYS_tgkill, process, thread, signal);
        let open: u64 = 1 << (signal - 1);
        let _open: Answer = raw!(
            SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const open,
            0_usize,
            size_of::<sigset_t>().min(8)
        );
    }
}
