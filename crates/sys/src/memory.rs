//! Memory that a device can be given.

use std::fmt;
use std::ptr::NonNull;

/// The page size that memory is to be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PageSize {
    /// The CPU's base page, 4 KiB on x86-64.
    #[default]
    Base,
    /// 2 MiB huge pages: physically contiguous within each.
    Huge2M,
}

/// What is asked of [`Sys::allocate`](crate::Sys::allocate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Length in bytes; rounded up to whole pages.
    pub length: usize,
    /// The pages that it is made of.
    pub page_size: PageSize,
    /// The highest address that the device can reach without an IOMMU: a wish, which a kernel
    /// cannot fulfil and a machine can. Whoever needs it checks the addresses.
    pub highest: u64,
}

/// A mapping of memory that both the process and a device may read and write.
///
/// It hands out a pointer and no references: a device can change the bytes at any time. Dropping it
/// unmaps it; memory that is pinned by then stays with the device until it is unpinned.
pub struct Memory {
    start: NonNull<u8>,
    length: usize,
    release: Option<Release>,
}

/// Unmaps a mapping of so many bytes.
type Release = Box<dyn FnOnce(NonNull<u8>, usize) + Send + Sync>;

// SAFETY: the mapping belongs to this value alone and is reached through raw pointers only; nothing
// about it is tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: as above; shared access gives the address and the length, and nothing else.
unsafe impl Sync for Memory {}

impl Memory {
    /// Takes over a mapping; `release` unmaps it.
    ///
    /// # Safety
    ///
    /// `length` bytes from `start` are mapped readable and writable and stay so until `release` is called,
    /// and no Rust reference to them exists.
    pub unsafe fn from_raw(
        start: NonNull<u8>,
        length: usize,
        release: impl FnOnce(NonNull<u8>, usize) + Send + Sync + 'static,
    ) -> Self {
        Memory { start, length, release: Some(Box::new(release)) }
    }

    /// Where it starts, page-aligned.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes: whole pages.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(self.start, self.length);
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:p}, {:#x} bytes)", self.start, self.length)
    }
}
