//! One instruction on the real processor, with every register as the test wants it.
//!
//! A breakpoint leads into the handler of a signal, which keeps the registers of the test, puts others in their place, and returns
//! to the instruction. A second breakpoint behind it leads back. So no code of ours runs between.

use std::arch::asm;
use std::cell::Cell;
use std::mem;
use std::ptr;

use crate::trap::context::Context;
use crate::trap::xsave::Layout;
use sys::guarded;

const PAGE: usize = 4096;
const SIGNALS: [i32; 5] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

thread_local! {
    static JOB: Cell<*mut Job<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// What a signal has saved.
#[derive(Clone)]
pub(super) struct Frame {
    general: [libc::greg_t; 23],
    area: Vec<u8>,
}

impl Frame {
    fn of(context: &libc::ucontext_t) -> Self {
        let area = context.uc_mcontext.fpregs.cast::<u8>();
        // SAFETY: the kernel saves 512 bytes at least, and says in bytes 464 and 480 how much follows.
        let area = unsafe {
            let length = area.add(480).cast::<u32>().read_unaligned();
            assert_eq!(
                area.add(464).cast::<u32>().read_unaligned(),
                0x4650_5853,
                "the kernel saves with XSAVE"
            );
            std::slice::from_raw_parts(area, length as usize)
        };
        Frame { general: context.uc_mcontext.gregs, area: area.to_vec() }
    }

    fn put(&self, context: &mut libc::ucontext_t) {
        context.uc_mcontext.gregs = self.general;
        // SAFETY: the area is as long as that of the frame that was saved, on the same processor.
        unsafe {
            ptr::copy_nonoverlapping(
                self.area.as_ptr(),
                context.uc_mcontext.fpregs.cast::<u8>(),
                self.area.len(),
            )
        };
    }

    /// Lends itself as what a handler gets.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut libc::ucontext_t) -> R) -> R {
        // SAFETY: zeros are a context.
        let mut context: libc::ucontext_t = unsafe { mem::zeroed() };
        context.uc_mcontext.gregs = self.general;
        context.uc_mcontext.fpregs = self.area.as_mut_ptr().cast();
        let result = work(&mut context);
        self.general = context.uc_mcontext.gregs;
        result
    }

    /// Lends its registers.
    pub(super) fn registers<R>(&mut self, layout: &Layout, work: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.with(|context| {
            // SAFETY: the area is a copy of one that the kernel has written, and only this frame's.
            work(&mut unsafe { Context::of_signal(context, layout) })
        })
    }
}

struct Job<'a> {
    prepare: &'a mut dyn FnMut(&mut libc::ucontext_t),
    own: Option<Frame>,
    before: Option<Frame>,
    after: Option<Frame>,
    signal: i32,
}

/// What has become of an instruction.
pub(super) struct Executed {
    pub(super) before: Frame,
    pub(super) after: Frame,
    /// SIGTRAP, if it was executed.
    pub(super) signal: i32,
}

/// A page of code and two pages of memory, below 2 GiB.
pub(super) struct Processor {
    pages: *mut u8,
}

impl Processor {
    /// The length of the memory.
    pub(super) const MEMORY: usize = 2 * PAGE;

    pub(super) fn new() -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: new memory, which nothing else uses.
        let pages = unsafe { libc::mmap(ptr::null_mut(), PAGE + Self::MEMORY, protection, flags, -1, 0) };
        assert_ne!(pages, libc::MAP_FAILED, "memory below 2 GiB");
        let stack = Box::leak(vec![0_u8; 64 << 10].into_boxed_slice());
        let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        // SAFETY: the stack is there as long as the process; the handler is one that takes three arguments.
        unsafe {
            assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            for signal in SIGNALS {
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
        }
        Processor { pages: pages.cast() }
    }

    /// Where the instruction will be.
    pub(super) fn code(&self) -> u64 {
        self.pages as u64
    }

    /// Where the memory is.
    pub(super) fn memory(&self) -> u64 {
        self.pages as u64 + PAGE as u64
    }

    pub(super) fn set_memory(&self, bytes: &[u8; Self::MEMORY]) {
        // SAFETY: the pages are ours, and no reference to them exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.pages.add(PAGE), Self::MEMORY) };
    }

    pub(super) fn get_memory(&self) -> [u8; Self::MEMORY] {
        // SAFETY: the pages are ours.
        unsafe { self.pages.add(PAGE).cast::<[u8; Self::MEMORY]>().read() }
    }

    /// From here on the second page of the memory faults.
    pub(super) fn take_access_of_second_page(&self) {
        // SAFETY: the page is ours, and no reference to it exists.
        assert_eq!(unsafe { libc::mprotect(self.pages.add(2 * PAGE).cast(), PAGE, libc::PROT_NONE) }, 0);
    }

    /// Executes the bytes of one instruction, on registers as they are after `prepare`.
    pub(super) fn execute(&self, bytes: &[u8], prepare: &mut dyn FnMut(&mut libc::ucontext_t)) -> Executed {
        // SAFETY: the pages are ours. One instruction and a breakpoint fit.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.pages, bytes.len());
            self.pages.add(bytes.len()).write(0xcc);
        }
        let code = self.code();
        let mut prepare = |context: &mut libc::ucontext_t| {
            prepare(context);
            context.uc_mcontext.gregs[libc::REG_RIP as usize] = code as i64;
        };
        let mut job = Job { prepare: &mut prepare, own: None, before: None, after: None, signal: 0 };
        JOB.set((&raw mut job).cast());
        // SAFETY: the handler gives all registers back as they were.
        unsafe { asm!("int3") };
        JOB.set(ptr::null_mut());
        let (before, after) = job.before.zip(job.after).expect("both breakpoints are hit");
        Executed { before, after, signal: job.signal }
    }
}

extern "C" fn on_signal(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a context that is the handler's until it returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if guarded::recover(context) {
        return;
    }
    let job = JOB.get();
    if job.is_null() {
        // SAFETY: the signal is then what it was for programs without a handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: `execute` has it on its stack, below which this handler runs in the same thread.
    let job = unsafe { &mut *job };
    match &job.own {
        None => {
            job.own = Some(Frame::of(context));
            (job.prepare)(context);
            job.before = Some(Frame::of(context));
        }
        Some(own) => {
            job.after = Some(Frame::of(context));
            job.signal = signal;
            own.put(context);
        }
    }
}
