//! Memory of the suite's own, of every kind that a row speaks of.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null_mut;

use rustix::fs::{
    FsWord, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstatfs, ftruncate, memfd_create, open,
};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::outcome::Way;

/// The size of a page.
pub(crate) const PAGE: usize = 4096;

/// An address where nothing is ever mapped: it lies below `vm.mmap_min_addr`.
pub(crate) const NOWHERE: u64 = 0x7000;

/// Anonymous private pages, unmapped on drop.
pub(crate) struct Pages {
    start: *mut c_void,
    length: usize,
    whole: (*mut c_void, usize),
}

/// What may be done with pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    ReadWrite,
    ReadOnly,
    None,
}

impl Pages {
    /// Zeroed pages at an address that is a multiple of `align` (a power of two, at least a page) and of no larger power
    /// of two.
    pub(crate) fn aligned(length: usize, align: usize, protection: Protection) -> Way<Pages> {
        let whole_length = length + 4 * align;
        let prot = match protection {
            Protection::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
            Protection::ReadOnly => ProtFlags::READ,
            Protection::None => ProtFlags::empty(),
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let whole = unsafe {
            mmap_anonymous(null_mut(), whole_length, prot, MapFlags::PRIVATE | MapFlags::NORESERVE)?
        };
        let mut start = (whole as usize).next_multiple_of(align);
        if start.is_multiple_of(2 * align) {
            start += align;
        }
        Ok(Pages { start: start as *mut c_void, length, whole: (whole, whole_length) })
    }

    /// Zeroed readable and writable pages.
    pub(crate) fn new(length: usize) -> Way<Pages> {
        Pages::aligned(length, PAGE, Protection::ReadWrite)
    }

    /// Where they start.
    pub(crate) fn address(&self) -> u64 {
        self.start as u64
    }

    /// Changes what may be done with all of them.
    pub(crate) fn protect(&self, protection: Protection) -> Way<()> {
        let flags = match protection {
            Protection::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
            Protection::ReadOnly => MprotectFlags::READ,
            Protection::None => MprotectFlags::empty(),
        };
        // SAFETY: the pages are this value's own and nobody holds a reference to them.
        unsafe { mprotect(self.start, self.length, flags)? };
        Ok(())
    }

    /// Writes bytes at an offset.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "the pages end before");
        // SAFETY: the bytes lie within the pages, which nobody holds a reference to.
        unsafe { self.start.cast::<u8>().add(offset).copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads bytes at an offset.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert!(offset + N <= self.length, "the pages end before");
        // SAFETY: the bytes lie within the pages, which nobody writes to meanwhile.
        unsafe { self.start.cast::<u8>().add(offset).cast::<[u8; N]>().read_unaligned() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `aligned` and is used by nobody after this.
        let unmapped = unsafe { munmap(self.whole.0, self.whole.1) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}

/// A memfd of so many bytes.
pub(crate) fn memfd(length: u64) -> Way<OwnedFd> {
    let file = memfd_create("conformance", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, length)?;
    Ok(file)
}

/// A memfd of so many bytes that cannot shrink.
pub(crate) fn sealed_memfd(length: u64) -> Way<OwnedFd> {
    let file = memfd_create("conformance", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, SealFlags::SHRINK)?;
    Ok(file)
}

/// A memfd of so many bytes that may only be read.
pub(crate) fn read_only_memfd(length: u64) -> Way<OwnedFd> {
    let file = memfd(length)?;
    Ok(open(format!("/proc/self/fd/{}", file.as_raw_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A regular file that is no memory file: the running program, unless that lies in a file system of memory itself.
pub(crate) fn regular_file() -> Way<OwnedFd> {
    const TMPFS_MAGIC: FsWord = 0x0102_1994;
    let read = |path| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let program = read("/proc/self/exe")?;
    let of_memory = fstatfs(&program)?.f_type == TMPFS_MAGIC;
    Ok(if of_memory { read("/proc/self/status")? } else { program })
}
