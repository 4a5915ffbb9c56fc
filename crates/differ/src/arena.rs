//! The memory that sequences speak of: at one address for all systems, since automatic placement depends on it.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use sys::shared;

pub(crate) const PAGE: u64 = 4096;

/// Memory to map for devices.
const BUFFER: Part = Part { start: 0, length: 4 << 20 };
/// Memory that arguments point to: arrays, bitmaps.
const SCRATCH: Part = Part { start: BUFFER.length, length: 64 << 10 };
/// Where arguments lie: they end with it, and behind it nothing can be reached.
const ARGUMENT: Part = Part { start: SCRATCH.start + SCRATCH.length, length: PAGE };
const GUARD: Part = Part { start: ARGUMENT.start + ARGUMENT.length, length: PAGE };
/// For arguments that can be read and not be written.
const READ_ONLY: Part = Part { start: GUARD.start + GUARD.length, length: PAGE };
const LENGTH: u64 = READ_ONLY.start + READ_ONLY.length;
/// The buffer begins with a huge page.
const ALIGNMENT: u64 = 2 << 20;

/// What is mapped: an aligned arena lies in it, and at least a page behind that.
const REACH: usize = (LENGTH + ALIGNMENT + PAGE) as usize;

/// Where the memory of a process is: above all that numbers in arguments usually are. [`Arena::new`] makes sure of it.
const PROCESS: Range<u64> = 1 << 44..1 << 47;

/// A part of the arena, in bytes from its start.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    length: u64,
}

/// Memory at addresses that stay the same for as long as it lives.
pub struct Arena {
    whole: NonNull<c_void>,
    start: NonNull<u8>,
}

// SAFETY: the pointers name memory of this value's own, which is reached through copies alone.
unsafe impl Send for Arena {}
// SAFETY: as above; copies that overlap in time are what `sys::shared` is for.
unsafe impl Sync for Arena {}

impl Arena {
    /// Fresh zeroed memory.
    pub fn new() -> io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let lowest = maps.split('-').next().and_then(|address| u64::from_str_radix(address, 16).ok());
        if lowest.is_none_or(|lowest| lowest < PROCESS.start) {
            let why = "the program is loaded at a fixed address, where numbers in arguments could be taken for its memory";
            return Err(io::Error::other(why));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let whole = unsafe {
            mmap_anonymous(null_mut(), REACH, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let skipped = (whole as usize).next_multiple_of(ALIGNMENT as usize) - whole as usize;
        let whole = NonNull::new(whole).ok_or(rustix::io::Errno::NOMEM)?;
        // SAFETY: fewer than `ALIGNMENT` bytes are skipped, and the mapping has that many more.
        let start = unsafe { whole.cast::<u8>().add(skipped) };
        let arena = Arena { whole, start };
        arena.protect(GUARD, MprotectFlags::empty())?;
        // A range that begins here and is too long must end here: a kernel pins all that it can before it refuses, and what
        // comes next may be the memory of a machine.
        let behind = Part { start: LENGTH, length: (REACH - skipped) as u64 - LENGTH };
        arena.protect(behind, MprotectFlags::empty())?;
        arena.protect(READ_ONLY, MprotectFlags::READ)?;
        Ok(arena)
    }

    fn protect(&self, part: Part, flags: MprotectFlags) -> io::Result<()> {
        let at = self.at(part.start).as_ptr().cast();
        // SAFETY: the part lies in the arena, and nobody holds a reference to it.
        unsafe { mprotect(at, part.length as usize, flags)? };
        Ok(())
    }

    /// An address in the buffer, or behind it where `offset` is.
    pub(crate) fn buffer(&self, offset: u64) -> u64 {
        self.address(BUFFER).wrapping_add(offset)
    }

    /// An address in the scratch memory.
    pub(crate) fn scratch(&self, offset: u64) -> u64 {
        self.address(SCRATCH).wrapping_add(offset)
    }

    /// Whether a system that takes a number for an address reaches memory of the arena there, or none.
    pub(crate) fn is_harmless(&self, number: u64) -> bool {
        number.wrapping_sub(self.address(BUFFER)) < LENGTH || !PROCESS.contains(&number)
    }

    /// The scratch memory's first bytes.
    pub(crate) fn scratch_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        self.read(SCRATCH.start, &mut bytes);
        bytes
    }

    /// Writes into the scratch memory; what goes beyond it is dropped.
    pub(crate) fn poke(&self, offset: u64, bytes: &[u8]) {
        let room = SCRATCH.length.saturating_sub(offset) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        self.write(SCRATCH.start + offset.min(SCRATCH.length), bytes);
    }

    /// Puts an argument where it ends with the memory that can be reached.
    pub(crate) fn place(&self, bytes: &[u8]) -> u64 {
        assert!(bytes.len() as u64 <= ARGUMENT.length, "an argument fits into a page");
        let offset = GUARD.start - bytes.len() as u64;
        self.write(offset, bytes);
        self.at(offset).as_ptr() as u64
    }

    /// Puts an argument where it can be read and not be written.
    pub(crate) fn place_read_only(&self, bytes: &[u8]) -> io::Result<u64> {
        assert!(bytes.len() as u64 <= READ_ONLY.length, "an argument fits into a page");
        self.protect(READ_ONLY, MprotectFlags::READ | MprotectFlags::WRITE)?;
        let offset = LENGTH - bytes.len() as u64;
        self.write(offset, bytes);
        self.protect(READ_ONLY, MprotectFlags::READ)?;
        Ok(self.at(offset).as_ptr() as u64)
    }

    /// An argument that was placed, as it is now.
    pub(crate) fn placed(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(GUARD.start - length as u64, &mut bytes);
        bytes
    }

    /// Everything that calls may have changed is zero again.
    pub(crate) fn clear(&self) {
        self.write(SCRATCH.start, &vec![0; SCRATCH.length as usize]);
        self.write(ARGUMENT.start, &vec![0; ARGUMENT.length as usize]);
    }

    fn address(&self, part: Part) -> u64 {
        self.at(part.start).as_ptr() as u64
    }

    fn at(&self, offset: u64) -> NonNull<u8> {
        assert!(offset <= LENGTH, "the arena ends before");
        // SAFETY: the arena has `LENGTH` bytes.
        unsafe { self.start.add(offset as usize) }
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) {
        assert!(offset + bytes.len() as u64 <= LENGTH, "the arena ends before");
        // SAFETY: the bytes lie in the arena, in a part that can be read, and no reference to them exists.
        unsafe { shared::read(self.at(offset), bytes) };
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= LENGTH, "the arena ends before");
        // SAFETY: the bytes lie in the arena, in a part that can be written, and no reference to them exists.
        unsafe { shared::write(self.at(offset), bytes) };
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and is used by nobody after this.
        let unmapped = unsafe { munmap(self.whole.as_ptr(), REACH) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_too_long_ends_with_the_arena() {
        let arena = Arena::new().expect("memory");
        let behind = arena.at(LENGTH).as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let holds = |line: &&str| {
            let mut ends = line.split([' ', '-']).map(|end| usize::from_str_radix(end, 16).unwrap_or(0));
            (ends.next().unwrap_or(0)..ends.next().unwrap_or(0)).contains(&behind)
        };
        let line = maps.lines().find(holds).expect("it is mapped");
        assert!(line.contains(" ---p "), "{line}");
    }
}
