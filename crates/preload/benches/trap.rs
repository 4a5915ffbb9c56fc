//! What a trapped register access costs beside the signal: `cargo bench --bench trap [-- --quick]`.
//!
//! The signal alone is one whose handler steps over the instruction.

use std::arch::asm;
use std::mem;
use std::process::ExitCode;
use std::ptr;
use std::sync::OnceLock;

use bench::{Comparisons, timed};
use ioasis_preload::trap::stack::Stacks;
use ioasis_preload::trap::{Bus, Emulator, Revoked};
use sys::Width;
use sys::guarded;

/// Accesses in a round.
const ACCESSES: u32 = 2000;

/// A page without access, answered by a constant.
struct Registers {
    start: u64,
}

impl Bus for Registers {
    fn covers(&self, address: u64) -> bool {
        address & !0xfff == self.start
    }

    fn read(&self, _: u64, _: Width) -> Result<u64, Revoked> {
        Ok(0x5555)
    }

    fn write(&self, _: u64, _: Width, _: u64) -> Result<(), Revoked> {
        Ok(())
    }
}

struct Handler {
    registers: Registers,
    emulator: Emulator,
    stacks: Stacks,
}

static HANDLER: OnceLock<Handler> = OnceLock::new();

extern "C" fn emulates(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context that is the handler's until it returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let handler = HANDLER.get().expect("set before the page traps");
    if guarded::recover(context) {
        return;
    }
    // SAFETY: the instructions of this bench may do what they do.
    let outcome = handler
        .stacks
        .run(context, |context| unsafe { handler.emulator.carry_out(context, &handler.registers) });
    if outcome != Ok(Ok(())) {
        std::process::abort();
    }
}

/// All instructions of this bench that trap have two bytes.
extern "C" fn steps_over(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context that is the handler's until it returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
}

fn handle(handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)) {
    // SAFETY: the handler takes three arguments.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigdelset(&raw mut action.sa_mask, libc::SIGSEGV);
        libc::sigdelset(&raw mut action.sa_mask, libc::SIGBUS);
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

/// Loads or stores. RBX cannot be named as an operand, and RDX makes an instruction as short.
fn access(address: u64, store: bool) {
    for _ in 0..ACCESSES {
        // SAFETY: the handler answers for the page, or steps over the instruction.
        unsafe {
            if store {
                asm!("mov [rdx], eax", in("rax") 1_u64, in("rdx") address, options(nostack));
            } else {
                asm!("mov eax, [rdx]", inout("rax") 0_u64 => _, in("rdx") address, options(nostack));
            }
        }
    }
}

fn main() -> ExitCode {
    // SAFETY: new memory.
    let page = unsafe {
        libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    let start = page as u64;
    let stacks = Stacks::new().expect("address space");
    HANDLER.get_or_init(|| Handler { registers: Registers { start }, emulator: Emulator::new(), stacks });

    let mut comparisons = Comparisons::new();
    for (stack, size) in [("", 0), (", on a stack for signals", 1 << 16)] {
        set_signal_stack(size);
        for (name, store) in [("load", false), ("store", true)] {
            comparisons.compare(
                &format!("trapped {name} / signal alone{stack}"),
                ACCESSES,
                Some(1.5),
                || {
                    handle(emulates);
                    timed(|| access(start, store))
                },
                || {
                    handle(steps_over);
                    timed(|| access(start, store))
                },
            );
        }
    }
    comparisons.finish()
}

/// Gives the thread a stack for signals, or none.
fn set_signal_stack(size: usize) {
    let memory = Box::leak(vec![0_u8; size].into_boxed_slice());
    let flags = if size == 0 { libc::SS_DISABLE } else { 0 };
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: flags, ss_size: size };
    // SAFETY: the stack is there as long as the process.
    assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
}
