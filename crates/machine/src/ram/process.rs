//! The address space of this process: what is mapped where, and making it present.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};
use subsystem::PinError;

use super::FRAME;

/// Which memory a page is, however it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// Memory of its own, at this page of the address space.
    Private {
        /// Page number of the virtual address.
        page: u64,
    },
    /// A page of a file.
    File {
        /// The file system, as `stat` numbers it.
        device: u64,
        /// The file.
        inode: u64,
        /// Page number in the file.
        page: u64,
    },
}

impl Identity {
    /// The page that follows it.
    fn next(self) -> Self {
        match self {
            Identity::Private { page } => Identity::Private { page: page + 1 },
            Identity::File { device, inode, page } => Identity::File { device, inode, page: page + 1 },
        }
    }
}

/// A page of this process and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Its virtual address.
    pub(super) address: u64,
    /// What it is.
    pub(super) identity: Identity,
}

/// What the page at an address is, if anything is mapped there.
pub(super) fn identity(address: u64) -> Option<Identity> {
    let start = address / FRAME * FRAME;
    Some(areas(&(start..start.checked_add(FRAME)?)).ok()?.first()?.identity)
}

/// Makes the pages of a range present, writable ones for `write`, and says what each one is. The range is page-aligned.
pub(super) fn pages(range: &Range<u64>, write: bool) -> Result<Vec<Page>, PinError> {
    let mut pages = Vec::new();
    pages.try_reserve_exact(((range.end - range.start) / FRAME) as usize).map_err(|_| PinError::NoMemory)?;
    for area in areas(range)? {
        if !(if write { area.writable } else { area.readable }) {
            return Err(PinError::Fault);
        }
        populate(&area.range, write)?;
        add_pages(&mut pages, &area.range, area.identity);
    }
    Ok(pages)
}

fn add_pages(pages: &mut Vec<Page>, range: &Range<u64>, mut identity: Identity) {
    for address in range.clone().step_by(FRAME as usize) {
        pages.push(Page { address, identity });
        identity = identity.next();
    }
}

/// Makes pages present as a fault would. Refused where a fault would end in a signal.
fn populate(range: &Range<u64>, write: bool) -> Result<(), PinError> {
    let advice = if write { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    loop {
        let start = std::ptr::without_provenance_mut(range.start as usize);
        // SAFETY: populating changes no content and unmaps nothing, whoever the range belongs to.
        match unsafe { mm::madvise(start, (range.end - range.start) as usize, advice) } {
            Ok(()) => return Ok(()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return Err(PinError::Fault),
        }
    }
}

/// A file that the machine has mapped itself, because a device is to reach it.
#[derive(Debug)]
pub(super) struct FileMapping(Range<u64>);

impl FileMapping {
    /// Maps `length` bytes of a file that is memory, and makes them present. Whether the descriptor was opened for
    /// writing does not matter.
    pub(super) fn new(file: impl AsFd, offset: u64, length: u64) -> Result<Self, PinError> {
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
        populate(&mapping.0, true).map_err(|_| PinError::NoMemory)?;
        Ok(mapping)
    }

    /// Its pages.
    pub(super) fn pages(&self, first: Identity) -> Result<Vec<Page>, PinError> {
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(((self.0.end - self.0.start) / FRAME) as usize)
            .map_err(|_| PinError::NoMemory)?;
        add_pages(&mut pages, &self.0, first);
        Ok(pages)
    }
}

fn map(file: impl AsFd, offset: u64, length: u64) -> rustix::io::Result<FileMapping> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the host picks disturbs nobody; the bytes are shared with others, and
    // reached through raw pointers only.
    let start = unsafe {
        mm::mmap(std::ptr::null_mut(), length as usize, protection, MapFlags::SHARED, file, offset)
    }?;
    let start = start.expose_provenance() as u64;
    Ok(FileMapping(start..start + length))
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let start = std::ptr::with_exposed_provenance_mut(self.0.start as usize);
        // SAFETY: the mapping is this value's own, and frames in it are forgotten before this value is dropped.
        let unmapped = unsafe { mm::munmap(start, (self.0.end - self.0.start) as usize) };
        debug_assert!(unmapped.is_ok(), "the range was mapped by `map`");
    }
}

/// A part of a range that is mapped in one way.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    range: Range<u64>,
    readable: bool,
    writable: bool,
    /// What its first page is.
    identity: Identity,
}

/// What is mapped in a range, without a gap: a fault otherwise.
fn areas(range: &Range<u64>) -> Result<Vec<Area>, PinError> {
    let maps = std::fs::read("/proc/self/maps").map_err(|_| PinError::NoMemory)?;
    parse(&String::from_utf8_lossy(&maps), range).ok_or(PinError::Fault)
}

/// The areas of a range out of the text of `/proc/self/maps`, see proc_pid_maps(5); `None` if there is a gap.
fn parse(maps: &str, range: &Range<u64>) -> Option<Vec<Area>> {
    let mut areas = Vec::new();
    let mut at = range.start;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        if end <= at {
            continue;
        }
        if start > at {
            return None;
        }
        let &[read, write, _, sharing] = fields.next()?.as_bytes() else { return None };
        let offset = hex(fields.next()?)? + (at - start);
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = fs::makedev(hex(major)? as u32, hex(minor)? as u32);
        let inode = fields.next()?.parse().ok()?;
        let identity = if sharing == b'p' {
            Identity::Private { page: at / FRAME }
        } else {
            Identity::File { device, inode, page: offset / FRAME }
        };
        let part = at..end.min(range.end);
        at = part.end;
        areas.push(Area { range: part, readable: read == b'r', writable: write == b'w', identity });
        if at == range.end {
            return Some(areas);
        }
    }
    None
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
10000-14000 r--p 00000000 08:02 77 /usr/bin/thing
14000-18000 rw-s 00003000 00:01 5 /memfd:with a space (deleted)
20000-21000 ---p 00000000 00:00 0
";

    #[test]
    fn maps_are_read() {
        let areas = parse(MAPS, &(0x13000..0x16000)).expect("no gap");
        let file = Identity::File { device: fs::makedev(0, 1), inode: 5, page: 3 };
        let private = Identity::Private { page: 0x13 };
        assert_eq!(
            areas,
            [
                Area { range: 0x13000..0x14000, readable: true, writable: false, identity: private },
                Area { range: 0x14000..0x16000, readable: true, writable: true, identity: file },
            ]
        );
    }

    #[test]
    fn a_page_in_the_middle_of_a_file_mapping_is_that_page_of_the_file() {
        let areas = parse(MAPS, &(0x16000..0x17000)).expect("mapped");
        assert!(matches!(areas[0].identity, Identity::File { page: 5, .. }));
    }

    #[test]
    fn a_gap_is_seen() {
        assert_eq!(parse(MAPS, &(0x17000..0x21000)), None);
        assert_eq!(parse(MAPS, &(0x0..0x11000)), None);
        assert_eq!(parse(MAPS, &(0x20000..0x22000)), None);
    }
}
