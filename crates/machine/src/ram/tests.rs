//! Memory that the program mapped itself: what of it can be pinned, and which pages are the same page.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::{FRAME, LayoutKind, Pin, Ram, RamSpec};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use subsystem::{PinError, Source, Task};

struct Setup {
    ram: Arc<Ram>,
    task: Task,
}

fn setup() -> Setup {
    let ram = Ram::new(&RamSpec { bytes: 16 << 20, layout: LayoutKind::Scattered, seed: 9 }).expect("RAM");
    let task = ram.accounts().task(1000, None);
    Setup { ram, task }
}

impl Setup {
    fn pin(&self, mapping: &Mapping, pages: u64, write: bool) -> Result<Pin, PinError> {
        self.ram.pin(Source::User { task: self.task, address: mapping.0 as u64 }, 0, pages, write)
    }

    fn physical(&self, pin: Pin, page: u64) -> u64 {
        self.ram.run(pin, page, 1).address
    }
}

/// Four pages of the test's own.
struct Mapping(*mut u8);

const LENGTH: usize = 4 * FRAME as usize;

impl Mapping {
    fn private(protection: ProtFlags) -> Mapping {
        // SAFETY: a new mapping disturbs nobody.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), LENGTH, protection, MapFlags::PRIVATE) };
        Mapping(start.expect("memory").cast())
    }

    fn of(file: impl AsFd, flags: MapFlags) -> Mapping {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as above.
        let start = unsafe { mmap(std::ptr::null_mut(), LENGTH, protection, flags, file, 0) };
        Mapping(start.expect("a mapping").cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { munmap(self.0.cast(), LENGTH) }.expect("mapped");
    }
}

#[test]
fn holes_are_faults() {
    let setup = setup();
    let mapping = Mapping::private(ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: the third page of the test's own mapping, which nothing points to.
    unsafe { munmap(mapping.0.add(2 * FRAME as usize).cast(), FRAME as usize) }.expect("mapped");
    assert!(setup.pin(&mapping, 2, true).is_ok());
    assert_eq!(setup.pin(&mapping, 3, true), Err(PinError::Fault));
    for address in [0, 0xffff_8000_0000_0000, u64::MAX - 0xfff] {
        let source = Source::User { task: setup.task, address };
        assert_eq!(setup.ram.pin(source, 0, 1, false), Err(PinError::Fault), "{address:#x}");
    }
}

#[test]
fn protection_is_respected() {
    let setup = setup();
    let nothing = Mapping::private(ProtFlags::empty());
    assert_eq!(setup.pin(&nothing, 1, false), Err(PinError::Fault));
    let read_only = Mapping::private(ProtFlags::READ);
    assert_eq!(setup.pin(&read_only, 1, true), Err(PinError::Fault));
    assert!(setup.pin(&read_only, 1, false).is_ok());
    let partly = Mapping::private(ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: the last page of the test's own mapping.
    unsafe { mprotect(partly.0.add(3 * FRAME as usize).cast(), FRAME as usize, MprotectFlags::READ) }
        .expect("mapped");
    assert_eq!(setup.pin(&partly, 4, true), Err(PinError::Fault));
    assert!(setup.pin(&partly, 3, true).is_ok());
}

/// A page that was never written is the zero page at first. Pinned for reading it becomes a page of its own, so that
/// what is written later is what the device reads.
#[test]
fn the_zero_page_is_never_pinned() {
    let setup = setup();
    let mapping = Mapping::private(ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: the test's own mapping.
    assert_eq!(unsafe { mapping.0.read_volatile() }, 0);
    let pin = setup.pin(&mapping, 1, false).expect("readable");
    let before = setup.physical(pin, 0);
    // SAFETY: the test's own mapping.
    unsafe { mapping.0.write_volatile(7) };
    assert_eq!(setup.ram.physical_address(setup.task, mapping.0 as usize), Some(before));
    let again = setup.pin(&mapping, 1, true).expect("writable");
    assert_eq!(setup.physical(again, 0), before);
}

#[test]
fn shared_pages_are_one_page() {
    let setup = setup();
    let file = memfd_create("test", MemfdFlags::CLOEXEC).expect("a memfd");
    ftruncate(&file, LENGTH as u64).expect("sized");
    let [a, b] = [(); 2].map(|()| Mapping::of(&file, MapFlags::SHARED));
    let copy = Mapping::of(&file, MapFlags::PRIVATE);
    let [in_a, in_b, in_copy] = [&a, &b, &copy].map(|mapping| setup.pin(mapping, 4, true).expect("writable"));
    let backing = setup.ram.hold_backing(file.as_fd()).expect("held");
    let in_file =
        setup.ram.pin(Source::File { backing, offset: FRAME }, 0, 3, true).expect("within the file");
    for page in 0..4 {
        assert_eq!(setup.physical(in_a, page), setup.physical(in_b, page));
        assert_ne!(setup.physical(in_a, page), setup.physical(in_copy, page));
        let address = b.0 as usize + page as usize * FRAME as usize;
        assert_eq!(setup.ram.physical_address(setup.task, address), Some(setup.physical(in_a, page)));
    }
    assert_eq!(setup.physical(in_file, 2), setup.physical(in_a, 3));
}

/// Machine RAM and other memory side by side are not one range.
#[test]
fn a_range_is_machine_ram_or_it_is_not() {
    let setup = setup();
    let options = sys::MemoryOptions { length: 16 << 20, page_size: sys::PageSize::Base, highest: u64::MAX };
    assert!(setup.ram.allocate(&options).is_err(), "zones are not joined");
    let memory = setup.ram.allocate(&sys::MemoryOptions { length: 4096, ..options }).expect("memory");
    let address = memory.start().as_ptr() as u64;
    let pin = |address, pages| setup.ram.pin(Source::User { task: setup.task, address }, 0, pages, true);
    assert_eq!(pin(address, (16 << 20) / FRAME + 1), Err(PinError::Fault));
    assert_eq!(pin(address - FRAME * 8192, 8193), Err(PinError::Fault));
    assert!(pin(address, 1).is_ok());
}
