//! Memory of processes, made present, and what the machine maps in this one itself.

use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use subsystem::{PinError, Task, UserMemory as _};

use super::FRAME;
use super::maps::{self, Area, Identity};
use crate::process::{OtherProcess, ProcessMemory};

/// Whose address space.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner<'a> {
    /// This process's.
    This,
    /// Another one's.
    Other(Task, &'a OtherProcess),
}

impl Owner<'_> {
    /// Reads memory of it; refused where there is none.
    pub(super) fn read(self, address: u64, bytes: &mut [u8]) -> Result<(), uapi::Errno> {
        match self {
            // SAFETY: what cannot be read is an error.
            Owner::This => unsafe { ProcessMemory::new() }.read(address, bytes),
            Owner::Other(_, process) => process.read(address, bytes),
        }
    }

    pub(super) fn task(self) -> Option<Task> {
        match self {
            Owner::This => None,
            Owner::Other(task, _) => Some(task),
        }
    }
}

/// A virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Which other process's; `None`: this one's.
    pub(super) of: Option<Task>,
    pub(super) address: u64,
}

/// A page of a process and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) spot: Spot,
    /// What it is.
    pub(super) identity: Identity,
}

/// Makes the pages of a range present, writable ones for `write`, and says what each one is. The range is page-aligned.
///
/// Those of another process are present when they are reached; that a device may write there is what their mapping says.
pub(super) fn pages(owner: Owner<'_>, range: &Range<u64>, write: bool) -> Result<Vec<Page>, PinError> {
    let mut pages = Vec::new();
    pages.try_reserve_exact(((range.end - range.start) / FRAME) as usize).map_err(|_| PinError::NoMemory)?;
    for area in maps::gapless(owner, range)? {
        if !(if write { area.writable } else { area.readable }) {
            return Err(PinError::Fault);
        }
        match owner {
            Owner::This => populate(&area.range, write)?,
            Owner::Other(_, process) if process.touch(&area.range, FRAME) => {}
            Owner::Other(..) => return Err(PinError::Fault),
        }
        add_pages(&mut pages, owner.task(), &area.range, area.identity);
    }
    Ok(pages)
}

fn add_pages(pages: &mut Vec<Page>, of: Option<Task>, range: &Range<u64>, first: Identity) {
    let addresses = range.clone().step_by(FRAME as usize);
    let page = |(at, address)| Page { spot: Spot { of, address }, identity: first.after(at) };
    pages.extend((0..).zip(addresses).map(page));
}

/// Makes pages present as a fault would. Refused where a fault would end in a signal.
fn populate(range: &Range<u64>, write: bool) -> Result<(), PinError> {
    let advice = if write { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    loop {
        let start = ptr::without_provenance_mut(range.start as usize);
        // SAFETY: populating changes no content and unmaps nothing, whoever the range belongs to.
        match unsafe { mm::madvise(start, (range.end - range.start) as usize, advice) } {
            Ok(()) => return Ok(()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return Err(PinError::Fault),
        }
    }
}

/// Memory that the machine has mapped itself, because a device is to reach it.
#[derive(Debug)]
pub(super) struct OwnMapping {
    mapped: Range<u64>,
    /// Where in it the memory starts.
    start: u64,
}

impl OwnMapping {
    fn new(start: *mut c_void, length: usize) -> Self {
        let start = start.expose_provenance() as u64;
        OwnMapping { mapped: start..start + length as u64, start }
    }

    /// Maps `length` bytes of a file that is memory, and makes them present. Whether the descriptor was opened for
    /// writing does not matter.
    pub(super) fn of_file(file: impl AsFd, offset: u64, length: u64) -> Result<Self, PinError> {
        let refused = |error| if error == Errno::NOMEM { PinError::NoMemory } else { PinError::Unsuitable };
        let mapping = match map(&file, offset, length) {
            Err(Errno::ACCESS) => {
                let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
                let again = fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
                map(&again, offset, length)
            }
            mapping => mapping,
        };
        let mapping = mapping.map_err(refused)?;
        // The file has the pages, as was checked: what fails now is memory.
        populate(&mapping.mapped, true).map_err(|_| PinError::NoMemory)?;
        Ok(mapping)
    }

    /// Maps what the program has in an area too, or takes its pages out of it. The program unmaps the area then, or finds empty
    /// private memory there.
    pub(super) fn of_area(area: &Area) -> rustix::io::Result<Self> {
        let shared = matches!(area.identity, Identity::File { .. });
        // Of no bytes of shared memory a second mapping is made.
        let moved = if shared {
            area.moved(0, MremapFlags::MAYMOVE)
        } else {
            area.moved(area.length(), MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP)
        };
        let mapping = match moved {
            // Huge pages, and private memory on hosts before Linux 5.13.
            Err(Errno::INVAL) if shared => {
                let moved = area.moved(area.length(), MremapFlags::MAYMOVE)?;
                // Nobody else gets the addresses before the program unmaps them. Had somebody already, it could not be helped.
                let _filled = area.fill();
                moved
            }
            Err(Errno::INVAL) => {
                OwnMapping::copied(&area.range, |part, bytes| Owner::This.read(part, bytes))?
            }
            moved => moved?,
        };
        // Devices do not care what the program may do with it. A file may not be writable at all.
        let both = MprotectFlags::READ | MprotectFlags::WRITE;
        let allow = |protection| mapping.allow(area.length(), protection);
        let _readable = allow(both).or_else(|_| allow(MprotectFlags::READ));
        Ok(mapping)
    }

    /// Addresses where the program has nothing, and where the kernel gives it none: it may unmap again what it has unmapped.
    fn reserved(length: usize) -> rustix::io::Result<Self> {
        /// Between the addresses of programs and those of libraries.
        static NEXT: AtomicUsize = AtomicUsize::new(0x2000_0000_0000);
        let wish = ptr::with_exposed_provenance_mut(NEXT.fetch_add(length, Ordering::Relaxed));
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: new addresses; others than these if they are taken.
        let start = unsafe { mm::mmap_anonymous(wish, length, ProtFlags::empty(), flags) }?;
        Ok(OwnMapping::new(start, length))
    }

    /// A copy of memory at some addresses, which `read` reads: all of it, or page by page. A page that cannot be read is one of zeroes.
    pub(super) fn copied<E>(
        range: &Range<u64>,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> rustix::io::Result<Self> {
        let length = (range.end - range.start) as usize;
        let mapping = OwnMapping::reserved(length)?;
        mapping.allow(length, MprotectFlags::READ | MprotectFlags::WRITE)?;
        let start = ptr::with_exposed_provenance_mut(mapping.start as usize);
        // SAFETY: the pages have just been mapped, and nobody else knows of them.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start, length) };
        if read(range.start, bytes).is_err() {
            let pages = range.clone().step_by(FRAME as usize).zip(bytes.chunks_mut(FRAME as usize));
            for (address, page) in pages {
                let _there = read(address, page);
            }
        }
        Ok(mapping)
    }

    fn allow(&self, length: usize, protection: MprotectFlags) -> rustix::io::Result<()> {
        let start = ptr::with_exposed_provenance_mut(self.start as usize);
        // SAFETY: the mapping is this value's own, and nobody has a reference into it.
        unsafe { mm::mprotect(start, length, protection) }
    }

    /// Whether some of it is in a range.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.mapped.start < range.end && range.start < self.mapped.end
    }

    /// Where it starts.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Its pages.
    pub(super) fn pages(&self, first: Identity) -> Result<Vec<Page>, PinError> {
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(((self.mapped.end - self.mapped.start) / FRAME) as usize)
            .map_err(|_| PinError::NoMemory)?;
        add_pages(&mut pages, None, &self.mapped, first);
        Ok(pages)
    }
}

fn map(file: impl AsFd, offset: u64, length: u64) -> rustix::io::Result<OwnMapping> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the host picks disturbs nobody; the bytes are shared with others, and
    // reached through raw pointers only.
    let start =
        unsafe { mm::mmap(ptr::null_mut(), length as usize, protection, MapFlags::SHARED, file, offset) }?;
    Ok(OwnMapping::new(start, length as usize))
}

impl Drop for OwnMapping {
    fn drop(&mut self) {
        let start = ptr::with_exposed_provenance_mut(self.mapped.start as usize);
        // SAFETY: the mapping is this value's own, and frames in it are forgotten before this value is dropped.
        let unmapped = unsafe { mm::munmap(start, (self.mapped.end - self.mapped.start) as usize) };
        debug_assert!(unmapped.is_ok(), "the range was mapped by this value");
    }
}

/// A gibibyte.
const LARGEST_PAGE: usize = 1 << 30;

impl Area {
    fn length(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    fn start(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.range.start as usize)
    }

    /// Moves `old` bytes from its start on to a mapping of its length, which is as aligned: huge pages stay such.
    fn moved(&self, old: usize, flags: MremapFlags) -> rustix::io::Result<OwnMapping> {
        let length = self.length();
        let alignment = 1_usize << (self.range.start as usize | length | LARGEST_PAGE).trailing_zeros();
        let mut moved = OwnMapping::reserved(length + alignment)?;
        moved.start = moved.start.next_multiple_of(alignment as u64);
        let target = ptr::with_exposed_provenance_mut(moved.start as usize);
        // SAFETY: what is replaced has just been reserved. What becomes of the program's is what the caller asks for.
        unsafe { mm::mremap_fixed(self.start(), old, length, flags, target) }?;
        Ok(moved)
    }

    /// Maps its addresses, which are free.
    fn fill(&self) -> rustix::io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: nothing is replaced.
        unsafe { mm::mmap_anonymous(self.start(), self.length(), ProtFlags::empty(), flags) }.map(drop)
    }
}
