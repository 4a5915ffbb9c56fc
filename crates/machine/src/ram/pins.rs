//! Pinned memory.
#![forbid(unsafe_code)]

use std::ops::Range;

use subsystem::{PinError, Run, Source};

use super::accounts::Space;
use super::maps::Identity;
use super::process::{self, OwnMapping, Owner};
use super::{FRAME, FramePointer, Gone, Ram, backings};

/// Pinned memory: for machine RAM the first frame, for foreign memory the number of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pin(u64);

/// Marks the number of a record.
const FOREIGN: u64 = 1 << 63;

enum Kind {
    Machine { frame: u64 },
    Foreign { record: u64 },
}

impl Pin {
    fn kind(self) -> Kind {
        if self.0 & FOREIGN == 0 {
            Kind::Machine { frame: self.0 }
        } else {
            Kind::Foreign { record: self.0 & !FOREIGN }
        }
    }
}

impl Ram {
    /// Pins `pages` pages from page `first` of `source` on: all or nothing.
    ///
    /// Machine RAM stays with the device whatever the program does meanwhile, and costs the same whatever its size.
    /// Other memory of the process is pinned where it is and page by page; as long as it is pinned, whoever unmaps it tells the
    /// machine first ([`Ram::set_aside`]). A range that is partly machine RAM is a fault.
    pub(crate) fn pin(&self, source: Source, first: u64, pages: u64, write: bool) -> Result<Pin, PinError> {
        match source {
            Source::User { task, address } => {
                let range = bytes(address, first, pages).ok_or(PinError::Fault)?;
                match self.accounts.space(task) {
                    Space::Gone => Err(PinError::Fault),
                    Space::Here => self.pin_addresses(&range, write),
                    Space::There(process) => self.pin_foreign(Owner::Other(task, &process), &range, write),
                }
            }
            Source::File { backing, offset } => {
                let file = self.backings.get(backing).ok_or(PinError::Unsuitable)?;
                let range = bytes(offset, first, pages).ok_or(PinError::Unsuitable)?;
                let length = range.end - range.start;
                let (device, inode) = backings::check(&*file, range.start, length)?;
                let mapping = OwnMapping::of_file(&*file, range.start, length)?;
                let pages = mapping.pages(Identity::File { device, inode, page: range.start / FRAME })?;
                self.foreign.pin(pages, Some(mapping)).map(|record| Pin(record | FOREIGN))
            }
        }
    }

    fn pin_addresses(&self, range: &Range<u64>, write: bool) -> Result<Pin, PinError> {
        let own = self.arena.addresses();
        if own.contains(&range.start) {
            let first = self.arena.frame_of(range.start).ok_or(PinError::Fault)?;
            let frames = first..first + (range.end - range.start) / FRAME;
            return if self.arena.pin(frames) { Ok(Pin(first)) } else { Err(PinError::Fault) };
        }
        if range.start < own.end && own.start < range.end {
            return Err(PinError::Fault);
        }
        self.pin_foreign(Owner::This, range, write)
    }

    fn pin_foreign(&self, owner: Owner<'_>, range: &Range<u64>, write: bool) -> Result<Pin, PinError> {
        let pages = process::pages(owner, range, write)?;
        self.foreign.pin(pages, None).map(|record| Pin(record | FOREIGN))
    }

    /// Gives back `pages` pages from page `first` of a pin on; each page is given back once.
    ///
    /// Foreign pages that are pinned elsewhere too may have been reached through this pin. From now on they are reached
    /// through another one: `quiesce` is called then, to return when every access is over that began before.
    pub(crate) fn unpin(&self, pin: Pin, first: u64, pages: u64, quiesce: impl FnOnce()) {
        match pin.kind() {
            Kind::Machine { frame } => self.arena.unpin(frame + first..frame + first + pages),
            Kind::Foreign { record } => self.foreign.unpin(record, first..first + pages, quiesce),
        }
    }

    /// The physical run at a page of a pin: as long as it really is, `left` pages at most.
    ///
    /// # Panics
    ///
    /// If these pages are not pinned, or none are asked for.
    #[must_use]
    pub(crate) fn run(&self, pin: Pin, page: u64, left: u64) -> Run {
        let mut run = Joined { run: None, left };
        match pin.kind() {
            Kind::Machine { frame } => {
                let mut at = frame + page;
                loop {
                    let (address, frames) = self.layout.run_at(at);
                    if !run.add(address, frames) {
                        break;
                    }
                    at += frames;
                }
            }
            Kind::Foreign { record } => {
                self.foreign
                    .visit(record, page..page + left, |frame| run.add(self.layout.run_at(frame).0, 1));
            }
        }
        run.run.expect("a page that is pinned")
    }

    /// How many pins hold a page of a pin, this one included.
    pub(crate) fn pins(&self, pin: Pin, page: u64) -> u64 {
        match pin.kind() {
            Kind::Machine { frame } => self.arena.pins(frame + page),
            Kind::Foreign { record } => self.foreign.pins(record, page),
        }
    }

    /// The frames of `pages` pages from page `first` of a pin on, in their order, joined where one follows the other.
    pub(crate) fn pinned_frames(&self, pin: Pin, first: u64, pages: u64) -> Vec<Range<u64>> {
        let mut joined: Vec<Range<u64>> = Vec::new();
        match pin.kind() {
            Kind::Machine { frame } => joined.push(frame + first..frame + first + pages),
            Kind::Foreign { record } => {
                self.foreign.visit(record, first..first + pages, |frame| {
                    match joined.last_mut() {
                        Some(last) if last.end == frame => last.end += 1,
                        _ => joined.push(frame..frame + 1),
                    }
                    true
                });
            }
        }
        joined
    }
}

impl Ram {
    /// Copies from pinned memory, from byte `at` of a pin on.
    pub(crate) fn read_pinned(&self, pin: Pin, at: u64, bytes: &mut [u8]) {
        let mut rest = bytes;
        self.each_piece(pin, at, rest.len(), |frame, offset, length| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            if frame.read(offset, now) == Err(Gone) {
                now.fill(0xff);
            }
            rest = later;
        });
    }

    /// Copies to it.
    pub(crate) fn write_pinned(&self, pin: Pin, at: u64, bytes: &[u8]) {
        let mut rest = bytes;
        self.each_piece(pin, at, rest.len(), |frame, offset, length| {
            let (now, later) = rest.split_at(length);
            // To memory that the program has taken away, nothing is written.
            let _gone = frame.write(offset, now);
            rest = later;
        });
    }

    /// Calls `f` for each frame that bytes of a pin are in, with their offset there and how many they are.
    fn each_piece(
        &self,
        pin: Pin,
        at: u64,
        length: usize,
        mut f: impl FnMut(FramePointer<'_>, usize, usize),
    ) {
        let _still = self.hold_still();
        let pages = (at % FRAME + length as u64).div_ceil(FRAME);
        let (mut offset, mut left) = ((at % FRAME) as usize, length);
        for frame in self.pinned_frames(pin, at / FRAME, pages).into_iter().flatten() {
            let here = left.min(FRAME as usize - offset);
            // Nowhere: the program has unmapped it unseen, and something else is there.
            let Some(frame) = self.frame(frame) else { return };
            f(frame, offset, here);
            (offset, left) = (0, left - here);
        }
    }
}

/// Joins pieces of physical memory while they follow each other.
struct Joined {
    run: Option<Run>,
    left: u64,
}

impl Joined {
    /// Adds a piece; false if more is of no use.
    fn add(&mut self, address: u64, pages: u64) -> bool {
        let run = self.run.get_or_insert(Run { address, pages: 0 });
        if run.address + run.pages * FRAME != address {
            return false;
        }
        run.pages += pages.min(self.left - run.pages);
        run.pages < self.left
    }
}

/// The bytes that pages take: `None` if they end beyond the address space.
fn bytes(start: u64, first: u64, pages: u64) -> Option<Range<u64>> {
    let start = start.checked_add(first.checked_mul(FRAME)?)?;
    Some(start..start.checked_add(pages.checked_mul(FRAME)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use subsystem::Task;
    use sys::{Memory, MemoryOptions, PageSize};

    use super::*;
    use crate::ram::{LayoutKind, RamSpec};

    const KINDS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

    fn ram(layout: LayoutKind) -> (Arc<Ram>, Task) {
        let ram = Ram::new(&RamSpec { bytes: 64 << 20, layout, seed: 42 }).expect("RAM");
        let task = ram.accounts().task(1000, None);
        (ram, task)
    }

    fn memory(ram: &Ram, length: usize, page_size: PageSize) -> (Memory, u64) {
        let memory = ram.allocate(&MemoryOptions { length, page_size, highest: u64::MAX }).expect("memory");
        let address = memory.start().as_ptr() as u64;
        (memory, address)
    }

    /// Runs are as long as physical memory really is contiguous, and no longer than asked for.
    #[test]
    fn runs_are_maximal() {
        for kind in KINDS {
            let (ram, task) = ram(kind);
            let (_memory, address) = memory(&ram, 8 << 20, PageSize::Base);
            let pin = ram.pin(Source::User { task, address }, 0, 2048, true).expect("machine RAM");
            let pages: Vec<u64> = (0..2048).map(|page| ram.run(pin, page, 1).address).collect();
            for page in 0..2048_usize {
                let ahead = &pages[page..];
                let contiguous = ahead.windows(2).take_while(|pair| pair[0] + FRAME == pair[1]).count() + 1;
                let run = ram.run(pin, page as u64, 2048 - page as u64);
                assert_eq!(
                    run,
                    Run { address: pages[page], pages: contiguous as u64 },
                    "{kind:?}, page {page}"
                );
                assert_eq!(ram.run(pin, page as u64, 1).pages, 1);
            }
            ram.unpin(pin, 0, 2048, || ());
        }
    }

    #[test]
    fn huge_pages_are_contiguous_in_every_layout() {
        for kind in KINDS {
            let (ram, task) = ram(kind);
            let (memory, address) = memory(&ram, 1, PageSize::Huge2M);
            assert_eq!((memory.length(), address % (2 << 20)), (2 << 20, 0));
            let pin = ram.pin(Source::User { task, address }, 0, 512, true).expect("machine RAM");
            let run = ram.run(pin, 0, 512);
            assert_eq!((run.pages, run.address % (2 << 20)), (512, 0), "{kind:?}");
        }
    }

    #[test]
    fn a_limited_device_gets_low_memory() {
        for kind in KINDS {
            let (ram, task) = ram(kind);
            let options =
                MemoryOptions { length: 64 << 10, page_size: PageSize::Base, highest: (1 << 28) - 1 };
            let memory = ram.allocate(&options).expect("the low zone has room");
            for page in 0..16 {
                let address = memory.start().as_ptr() as usize + page * 4096;
                assert!(ram.physical_address(task, address + 4095).expect("ours") < 1 << 28);
            }
            let error =
                ram.allocate(&MemoryOptions { highest: 4095, ..options }).expect_err("nothing is there");
            assert_eq!(error.errno(), uapi::Errno::ENOMEM);
        }
    }

    /// Memory that the program gave up stays with the device, and is nobody else's until it is unpinned.
    #[test]
    fn pins_outlive_the_memory() {
        let (ram, task) = ram(LayoutKind::Scattered);
        let (first, address) = memory(&ram, 4096, PageSize::Base);
        let source = Source::User { task, address };
        let pin = ram.pin(source, 0, 1, true).expect("machine RAM");
        let physical = ram.run(pin, 0, 1).address;
        drop(first);
        assert_eq!(ram.run(pin, 0, 1).address, physical);
        assert_eq!(ram.pin(source, 0, 1, true), Err(PinError::Fault), "it is not the program's any more");
        assert_eq!(ram.physical_address(task, address as usize), None);
        let (_other, elsewhere) = memory(&ram, 4096, PageSize::Base);
        assert_ne!(elsewhere, address);
        ram.unpin(pin, 0, 1, || ());
        assert_eq!(memory(&ram, 4096, PageSize::Base).1, address, "first fit finds it again");
    }

    #[test]
    fn all_or_nothing() {
        let (ram, task) = ram(LayoutKind::Contiguous);
        let (memory, address) = memory(&ram, 8192, PageSize::Base);
        let source = Source::User { task, address };
        assert_eq!(ram.pin(source, 1, 2, true), Err(PinError::Fault));
        assert_eq!(
            ram.pin(Source::User { task, address: u64::MAX - 4095 }, 0, 2, true),
            Err(PinError::Fault)
        );
        assert_eq!(ram.pin(source, u64::MAX, 1, true), Err(PinError::Fault));
        drop(memory);
        assert_eq!(self::memory(&ram, 8192, PageSize::Base).1, address, "the failed pins hold nothing");
    }

    #[test]
    fn nothing_of_a_process_that_exited_is_pinned() {
        let (ram, task) = ram(LayoutKind::Contiguous);
        let (_memory, address) = memory(&ram, 4096, PageSize::Base);
        ram.accounts().exit(task);
        assert_eq!(ram.pin(Source::User { task, address }, 0, 1, true), Err(PinError::Fault));
    }

    /// A memfd: its pages, by offset, however the descriptor was opened; nothing beyond its end.
    #[test]
    fn files_that_are_memory() {
        let (ram, _) = ram(LayoutKind::Scattered);
        let file = memfd_create("test", MemfdFlags::CLOEXEC).expect("a memfd");
        ftruncate(&file, 3 * FRAME + 1).expect("sized");
        rustix::io::pwrite(&file, b"third", 2 * FRAME).expect("written");
        let backing = ram.hold_backing(file.as_fd()).expect("held");
        let pin = ram.pin(Source::File { backing, offset: FRAME }, 0, 2, true).expect("within the file");
        let third = ram.layout().frame_at(ram.run(pin, 1, 1).address).expect("a frame");
        let mut bytes = [0; 5];
        ram.frame(third).expect("pinned").read(0, &mut bytes).expect("mapped");
        assert_eq!(&bytes, b"third");

        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let read_only = std::fs::File::open(path).expect("reopened");
        let second = ram.hold_backing(read_only.as_fd()).expect("held");
        ram.put_backing(backing);
        let again = ram.pin(Source::File { backing: second, offset: 0 }, 2, 1, true).expect("a memfd still");
        assert_eq!(ram.run(again, 0, 1), ram.run(pin, 1, 1), "one page has one address");
        ram.frame(third).expect("pinned").write(0, b"THIRD").expect("mapped");
        ram.unpin(pin, 0, 2, || ());
        ram.frame(third).expect("still pinned").read(0, &mut bytes).expect("mapped");
        assert_eq!(&bytes, b"THIRD");
        ram.unpin(again, 0, 1, || ());
        assert!(ram.frame(third).is_none());

        assert_eq!(
            ram.pin(Source::File { backing: second, offset: 0 }, 3, 1, true),
            Err(PinError::Unsuitable)
        );
        assert_eq!(
            ram.pin(Source::File { backing, offset: 0 }, 0, 1, true),
            Err(PinError::Unsuitable),
            "put"
        );
    }

    #[test]
    fn other_files_are_not_memory() {
        let (ram, _) = ram(LayoutKind::Contiguous);
        for path in ["/proc/self/exe", "/dev/zero", "/"] {
            let file = std::fs::File::open(path).expect("every Linux has it");
            let backing = ram.hold_backing(file.as_fd()).expect("held");
            let source = Source::File { backing, offset: 0 };
            assert_eq!(ram.pin(source, 0, 1, false), Err(PinError::Unsuitable), "{path}");
        }
    }

    /// The heap has frames while it is pinned; each of its pages has one, however often it is pinned.
    #[test]
    fn the_heap_is_pinned_in_place() {
        let (ram, task) = ram(LayoutKind::Scattered);
        let mut heap = vec![0_u8; 4 * FRAME as usize];
        let skip = heap.as_ptr().align_offset(FRAME as usize);
        let address = heap.as_ptr() as u64 + skip as u64;
        heap[skip + FRAME as usize] = 7;
        let source = Source::User { task, address };
        let pin = ram.pin(source, 0, 3, true).expect("heap");
        let part = ram.pin(source, 1, 1, false).expect("heap");
        assert_eq!(ram.run(part, 0, 1), ram.run(pin, 1, 1));
        assert_eq!(
            ram.physical_address(task, address as usize + 4096 + 5),
            Some(ram.run(part, 0, 1).address + 5)
        );
        let frame = ram.layout().frame_at(ram.run(part, 0, 1).address).expect("a frame");
        let mut byte = [0];
        ram.frame(frame).expect("pinned").read(0, &mut byte).expect("mapped");
        assert_eq!(byte, [7]);

        ram.unpin(pin, 0, 1, || ());
        ram.unpin(pin, 1, 2, || ());
        assert!(ram.frame(frame).is_some() && ram.physical_address(task, address as usize).is_none());
        ram.unpin(part, 0, 1, || ());
        assert!(ram.frame(frame).is_none());
    }
}
