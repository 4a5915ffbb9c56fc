//! System calls, made without libc: what it exports, this library may have taken the place of.

use std::arch::asm;
use std::ffi::{CStr, c_char, c_int, c_long};
use std::ptr;

use crate::inside::is_inside;

/// The answer of the kernel: a value, or an errno.
pub(crate) type Answer = Result<usize, c_int>;

/// Makes a system call.
///
/// # Safety
///
/// As for the call itself.
pub(crate) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Answer {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let answer: isize;
    // SAFETY: the kernel keeps every register but these two and the answer's; that the call is sound is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, in("r9") sixth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    match answer {
        -4095..0 => Err(-answer as c_int),
        _ => Ok(answer as usize),
    }
}

/// As [`call`], for a call that may wait long: a thread that waits there is cancelled, as it is in the function of libc.
///
/// # Safety
///
/// As for the call itself, and no frame of this library up to the program's has anything to drop: cancellation unwinds them.
// Of its own, so that the instruction is in a frame without a landing pad.
#[inline(never)]
pub(crate) unsafe fn call_waiting(number: c_long, arguments: [usize; 6]) -> Answer {
    if is_inside() {
        // SAFETY: as the caller has promised.
        return unsafe { call(number, arguments) };
    }
    if is_single_threaded() {
        // Nobody cancels it while it waits; it may have cancelled itself before.
        // SAFETY: as the caller has promised.
        return unsafe {
            pthread_testcancel();
            call(number, arguments)
        };
    }
    let before = CancelType::Asynchronous.set();
    // SAFETY: as the caller has promised.
    let answer = unsafe { call(number, arguments) };
    before.set();
    answer
}

unsafe extern "C-unwind" {
    static __libc_single_threaded: c_char;
    fn pthread_testcancel();
    fn pthread_setcanceltype(kind: c_int, before: *mut c_int) -> c_int;
}

/// Whether libc knows that there is one thread.
fn is_single_threaded() -> bool {
    // SAFETY: libc has it, and writes to it where it makes a thread, or has joined the last.
    unsafe { ptr::read_volatile(&raw const __libc_single_threaded) != 0 }
}

/// When a thread is cancelled.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum CancelType {
    /// Where it waits.
    Deferred = 0,
    /// At any time.
    Asynchronous = 1,
}

impl CancelType {
    /// Says so of the calling thread; what it was before. One that is to be cancelled may not return.
    pub(crate) fn set(self) -> Self {
        let mut before = 0;
        // SAFETY: the number is this function's own.
        unsafe { pthread_setcanceltype(self as c_int, &raw mut before) };
        if before == CancelType::Asynchronous as c_int {
            CancelType::Asynchronous
        } else {
            CancelType::Deferred
        }
    }
}

/// A system call with up to six arguments, each of them anything that is one word.
macro_rules! raw {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        $crate::raw::call(libc::$number, $crate::raw::arguments!($($argument),*))
    };
}
pub(crate) use raw;

/// As [`raw!`], for a call that may wait long: a point at which the thread is cancelled, as it is in the function of libc.
macro_rules! waiting {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        $crate::raw::call_waiting(libc::$number, $crate::raw::arguments!($($argument),*))
    };
}
pub(crate) use waiting;

/// The arguments of a call, in their registers.
macro_rules! arguments {
    ($($argument:expr),*) => {{
        let mut arguments = [0_usize; 6];
        let mut _at = 0;
        $(
            arguments[_at] = $crate::raw::Word::word($argument);
            _at += 1;
        )*
        arguments
    }};
}
pub(crate) use arguments;

/// What is passed in one register.
pub(crate) trait Word {
    fn word(self) -> usize;
}

macro_rules! words {
    ($($type:ty)*) => {$(
        impl Word for $type {
            fn word(self) -> usize {
                self as usize
            }
        }
    )*};
}

words!(i32 u32 i64 u64 usize isize);

impl<T: ?Sized> Word for *const T {
    fn word(self) -> usize {
        self.cast::<u8>().expose_provenance()
    }
}

impl<T: ?Sized> Word for *mut T {
    fn word(self) -> usize {
        self.cast::<u8>().expose_provenance()
    }
}

impl Word for &CStr {
    fn word(self) -> usize {
        self.as_ptr().word()
    }
}

/// Answers a caller in C: -1 with `errno`, or the value.
pub(crate) fn reply(answer: Answer) -> c_long {
    match answer {
        Ok(value) => value as c_long,
        Err(errno) => {
            // SAFETY: it points to the calling thread's own errno.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

/// What a function of libc that has failed has told its caller.
pub(crate) fn told() -> Answer {
    // SAFETY: it points to the calling thread's own errno.
    Err(unsafe { *libc::__errno_location() })
}

/// As [`reply`], for functions that answer an `int`.
pub(crate) fn reply_int(answer: Answer) -> c_int {
    reply(answer) as c_int
}
