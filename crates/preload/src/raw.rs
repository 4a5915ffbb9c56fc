//! System calls, made without libc: what it exports, this library may have taken the place of.

use std::arch::asm;
use std::ffi::{CStr, c_int, c_long};

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

/// A system call with up to six arguments, each of them anything that is one word.
macro_rules! raw {
    ($number:ident $(, $argument:expr)* $(,)?) => {{
        let mut arguments = [0_usize; 6];
        let mut _at = 0;
        $(
            arguments[_at] = $crate::raw::Word::word($argument);
            _at += 1;
        )*
        $crate::raw::call(libc::$number, arguments)
    }};
}
pub(crate) use raw;

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

/// As [`reply`], for functions that answer an `int`.
pub(crate) fn reply_int(answer: Answer) -> c_int {
    reply(answer) as c_int
}
