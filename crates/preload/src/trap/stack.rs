//! Stacks that the handler of a trap works on.
//!
//! A program gives its signals whatever stack it likes, and many give them a few kilobytes. What answers a register access
//! needs more: so it runs on a stack of our own.

use std::arch::asm;
use std::ffi::c_void;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

use crate::raw::raw;

/// The length of a stack, and of the pages below it that must not be touched.
const STACK: usize = 256 << 10;
const GUARD: usize = 4096;

/// As many threads may be in a trap at a time. More wait.
const STACKS: usize = 64;

/// Stacks of 256 KiB each. They are address space until they are used, and are there as long as the process.
#[derive(Debug)]
pub struct Stacks {
    base: usize,
    /// Which stacks are in use, a bit each.
    used: AtomicU64,
}

/// The code that was interrupted runs on one of the stacks: our own work has touched registers, or crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nested;

impl Stacks {
    /// Reserves the stacks. Not for a signal handler.
    ///
    /// # Errors
    ///
    /// If the address space is not to be had.
    pub fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: new memory somewhere, which nothing else uses.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                STACKS * (GUARD + STACK),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        for index in 0..STACKS {
            let guard = base.cast::<u8>().wrapping_add(index * (GUARD + STACK)).cast::<c_void>();
            // SAFETY: the lowest page of a stack's part of that memory, which nothing uses yet.
            unsafe { mprotect(guard, GUARD, MprotectFlags::empty()) }?;
        }
        Ok(Stacks { base: base as usize, used: AtomicU64::new(0) })
    }

    /// Runs `work`, which must not panic, on one of the stacks, in the handler of a signal that has got `context`.
    ///
    /// The handler blocks all other signals. SIGSEGV it does not, for guarded copies: so the thread's stack for signals is put
    /// aside meanwhile, at whose top the frame of the first signal still is.
    ///
    /// # Errors
    ///
    /// If the code that was interrupted runs on one of the stacks itself.
    pub fn run<R>(
        &self,
        context: &mut libc::ucontext_t,
        work: impl FnOnce(&mut libc::ucontext_t) -> R,
    ) -> Result<R, Nested> {
        let interrupted = context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
        if (self.base..self.base + STACKS * (GUARD + STACK)).contains(&interrupted) {
            return Err(Nested);
        }
        let index = self.take();
        let top = self.base + (index + 1) * (GUARD + STACK);
        let program = context.uc_stack;
        let has_stack = program.ss_flags & libc::SS_DISABLE == 0;
        let work = || {
            if has_stack {
                set_signal_stack(&DISARMED);
            }
            let result = work(context);
            if has_stack {
                set_signal_stack(&program);
            }
            result
        };
        // SAFETY: the stack of that index is this call's alone until its bit is cleared.
        let result = unsafe { on_stack(top, work) };
        self.used.fetch_and(!(1 << index), Ordering::Release);
        Ok(result)
    }

    /// Forgets the stacks of other threads: for the child after a fork, in which they are not.
    pub fn forget_others(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    /// The number of a stack that nobody uses. Who has one gives it back without waiting for another.
    fn take(&self) -> usize {
        loop {
            let used = self.used.load(Ordering::Relaxed);
            let index = used.trailing_ones() as usize;
            if index == STACKS {
                rustix::thread::sched_yield();
            } else if self.used.fetch_or(1 << index, Ordering::Acquire) & 1 << index == 0 {
                return index;
            }
        }
    }
}

/// Calls `work` with the stack pointer at `top`.
///
/// # Safety
///
/// A stack ends there, and nobody else uses it.
unsafe fn on_stack<R, F: FnOnce() -> R>(top: usize, work: F) -> R {
    let mut call = Call { work: Some(work), result: None };
    // SAFETY: `enter` is called as the ABI wants it, with a stack aligned to 16 bytes, and what it changes is named. R12 is
    // kept by whatever is called.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {enter}",
            "mov rsp, r12",
            top = in(reg) top,
            enter = in(reg) enter::<R, F> as unsafe extern "C" fn(*mut Call<R, F>),
            in("rdi") &raw mut call,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    call.result.expect("the work has been done")
}

struct Call<R, F> {
    work: Option<F>,
    result: Option<R>,
}

/// # Safety
///
/// `call` is valid and nobody else's.
unsafe extern "C" fn enter<R, F: FnOnce() -> R>(call: *mut Call<R, F>) {
    // SAFETY: as the caller has promised.
    let call = unsafe { &mut *call };
    call.result = call.work.take().map(|work| work());
}

/// Sets the thread's stack for signals. Not through libc, where the call may be ours.
fn set_signal_stack(stack: &libc::stack_t) {
    // SAFETY: sigaltstack(2) reads it. It is none, or what the program has set.
    let _ = unsafe { raw!(SYS_sigaltstack, std::ptr::from_ref(stack), 0_usize) };
}

const DISARMED: libc::stack_t =
    libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
