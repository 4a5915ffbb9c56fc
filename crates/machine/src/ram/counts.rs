//! How much of the memory of each process is pinned, told to those whose machine another process keeps.

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use subsystem::Task;

/// How many pins there are for pieces of the address spaces of processes, in memory that those have in common which were made by
/// `fork` after it. A piece may share its count with another one: that something is pinned there may be wrong, that nothing is may not.
#[derive(Clone, Copy, Debug)]
pub struct PinCounts(&'static [AtomicU32; COUNTS]);

const COUNTS: usize = 1 << 14;
/// Bytes of a piece.
const PIECE: u64 = 1 << 16;

impl PinCounts {
    /// Nothing is pinned. It stays as long as the process.
    pub fn new() -> rustix::io::Result<Self> {
        let (length, both) = (size_of::<[AtomicU32; COUNTS]>(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address that the host picks disturbs nobody.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, both, MapFlags::SHARED) }?;
        let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        // SAFETY: it has the size of the array, zeroes are counts, and it is never unmapped; all that have it use atomics.
        Ok(PinCounts(unsafe { start.as_ref() }))
    }

    /// Whether some memory at these addresses of a process may be pinned.
    #[must_use]
    pub fn may_have(&self, process: u32, addresses: &Range<u64>) -> bool {
        let pieces = addresses.start / PIECE..addresses.end.div_ceil(PIECE);
        // More than all of them would be some twice.
        pieces.take(COUNTS).any(|piece| self.count(process, piece).load(Ordering::Acquire) > 0)
    }

    pub(super) fn add(self, task: Task, address: u64) {
        self.count(task.0, address / PIECE).fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn take(self, task: Task, address: u64) {
        self.count(task.0, address / PIECE).fetch_sub(1, Ordering::AcqRel);
    }

    /// Processes have much at the same addresses: theirs begin at different counts.
    fn count(&self, process: u32, piece: u64) -> &'static AtomicU32 {
        let at = piece.wrapping_add(u64::from(process).wrapping_mul(0x9e37_79b9));
        &self.0[at as usize % COUNTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_may_be_there_and_what_is_not_is_not() {
        let counts = PinCounts::new().expect("memory");
        let page = 0x7f00_0001_2000;
        counts.add(Task(3), page);
        counts.add(Task(3), page);
        for around in [page..page + 1, 0..u64::MAX, page - PIECE..page + PIECE] {
            assert!(counts.may_have(3, &around), "{around:x?}");
        }
        assert!(!counts.may_have(4, &(page..page + 4096)), "of another process");
        assert!(!counts.may_have(3, &(page + PIECE..page + 8 * PIECE)), "beside it");
        counts.take(Task(3), page);
        assert!(counts.may_have(3, &(page..page + 4096)), "one pin is left");
        counts.take(Task(3), page);
        assert!(!counts.may_have(3, &(0..u64::MAX)));
    }
}
