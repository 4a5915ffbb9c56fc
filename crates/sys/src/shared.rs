//! Copying to and from memory that others use meanwhile: a device, the thread that stands for one, or another thread of
//! the program that shares a buffer.
//!
//! The copies of the standard library are not for that: two of them at a time on the same bytes are undefined behaviour,
//! whatever the bytes mean, and the compiler may rely on nobody else touching what they touch. Here it may not: the
//! accesses are volatile, and long pieces are moved by an instruction that it does not look into. Two copies at a time
//! mix bytes then, as on hardware, and that is all.

use std::ptr::NonNull;

/// From how many bytes on one instruction is as fast as word by word.
const LONG: usize = 1024;

/// Bytes that are moved in one access, where the shared memory is aligned to as many.
const WORD: usize = size_of::<u64>();

/// Copies bytes out of shared memory. Each is one that was there meanwhile.
///
/// # Safety
///
/// As many bytes as `bytes` has are mapped for reading from `source` on, and no Rust reference to them exists.
#[inline]
pub unsafe fn read(source: NonNull<u8>, bytes: &mut [u8]) {
    if bytes.len() >= LONG {
        // SAFETY: what the caller has promised of the source; the target is a slice.
        return unsafe { copy(source.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
    }
    let mut at = 0;
    while at < bytes.len() {
        let here = source.as_ptr().wrapping_add(at);
        match bytes[at..].first_chunk_mut::<WORD>() {
            Some(word) if here.cast::<u64>().is_aligned() => {
                // SAFETY: a word from here on is within what the caller has promised, and it is aligned.
                *word = unsafe { here.cast::<u64>().read_volatile() }.to_ne_bytes();
                at += WORD;
            }
            _ => {
                // SAFETY: a byte is there still, as the condition of the loop says.
                bytes[at] = unsafe { here.read_volatile() };
                at += 1;
            }
        }
    }
}

/// Copies bytes into shared memory.
///
/// # Safety
///
/// As many bytes as `bytes` has are mapped for writing from `target` on, and no Rust reference to them exists.
#[inline]
pub unsafe fn write(target: NonNull<u8>, bytes: &[u8]) {
    if bytes.len() >= LONG {
        // SAFETY: what the caller has promised of the target; the source is a slice.
        return unsafe { copy(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }
    let mut at = 0;
    while at < bytes.len() {
        let here = target.as_ptr().wrapping_add(at);
        match bytes[at..].first_chunk::<WORD>() {
            Some(word) if here.cast::<u64>().is_aligned() => {
                // SAFETY: a word from here on is within what the caller has promised, and it is aligned.
                unsafe { here.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) };
                at += WORD;
            }
            _ => {
                // SAFETY: a byte is there still, as the condition of the loop says.
                unsafe { here.write_volatile(bytes[at]) };
                at += 1;
            }
        }
    }
}

/// Sets `length` bytes of shared memory.
///
/// # Safety
///
/// As for [`write()`].
#[inline]
pub unsafe fn fill(target: NonNull<u8>, length: usize, value: u8) {
    let piece = [value; 4096];
    for at in (0..length).step_by(piece.len()) {
        let left = piece.len().min(length - at);
        // SAFETY: the piece is within what the caller has promised.
        unsafe { write(target.add(at), &piece[..left]) };
    }
}

/// Copies from or to shared memory.
///
/// # Safety
///
/// `length` bytes are mapped for reading from `source` on, and for writing from `target` on; the two do not overlap.
#[cfg(target_arch = "x86_64")]
unsafe fn copy(source: *const u8, target: *mut u8, length: usize) {
    // SAFETY: the instruction moves RCX bytes upwards from RSI to RDI: the direction flag is clear on entry, as Rust
    // promises. It touches nothing but these, which the caller has vouched for.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") source => _,
            inout("rdi") target => _,
            options(nostack, preserves_flags),
        );
    }
}

/// The same where there is no such instruction.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy(source: *const u8, target: *mut u8, length: usize) {
    for at in 0..length {
        // SAFETY: within what the caller has promised of the two.
        unsafe { target.add(at).write_volatile(source.add(at).read_volatile()) };
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::{fill, read, write};

    /// Every alignment of the shared side, and lengths around those at which the way of copying changes.
    #[test]
    fn every_byte_arrives_and_no_other_is_touched() {
        let lengths = (0..40).chain(1020..1030).chain(4090..4100);
        for (start, length) in (0..9).flat_map(|start| lengths.clone().map(move |length| (start, length))) {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8 | 1).collect();
            let mut memory = vec![0_u8; length + 32];
            let shared = NonNull::from(&mut memory[start]);
            let mut back = vec![0; length];
            // SAFETY: the vector has that many bytes from there on, and is not used meanwhile.
            unsafe {
                write(shared, &bytes);
                read(shared, &mut back);
            }
            assert_eq!(back, bytes, "{length} bytes at {start}");
            assert_eq!(memory[start..start + length], bytes);
            assert!(memory[..start].iter().chain(&memory[start + length..]).all(|&byte| byte == 0));

            let shared = NonNull::from(&mut memory[start]);
            // SAFETY: as above.
            unsafe { fill(shared, length, 0xee) };
            assert!(memory[start..start + length].iter().all(|&byte| byte == 0xee));
            assert!(memory[..start].iter().chain(&memory[start + length..]).all(|&byte| byte == 0));
        }
    }
}
