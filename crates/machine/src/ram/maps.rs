//! What processes have mapped where, as the kernel tells it.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;

use rustix::fs;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use subsystem::{PinError, Task};

use super::FRAME;
use super::process::Owner;

/// Which memory a page is, however it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// Memory of its own, at this page of the address space.
    Private {
        /// Whose address space; `None`: this process's.
        of: Option<Task>,
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
    /// Memory that was the program's, which is not mapped there any more.
    Aside {
        /// Page number of the virtual address.
        page: u64,
    },
}

impl Identity {
    /// The page that follows so many others.
    pub(super) fn after(mut self, pages: u64) -> Self {
        match &mut self {
            Identity::Private { page, .. } | Identity::File { page, .. } | Identity::Aside { page } => {
                *page += pages
            }
        }
        self
    }
}

/// A part of a range that is mapped in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) range: Range<u64>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// What its first page is.
    pub(super) identity: Identity,
}

impl Area {
    /// Whether it is of a file, and can be read.
    pub(super) fn is_of_file(&self) -> bool {
        self.readable && matches!(self.identity, Identity::File { .. })
    }

    /// Where in it a page of its file is.
    pub(super) fn address_of(&self, page: Identity) -> Option<u64> {
        let (
            Identity::File { device, inode, page: first },
            Identity::File { device: of, inode: wanted, page },
        ) = (self.identity, page)
        else {
            return None;
        };
        let address = self.range.start + page.checked_sub(first)?.checked_mul(FRAME)?;
        (device == of && inode == wanted && address < self.range.end).then_some(address)
    }

    /// The part of it that is in a range.
    pub(super) fn part(&self, range: &Range<u64>) -> Option<Area> {
        let part = self.range.start.max(range.start)..self.range.end.min(range.end);
        (!part.is_empty()).then(|| {
            let identity = self.identity.after((part.start - self.range.start) / FRAME);
            Area { range: part, identity, ..*self }
        })
    }
}

/// What is mapped in a range, by address.
pub(super) fn areas(owner: Owner<'_>, range: &Range<u64>) -> Result<Vec<Area>, PinError> {
    let maps = match owner {
        Owner::This => File::open("/proc/self/maps").map_err(|_| PinError::NoMemory)?,
        Owner::Other(_, process) => process.proc_file(format_args!("maps")).map_err(|_| PinError::Fault)?,
    };
    let mapped = match asked(&maps, range) {
        Ok(mapped) => mapped,
        // Before Linux 6.11 there is nobody to ask.
        Err(_) => read(maps).map_err(|_| PinError::Fault)?,
    };
    Ok(mapped.iter().filter_map(|mapped| mapped.part(range, owner.task())).collect())
}

/// What is mapped in a range, without a gap: a fault otherwise.
pub(super) fn gapless(owner: Owner<'_>, range: &Range<u64>) -> Result<Vec<Area>, PinError> {
    let areas = areas(owner, range)?;
    let ends =
        areas.iter().try_fold(range.start, |at, area| (area.range.start == at).then_some(area.range.end));
    if ends == Some(range.end) { Ok(areas) } else { Err(PinError::Fault) }
}

/// What the page at an address is, if anything is mapped there.
pub(super) fn identity(owner: Owner<'_>, address: u64) -> Option<Identity> {
    let start = address / FRAME * FRAME;
    Some(areas(owner, &(start..start.checked_add(FRAME)?)).ok()?.first()?.identity)
}

/// A mapping of a process.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    range: Range<u64>,
    readable: bool,
    writable: bool,
    shared: bool,
    /// Of a file, if it is of one: where in that it starts.
    offset: u64,
    device: (u32, u32),
    inode: u64,
}

impl Mapped {
    /// The part of it that is in a range.
    fn part(&self, range: &Range<u64>, of: Option<Task>) -> Option<Area> {
        let &Mapped { readable, writable, inode, device: (major, minor), .. } = self;
        let identity = if self.shared {
            Identity::File { device: fs::makedev(major, minor), inode, page: self.offset / FRAME }
        } else {
            Identity::Private { of, page: self.range.start / FRAME }
        };
        Area { range: self.range.clone(), readable, writable, identity }.part(range)
    }
}

// <linux/fs.h>, from Linux 6.11 on
const PROCMAP_QUERY: Opcode = opcode::read_write::<Query>(b'f', 17);
const READABLE: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const SHARED: u64 = 1 << 3;
const COVERING_OR_NEXT: u64 = 1 << 4;

/// `struct procmap_query`
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    has: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device: [u32; 2],
    /// No name and no build ID are asked for.
    sizes: [u32; 2],
    addresses: [u64; 2],
}

/// The mappings in a range, each asked for.
fn asked(maps: &File, range: &Range<u64>) -> rustix::io::Result<Vec<Mapped>> {
    let (mut all, mut at) = (Vec::new(), range.start);
    while at < range.end {
        let mut query = Query {
            size: size_of::<Query>() as u64,
            flags: COVERING_OR_NEXT,
            address: at,
            ..Query::default()
        };
        // SAFETY: the kernel reads and writes the structure, which is as large as it says and names no other memory.
        match unsafe { ioctl(maps, Updater::<PROCMAP_QUERY, _>::new(&mut query)) } {
            Ok(()) => {}
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error),
        }
        let Query { start, end, has, offset, inode, device: [major, minor], .. } = query;
        at = end;
        all.push(Mapped {
            range: start..end,
            readable: has & READABLE != 0,
            writable: has & WRITABLE != 0,
            shared: has & SHARED != 0,
            offset,
            device: (major, minor),
            inode,
        });
    }
    Ok(all)
}

/// All mappings, by the text.
fn read(mut maps: File) -> std::io::Result<Vec<Mapped>> {
    let mut text = Vec::new();
    maps.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse).collect())
}

/// What a line of `/proc/self/maps` says, see proc_pid_maps(5).
fn parse(line: &str) -> Option<Mapped> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let &[readable, writable, _, sharing] = fields.next()?.as_bytes() else { return None };
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    Some(Mapped {
        range: hex(start)?..hex(end)?,
        readable: readable == b'r',
        writable: writable == b'w',
        shared: sharing == b's',
        offset,
        device: (hex(major)? as u32, hex(minor)? as u32),
        inode: fields.next()?.parse().ok()?,
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

    use super::*;

    const MAPS: &str = "\
10000-14000 r--p 00000000 08:02 77 /usr/bin/thing
14000-18000 rw-s 00003000 00:01 5 /memfd:with a space (deleted)
20000-21000 ---p 00000000 00:00 0
";

    fn parse_all(range: Range<u64>) -> Vec<Area> {
        MAPS.lines().filter_map(|line| parse(line)?.part(&range, None)).collect()
    }

    #[test]
    fn maps_are_read() {
        let areas = parse_all(0x13000..0x16000);
        let file = Identity::File { device: fs::makedev(0, 1), inode: 5, page: 3 };
        let private = Identity::Private { of: None, page: 0x13 };
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
        let areas = parse_all(0x16000..0x17000);
        assert!(matches!(areas[0].identity, Identity::File { page: 5, .. }));
    }

    #[test]
    fn gaps_are_left_out() {
        let ranges = |range| parse_all(range).into_iter().map(|area| area.range).collect::<Vec<_>>();
        assert_eq!(ranges(0x17000..0x22000), [0x17000..0x18000, 0x20000..0x21000]);
        assert_eq!(ranges(0..0x10000), []);
    }

    /// What the kernel answers is what it has in the text.
    #[test]
    fn who_asks_and_who_reads_get_the_same() {
        let (length, page) = (16 * FRAME as usize, FRAME as usize);
        let file = memfd_create("maps", MemfdFlags::CLOEXEC).expect("a memfd");
        ftruncate(&file, length as u64).expect("sized");
        // SAFETY: new addresses, and then pieces of those: nobody else has any of them.
        let start = unsafe {
            let start =
                mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE).expect("memory");
            let at = |number: usize| start.cast::<u8>().add(number * page).cast();
            let both = ProtFlags::READ | ProtFlags::WRITE;
            mmap(at(2), 3 * page, both, MapFlags::SHARED | MapFlags::FIXED, &file, 5 * FRAME)
                .expect("a file");
            mmap(at(5), page, both, MapFlags::PRIVATE | MapFlags::FIXED, &file, 0).expect("a copy");
            mmap_anonymous(at(6), page, ProtFlags::empty(), MapFlags::SHARED | MapFlags::FIXED)
                .expect("no access");
            munmap(at(8), 4 * page).expect("a gap");
            start
        };
        let start = start.addr() as u64;
        let range = start + FRAME..start + 15 * FRAME;
        let text = read(File::open("/proc/self/maps").expect("maps")).expect("read");
        let told: Vec<Area> = text.iter().filter_map(|mapped| mapped.part(&range, None)).collect();
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(areas(Owner::This, &range), Ok(told));
    }
}
