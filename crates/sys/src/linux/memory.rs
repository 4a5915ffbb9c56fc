//! Memory for devices and mappings of their registers.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{Error, Mapping, Memory, MemoryOptions, PageSize, Result};

/// Maps part of a file.
pub(super) fn map_file(fd: BorrowedFd<'_>, mapping: Mapping) -> std::result::Result<Memory, Errno> {
    let Mapping { offset, length, writable, executable, shared } = mapping;
    let mut protection = ProtFlags::READ;
    protection.set(ProtFlags::WRITE, writable);
    protection.set(ProtFlags::EXEC, executable);
    let flags = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset) }?;
    Ok(own(start.cast(), length))
}

/// Maps fresh zeroed memory, all of it present.
pub(super) fn allocate(options: &MemoryOptions) -> Result<Memory> {
    let (page, huge) = match options.page_size {
        PageSize::Base => (rustix::param::page_size(), MapFlags::empty()),
        PageSize::Huge2M => (2 << 20, MapFlags::HUGETLB | MapFlags::HUGE_2MB),
    };
    let refused = |call: &'static str, answer| {
        let object =
            format_args!("{} bytes of memory in {} KiB pages", options.length, page >> 10).to_string();
        Error::new(call, object, super::errno(answer))
    };
    let length =
        options.length.checked_next_multiple_of(page).ok_or_else(|| refused("mmap", Errno::NOMEM))?;
    let flags = MapFlags::PRIVATE | MapFlags::POPULATE | huge;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, flags) }
        .map_err(|errno| refused("mmap", errno))?;
    let memory = own(start.cast(), length);
    // A child would share the pages, and a write by either side would move the process away from what the device sees.
    // SAFETY: the range was mapped above and belongs to `memory`; a child of fork knows nothing of it.
    unsafe { rustix::mm::madvise(start, length, Advice::LinuxDontFork) }
        .map_err(|errno| refused("madvise", errno))?;
    Ok(memory)
}

/// Takes charge of a mapping that `mmap` has just made.
fn own(start: *mut u8, length: usize) -> Memory {
    let Some(start) = NonNull::new(start) else {
        unreachable!("the kernel never maps address 0 unless it is told to");
    };
    let unmap = |start: NonNull<u8>, length| {
        // SAFETY: the range was mapped by `mmap`, and the `Memory` that it belonged to is gone. A failure would leave
        // the mapping in place, which harms nobody.
        let _left_mapped = unsafe { rustix::mm::munmap(start.as_ptr().cast(), length) };
    };
    // SAFETY: `mmap` made these `length` bytes, and nobody else knows of them.
    unsafe { Memory::from_raw(start, length, unmap) }
}
