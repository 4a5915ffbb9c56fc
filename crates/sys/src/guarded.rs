//! Copies to and from memory of the program that may not be there.
//!
//! A single instruction makes each access. Where it faults, the handler of the signal asks [`recover`], and the copy ends there
//! instead of the program. So the signal must reach such a handler during the copy: SIGSEGV and SIGBUS are not blocked (the handler
//! itself has `SA_NODEFER`). Without one, and on processors other than x86-64, a fault is what it is elsewhere: the end.

use std::sync::atomic::{AtomicBool, Ordering};

static RECOVERS: AtomicBool = AtomicBool::new(false);

/// From now on every fault of an access here is recovered from, in every thread.
///
/// # Safety
///
/// The handlers of SIGSEGV and SIGBUS ask [`recover`] first, and stay. No thread blocks the two.
#[cfg(target_arch = "x86_64")]
pub unsafe fn rely_on_handlers() {
    RECOVERS.store(true, Ordering::Relaxed);
}

/// Whether that is so: then these are the fastest copies that know of memory that is not there.
pub fn recovers() -> bool {
    RECOVERS.load(Ordering::Relaxed)
}

/// Copies bytes of the program.
///
/// # Errors
///
/// The address from which on they cannot be read. Those before were copied.
///
/// # Safety
///
/// The bytes are there, or a fault is recovered from.
pub unsafe fn read(address: u64, bytes: &mut [u8]) -> Result<(), u64> {
    // SAFETY: the target is a slice; of the source as the caller has promised.
    let missing = unsafe { access::copy(bytes.as_mut_ptr(), address as *const u8, bytes.len()) };
    if missing == 0 { Ok(()) } else { Err(address.wrapping_add((bytes.len() - missing) as u64)) }
}

/// Copies bytes to where the program has them.
///
/// # Errors
///
/// The address from which on they cannot be written. Those before were copied.
///
/// # Safety
///
/// What is there is the program's, which wants it written; or a fault is recovered from.
pub unsafe fn write(address: u64, bytes: &[u8]) -> Result<(), u64> {
    // SAFETY: the source is a slice; of the target as the caller has promised.
    let missing = unsafe { access::copy(address as *mut u8, bytes.as_ptr(), bytes.len()) };
    if missing == 0 { Ok(()) } else { Err(address.wrapping_add((bytes.len() - missing) as u64)) }
}

macro_rules! words {
    ($($load:ident, $store:ident, $move:ident, $type:ty;)*) => {$(
        /// One load of an aligned word; what was written before it elsewhere is seen by later reads. `None` if it is not there.
        ///
        /// # Safety
        ///
        /// As for [`read`].
        pub unsafe fn $load(address: *const $type) -> Option<$type> {
            let mut value = 0;
            // SAFETY: the target is a word; of the source as the caller has promised.
            unsafe { access::$move(&raw mut value, address) }.then_some(value)
        }

        /// One store of an aligned word, seen after everything that was written before it. False if it cannot be written.
        ///
        /// # Safety
        ///
        /// As for [`write()`].
        pub unsafe fn $store(address: *mut $type, value: $type) -> bool {
            // SAFETY: the source is a word; of the target as the caller has promised.
            unsafe { access::$move(address, &raw const value) }
        }
    )*};
}

words! {
    load_u32, store_u32, move_u32, u32;
    load_u64, store_u64, move_u64, u64;
}

pub use access::recover;

#[cfg(target_arch = "x86_64")]
mod access {
    use std::arch::naked_asm;

    /// Ends the copy that the signal has interrupted, if it is one. The handler returns then, and has nothing else to do.
    pub fn recover(context: &mut libc::ucontext_t) -> bool {
        // Where the instruction that accesses memory is in each function, and where it goes on after a fault.
        let accesses = [
            (copy as *const () as i64, 3, 5),
            (move_u32 as *const () as i64, 2, 5),
            (move_u64 as *const () as i64, 2, 6),
        ];
        let rip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        match accesses.into_iter().find(|&(start, access, _)| start + access == *rip) {
            Some((start, _, after)) => *rip = start + after,
            None => return false,
        }
        true
    }

    /// Copies bytes, and answers how many it could not copy.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn copy(target: *mut u8, source: *const u8, length: usize) -> usize {
        naked_asm!(
            ".byte 0x48, 0x89, 0xd1", // mov rcx, rdx
            ".byte 0xf3, 0xa4",       // rep movsb: counts rcx down, and is where it was when it faults
            "mov rax, rcx",
            "ret",
        )
    }

    /// Moves a word. Whether it could.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn move_u32(target: *mut u32, source: *const u32) -> bool {
        naked_asm!(
            ".byte 0x31, 0xc0", // xor eax, eax
            ".byte 0xa5",       // movsd
            ".byte 0xb0, 0x01", // mov al, 1
            "ret",
        )
    }

    /// Moves a word. Whether it could.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn move_u64(target: *mut u64, source: *const u64) -> bool {
        naked_asm!(
            ".byte 0x31, 0xc0", // xor eax, eax
            ".byte 0x48, 0xa5", // movsq
            ".byte 0xb0, 0x01", // mov al, 1
            "ret",
        )
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod access {
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// No copy is recovered from.
    pub fn recover(_: &mut libc::ucontext_t) -> bool {
        false
    }

    pub(super) unsafe fn copy(target: *mut u8, source: *const u8, length: usize) -> usize {
        for at in 0..length {
            // SAFETY: as the caller has promised.
            unsafe { target.add(at).write_volatile(source.add(at).read_volatile()) };
        }
        0
    }

    pub(super) unsafe fn move_u32(target: *mut u32, source: *const u32) -> bool {
        // SAFETY: as the caller has promised.
        unsafe {
            AtomicU32::from_ptr(target)
                .store(AtomicU32::from_ptr(source.cast_mut()).load(Ordering::Acquire), Ordering::Release)
        };
        true
    }

    pub(super) unsafe fn move_u64(target: *mut u64, source: *const u64) -> bool {
        // SAFETY: as the caller has promised.
        unsafe {
            AtomicU64::from_ptr(target)
                .store(AtomicU64::from_ptr(source.cast_mut()).load(Ordering::Acquire), Ordering::Release)
        };
        true
    }
}
