//! Copies to and from memory of the program that may not be there.
//!
//! One instruction makes the accesses. Where it faults, the handler of the signal asks [`recover`], and the copy ends there
//! instead of the program. So the signal must reach the handler during the copy: SIGSEGV and SIGBUS are not blocked (the
//! handler itself has `SA_NODEFER`).

use std::arch::naked_asm;

/// Copies bytes of the program.
///
/// # Errors
///
/// The address from which on they cannot be read. Those before were copied.
pub fn read(address: u64, bytes: &mut [u8]) -> Result<(), u64> {
    // SAFETY: the target is a slice, and a source that is not there is an error.
    let missing = unsafe { copy(bytes.as_mut_ptr(), address as *const u8, bytes.len()) };
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
/// What is there is the program's, which wants it written.
pub unsafe fn write(address: u64, bytes: &[u8]) -> Result<(), u64> {
    // SAFETY: the source is a slice, and a target that is not there is an error; else as the caller has promised.
    let missing = unsafe { copy(address as *mut u8, bytes.as_ptr(), bytes.len()) };
    if missing == 0 { Ok(()) } else { Err(address.wrapping_add((bytes.len() - missing) as u64)) }
}

/// Ends the copy that the signal has interrupted, if it is one. The handler returns then, and has nothing else to do.
pub fn recover(context: &mut libc::ucontext_t) -> bool {
    let rip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    let accesses = copy as *const () as i64 + ACCESSES;
    let hit = *rip == accesses;
    if hit {
        *rip = accesses + ACCESSES_LENGTH;
    }
    hit
}

/// Where the instruction that accesses memory is within [`copy`], and its length.
const ACCESSES: i64 = 3;
const ACCESSES_LENGTH: i64 = 2;

/// Copies bytes, and answers how many it could not copy.
#[unsafe(naked)]
unsafe extern "C" fn copy(target: *mut u8, source: *const u8, length: usize) -> usize {
    naked_asm!(
        ".byte 0x48, 0x89, 0xd1", // mov rcx, rdx
        ".byte 0xf3, 0xa4",       // rep movsb: counts rcx down, and is where it was when it faults
        "mov rax, rcx",
        "ret",
    )
}
