//! Memory that devices are given: of the machine, or a file of the process.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sys::{Memory, MemoryOptions, PageSize, Sys};

use crate::random::Random;
use crate::stage::Stage;

pub(crate) const PAGE: u64 = 4096;

pub(crate) enum Buffer {
    Ram(Memory),
    File(OwnedFd),
}

impl Buffer {
    /// Two pages, of either kind.
    pub(crate) fn new(stage: &Stage, random: &mut Random) -> Self {
        if random.one_in(2) { Self::ram(stage, PageSize::Base) } else { Self::file() }
    }

    pub(crate) fn ram(stage: &Stage, page_size: PageSize) -> Self {
        let options = MemoryOptions { length: 2 * PAGE as usize, page_size, highest: (1 << 39) - 1 };
        Buffer::Ram(stage.machine.allocate(&options).unwrap())
    }

    fn file() -> Self {
        let file = memfd_create("buffer", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 2 * PAGE).unwrap();
        Buffer::File(file)
    }

    /// What it is mapped by: an address, or a descriptor.
    pub(crate) fn source(&self) -> Source {
        match self {
            Buffer::Ram(memory) => Source::Memory { address: memory.start().as_ptr() as u64 },
            Buffer::File(file) => Source::File { fd: file.as_raw_fd(), start: 0 },
        }
    }

    pub(crate) fn write(&self, page: u64, bytes: &[u8; PAGE as usize]) {
        match self {
            // SAFETY: within the memory, to which no reference is ever made.
            Buffer::Ram(memory) => unsafe {
                sys::shared::write(memory.start().add((page * PAGE) as usize), bytes)
            },
            Buffer::File(file) => assert_eq!(rustix::io::pwrite(file, bytes, page * PAGE), Ok(bytes.len())),
        }
    }

    pub(crate) fn read(&self, page: u64) -> [u8; PAGE as usize] {
        let mut bytes = [0; PAGE as usize];
        match self {
            // SAFETY: as in `write`.
            Buffer::Ram(memory) => unsafe {
                sys::shared::read(memory.start().add((page * PAGE) as usize), &mut bytes);
            },
            Buffer::File(file) => {
                assert_eq!(rustix::io::pread(file, &mut bytes, page * PAGE), Ok(bytes.len()))
            }
        }
        bytes
    }
}

/// Where memory to map is.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Memory { address: u64 },
    File { fd: i32, start: u64 },
}
