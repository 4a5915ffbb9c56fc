//! Devices and what they reach, with and without an IOMMU.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use subsystem::{Mapping, Rights, Source};
use sys::{Memory, MemoryOptions, PageSize};

use super::{Access, Checker, DmaError, DmaPort, Doing, Domain, Domains, Mapped, Mode, PortControl, Why};
use crate::log::Log;
use crate::ram::{FRAME, LayoutKind, Pin, Ram, RamSpec};

/// A machine with one device, attached to one domain, and some memory that is pinned.
struct Setup {
    domains: Domains,
    port: DmaPort,
    control: PortControl,
    domain: Domain,
    memory: Memory,
    pin: Pin,
}

const PAGES: u64 = 16;
/// The last IOVA behind an IOMMU.
const APERTURE_LAST: u64 = (1 << 39) - 1;

fn rights(write: bool) -> Rights {
    Rights { read: true, write }
}

fn setup(layout: LayoutKind, mode: Mode) -> Setup {
    setup_behind(layout, mode, None)
}

/// With a log, the device is behind an IOMMU.
fn setup_behind(layout: LayoutKind, mode: Mode, log: Option<Arc<Log>>) -> Setup {
    let ram = Ram::new(&RamSpec { bytes: 16 << 20, layout, seed: 5 }).expect("RAM");
    let domains = Domains::new(Arc::clone(&ram), Arc::new(Checker::new(mode)));
    let aperture_last = log.is_some().then_some(APERTURE_LAST);
    let (port, control) = domains.port("0000:01:00.0", 64, log);
    control.set_bus_master(true);
    let domain = domains.create(aperture_last);
    domains.attach(&control, Some(domain));
    let length = (PAGES * FRAME) as usize;
    let options = MemoryOptions { length, page_size: PageSize::Base, highest: u64::MAX };
    let memory = ram.allocate(&options).expect("memory");
    let task = ram.accounts().task(0, None);
    let source = Source::User { task, address: memory.start().as_ptr() as u64 };
    let pin = ram.pin(source, 0, PAGES, true).expect("machine RAM");
    Setup { domains, port, control, domain, memory, pin }
}

impl Setup {
    fn map(&self, iova: u64, first: u64, pages: u64, writable: bool) -> Mapping<Pin> {
        let mapping = Mapping { iova, pin: self.pin, first, pages, rights: rights(writable) };
        self.domains.map(self.domain, &mapping);
        mapping
    }

    fn physical(&self, page: u64) -> u64 {
        self.domains.ram().run(self.pin, page, 1).address
    }

    fn write(&mut self, address: u64, length: usize) -> Result<(), DmaError> {
        self.port.write(address, &vec![1; length])
    }
}

#[test]
fn data_goes_both_ways() {
    for layout in [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered] {
        let mut setup = setup(layout, Mode::Enforce);
        setup.map(0, 0, PAGES, true);
        let (first, last) = (setup.physical(0), setup.physical(PAGES - 1));
        setup.port.write(first + 100, b"hello").expect("mapped");
        setup.port.write_u32_release(last + 4092, 0x0403_0201).expect("mapped");
        let mut bytes = [0; 7];
        setup.port.read(first + 99, &mut bytes).expect("mapped");
        assert_eq!(&bytes, b"\0hello\0");
        assert_eq!(setup.port.read_u32(last + 4092), Ok(0x0403_0201));
        assert_eq!(setup.port.read_u32(last + 4091), setup.port.read_u32(last + 4092).map(|word| word << 8));
        assert_eq!(setup.domains.checker().count(), 0);
    }
}

/// An access that is longer than what is waited for in one go crosses frames where they follow each other.
#[test]
fn long_accesses() {
    let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
    setup.map(0, 0, PAGES, true);
    let bytes: Vec<u8> = (0..PAGES * FRAME - 10).map(|at| at as u8 ^ (at >> 8) as u8).collect();
    let start = setup.physical(0) + 5;
    setup.port.write(start, &bytes).expect("mapped");
    let mut back = vec![0; bytes.len()];
    setup.port.read(start, &mut back).expect("mapped");
    assert!(bytes == back);
}

#[test]
fn past_the_end() {
    let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
    setup.map(0x10_0000, 0, 2, true);
    let start = setup.physical(1) + 4000;
    let end = setup.physical(2);
    assert_eq!(setup.write(start, 200), Err(DmaError { address: end, why: Why::PastEnd }));
    let finding = setup.domains.checker().findings().pop().expect("a finding");
    let mapping = Mapped { iova: 0x10_0000, length: 2 * FRAME, physical: Some(setup.physical(1)) };
    assert_eq!((finding.address, finding.length, finding.mapping), (end, 104, Some(mapping)));
    // What was before the end has arrived; of what was behind it, nothing is seen.
    let mut bytes = [0; 200];
    assert!(setup.port.read(start, &mut bytes).is_err());
    assert!(bytes[..96].iter().all(|&byte| byte == 1) && bytes[96..].iter().all(|&byte| byte == 0xff));
}

/// Behind the end may be what was unmapped before: an access that runs into it went past the end all the same.
#[test]
fn past_the_end_into_what_is_gone() {
    let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
    setup.map(0, 0, 2, true);
    let gone = setup.map(2 * FRAME, 2, 2, true);
    setup.domains.unmap(setup.domain, &gone);
    let end = setup.physical(2);
    assert_eq!(setup.write(end - 1, 2), Err(DmaError { address: end, why: Why::PastEnd }));
    assert_eq!(setup.write(end, 2), Err(DmaError { address: end, why: Why::AfterUnmap { calls: 0 } }));
}

#[test]
fn after_unmap() {
    let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
    let mapping = setup.map(0x20_0000, 0, 4, true);
    let address = setup.physical(2);
    setup.write(address, 4096).expect("mapped");
    setup.domains.unmap(setup.domain, &mapping);
    for _ in 0..3 {
        setup.domains.checker().call();
    }
    setup.port.doing(Doing { what: "WRITE", queue: Some(1), id: Some(17) });
    assert_eq!(setup.write(address, 4096), Err(DmaError { address, why: Why::AfterUnmap { calls: 3 } }));
    let finding = setup.domains.checker().findings().pop().expect("a finding").to_string();
    assert!(finding.starts_with("0000:01:00.0 WRITE (queue 1, command 17) writes 4096 bytes at 0x"));
    assert!(finding.ends_with(": unmapped 3 calls ago (was IOVA 0x200000, 16 KiB)"), "{finding}");
}

#[test]
fn read_only() {
    let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
    let read_only = setup.map(0, 0, 4, false);
    let address = setup.physical(3);
    assert!(setup.port.read_u64(address).is_ok());
    assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::ReadOnly }));
    let writable = setup.map(0x10000, 3, 1, true);
    setup.write(address, 1).expect("one of the mappings is writable");
    setup.domains.unmap(setup.domain, &writable);
    assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::ReadOnly }));
    setup.domains.unmap(setup.domain, &read_only);
    assert!(setup.port.read_u64(address).is_err());
}

#[test]
fn what_a_device_cannot_send() {
    for mode in [Mode::Enforce, Mode::Report] {
        let mut setup = setup(LayoutKind::Scattered, mode);
        setup.map(0, 0, PAGES, true);
        let address = setup.physical(0);
        let needed = (64 - address.leading_zeros()) as u8;
        for bits in [needed - 1, needed] {
            let (mut port, control) = setup.domains.port("0000:02:00.0", bits, None);
            control.set_bus_master(true);
            setup.domains.attach(&control, Some(setup.domain));
            let beyond = Err(DmaError { address, why: Why::BeyondMask { bits } });
            assert_eq!(port.write(address, &[1]), if bits < needed { beyond } else { Ok(()) });
        }
        assert!(setup.write(u64::MAX, 2).is_err(), "the address space ends there");
        setup.control.set_bus_master(false);
        assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::BusMasterOff }));
        assert_eq!(setup.port.read(address, &mut []), Ok(()));
    }
}

#[test]
fn a_device_that_is_detached_reaches_nothing() {
    let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
    setup.map(0, 0, PAGES, true);
    let address = setup.physical(0);
    setup.write(address, 1).expect("attached");
    setup.domains.attach(&setup.control, None);
    assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::NoDomain }));
    setup.domains.attach(&setup.control, Some(setup.domain));
    setup.write(address, 1).expect("attached again");
    setup.domains.remove(setup.domain);
    assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::NoDomain }));
}

#[test]
fn outside_tells_the_nearest() {
    let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
    setup.map(0x7000, 4, 1, false);
    let address = setup.physical(1);
    assert_eq!(setup.port.read_u32(address), Err(DmaError { address, why: Why::Outside }));
    let finding = setup.domains.checker().findings().pop().expect("a finding");
    let mapping = Mapped { iova: 0x7000, length: FRAME, physical: Some(setup.physical(4)) };
    assert_eq!((finding.access, finding.mapping), (Access::Read, Some(mapping)));
}

/// Reported accesses are made where there is memory that is in use, and nowhere else.
#[test]
fn report_mode() {
    let mut setup = setup(LayoutKind::Contiguous, Mode::Report);
    let address = setup.physical(0);
    setup.write(address, 2 * FRAME as usize).expect("it is performed");
    let mut bytes = [0; 8];
    setup.port.read(address, &mut bytes).expect("it is performed");
    assert_eq!(bytes, [1; 8]);
    assert_eq!(setup.domains.checker().count(), 2, "one for each access, not for each page");
    let unused = setup.physical(PAGES - 1) + FRAME;
    setup.write(unused, 8).expect("it is dropped");
    setup.port.read(unused, &mut bytes).expect("it is dropped");
    assert_eq!(bytes, [0xff; 8]);
    drop(setup.memory);
}

/// However a device hammers at a page: once it is unmapped, nothing arrives there any more.
#[test]
fn nothing_arrives_after_an_unmap() {
    let setup = setup(LayoutKind::Scattered, Mode::Enforce);
    let address = setup.physical(0);
    let Setup { domains, mut port, domain, pin, .. } = setup;
    let frame = domains.ram().layout().frame_at(address).and_then(|frame| domains.ram().frame(frame));
    let frame = frame.expect("machine RAM");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _aborted = port.write(address, &[0xaa; FRAME as usize]);
            }
        });
        let mut bytes = [0; FRAME as usize];
        for _ in 0..100 {
            let mapping = Mapping { iova: 0, pin, first: 0, pages: 1, rights: rights(true) };
            domains.map(domain, &mapping);
            while frame.load_u32(0) == Ok(0) {
                std::thread::yield_now();
            }
            domains.unmap(domain, &mapping);
            frame.write(0, &[0; FRAME as usize]).expect("machine RAM");
            std::thread::yield_now();
            frame.read(0, &mut bytes).expect("machine RAM");
            if bytes != [0; FRAME as usize] {
                stop.store(true, Ordering::Relaxed);
                panic!("something arrived after the unmap");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Behind an IOMMU, devices know IOVAs; memory that is scattered is one piece for them.
#[test]
fn translation_makes_one_piece_of_scattered_pages() {
    for layout in [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered] {
        let log = Arc::new(Log::default());
        let mut setup = setup_behind(layout, Mode::Enforce, Some(Arc::clone(&log)));
        let iova = 0x7f_1234_5000;
        let mapping = setup.map(iova, 2, 4, true);
        let bytes: Vec<u8> = (0..4 * FRAME - 9).map(|at| at as u8 ^ (at >> 8) as u8).collect();
        setup.port.write(iova + 9, &bytes).expect("mapped");
        let mut back = vec![0; bytes.len()];
        setup.port.read(iova + 9, &mut back).expect("mapped");
        assert!(back == bytes);
        for page in 0..4 {
            let address = setup.physical(2 + page);
            let frame = setup.domains.ram().layout().frame_at(address).expect("RAM");
            let mut there = [0];
            setup.domains.ram().frame(frame).expect("machine RAM").read(9, &mut there).expect("it stays");
            assert_eq!(there[0], bytes[(page * FRAME) as usize], "page {page} is where it is mapped");
        }
        assert_eq!(setup.domains.checker().count(), 0);
        setup.domains.unmap(setup.domain, &mapping);
        assert_eq!(setup.write(iova, 1), Err(DmaError { address: iova, why: Why::AfterUnmap { calls: 0 } }));
    }
}

/// What an IOMMU blocks is blocked in either mode, counted, and logged as Linux logs it.
#[test]
fn what_is_not_mapped_is_blocked_and_logged() {
    for mode in [Mode::Enforce, Mode::Report] {
        let log = Arc::new(Log::default());
        let mut setup = setup_behind(LayoutKind::Scattered, mode, Some(Arc::clone(&log)));
        setup.map(0x10_0000, 0, 2, false);
        let write_only = Rights { read: false, write: true };
        let mapping = Mapping { iova: 0x20_0000, pin: setup.pin, first: 4, pages: 1, rights: write_only };
        setup.domains.map(setup.domain, &mapping);
        let physical = setup.physical(0);
        setup.domains.attach(&setup.control, None);
        let mut bytes = [0; 4];
        let mut read = |setup: &mut Setup, at| setup.port.read(at, &mut bytes).map_err(|error| error.why);
        assert_eq!(read(&mut setup, 0x10_0000), Err(Why::NoDomain));
        setup.domains.attach(&setup.control, Some(setup.domain));
        assert_eq!(read(&mut setup, 0x10_1ffe), Err(Why::PastEnd));
        assert_eq!(setup.write(0x10_0008, 1).map_err(|error| error.why), Err(Why::ReadOnly));
        assert_eq!(read(&mut setup, 0x20_0000), Err(Why::WriteOnly));
        setup.write(0x20_0000, 1).expect("that it may");
        assert!(setup.write(physical, 1).is_err(), "it knows no physical addresses");
        setup.map(APERTURE_LAST - (FRAME - 1), 0, 1, false);
        assert_eq!(read(&mut setup, APERTURE_LAST - 1), Err(Why::BeyondAperture { bits: 39 }));
        assert_eq!(setup.control.fault_count(), 6);
        let faults = [
            "DMAR: [DMA Read NO_PASID] Request device [0000:01:00.0] fault addr 0x100000 [fault reason 0x02] \
             Present bit in context entry is clear",
            "DMAR: [DMA Read NO_PASID] Request device [0000:01:00.0] fault addr 0x102000 [fault reason 0x06] \
             PTE Read access is not set",
            "DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0x100000 [fault reason 0x05] \
             PTE Write access is not set",
            "DMAR: [DMA Read NO_PASID] Request device [0000:01:00.0] fault addr 0x8000000000 [fault reason 0x04] \
             Access beyond MGAW",
        ];
        let lines = log.since(0);
        assert_eq!([&lines[1], &lines[3], &lines[5], &lines[11]], faults);
        let told: Vec<String> = setup.domains.checker().findings().iter().map(ToString::to_string).collect();
        assert_eq!(
            told[1..4],
            [
                "0000:01:00.0 reads 2 bytes at IOVA 0x10_2000: past the end of a mapping (IOVA 0x100000, 8 KiB)",
                "0000:01:00.0 writes 1 byte at IOVA 0x10_0008: mapped for reading only (IOVA 0x100000, 8 KiB)",
                "0000:01:00.0 reads 4 bytes at IOVA 0x20_0000: mapped for writing only (IOVA 0x200000, 4 KiB)",
            ]
        );
        assert_eq!(
            told[5],
            "0000:01:00.0 reads 2 bytes at IOVA 0x80_0000_0000: beyond the 39 bits of an IOVA"
        );
    }
}

#[test]
fn dirty_pages_are_noted_while_that_is_on() {
    let mut setup = setup_behind(LayoutKind::Scattered, Mode::Enforce, Some(Arc::default()));
    setup.map(0, 0, PAGES, true);
    setup.write(0, 1).expect("mapped");
    let dirty = |setup: &Setup, clear| setup.domains.dirty(setup.domain, 0, PAGES, clear);
    assert_eq!(dirty(&setup, false), []);
    setup.domains.track_dirty(setup.domain, true);
    setup.port.read(0, &mut [0; 1]).expect("mapped");
    setup.write(3 * FRAME - 1, 2).expect("mapped");
    setup.port.write_u32_release(5 * FRAME, 0).expect("mapped");
    assert_eq!(dirty(&setup, false), [2, 3, 5]);
    assert_eq!(setup.domains.dirty(setup.domain, 3, 4, true), [3]);
    assert_eq!(dirty(&setup, true), [2, 5]);
    setup.write(3 * FRAME, 1).expect("mapped");
    setup.domains.track_dirty(setup.domain, false);
    setup.write(4 * FRAME, 1).expect("mapped");
    assert_eq!(dirty(&setup, true), [3]);
}

#[derive(Clone, Debug)]
enum Step {
    Map {
        first: u64,
        pages: u64,
        writable: bool,
    },
    /// Takes back a mapping: all of it, or the pages before and behind a point in it, in two calls.
    Unmap {
        which: usize,
        split: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let map = (0..PAGES, 1..PAGES, any::<bool>()).prop_map(|(first, pages, writable)| Step::Map {
        first,
        pages: pages.min(PAGES - first),
        writable,
    });
    let unmap =
        (any::<usize>(), any::<Option<u64>>()).prop_map(|(which, split)| Step::Unmap { which, split });
    prop::collection::vec(prop_oneof![map, unmap], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is mapped and unmapped, a device without an IOMMU reaches what counting page by page says.
    #[test]
    fn agrees_with_counting_pages(steps in steps(), scattered: bool) {
        let layout = if scattered { LayoutKind::Scattered } else { LayoutKind::Contiguous };
        let mut setup = setup(layout, Mode::Enforce);
        let mut mappings: Vec<Mapping<Pin>> = Vec::new();
        for step in steps {
            match step {
                Step::Map { first, pages, writable } => {
                    mappings.push(setup.map(first * FRAME, first, pages, writable));
                }
                Step::Unmap { which, split } if !mappings.is_empty() => {
                    let mapping = mappings.swap_remove(which % mappings.len());
                    let split = split.map_or(0, |split| split % mapping.pages);
                    let rest = Mapping {
                        iova: mapping.iova + split * FRAME,
                        first: mapping.first + split,
                        pages: mapping.pages - split,
                        ..mapping
                    };
                    setup.domains.unmap(setup.domain, &rest);
                    if split > 0 {
                        setup.domains.unmap(setup.domain, &Mapping { pages: split, ..mapping });
                    }
                }
                Step::Unmap { .. } => {}
            }
            for page in 0..PAGES {
                let over = |mapping: &&Mapping<Pin>| (mapping.first..mapping.first + mapping.pages).contains(&page);
                let readable = mappings.iter().any(|mapping| over(&mapping));
                let writable = mappings.iter().filter(over).any(|mapping| mapping.rights.write);
                let address = setup.physical(page);
                prop_assert_eq!(setup.port.read_u32(address).is_ok(), readable);
                let written = setup.port.write_u32_release(address, 0);
                prop_assert_eq!(written.is_ok(), writable);
                if readable && !writable {
                    prop_assert_eq!(written.map_err(|error| error.why), Err(Why::ReadOnly));
                }
            }
        }
    }

    /// Whatever is mapped and unmapped behind an IOMMU, and wherever: a device reaches through each page of IOVAs what was
    /// mapped there last, as a table page by page says.
    #[test]
    fn translates_as_a_table_of_pages_does(steps in steps(), scattered: bool) {
        let layout = if scattered { LayoutKind::Scattered } else { LayoutKind::Contiguous };
        let mut setup = setup_behind(layout, Mode::Enforce, Some(Arc::default()));
        let mut mappings: Vec<Mapping<Pin>> = Vec::new();
        let mut table: [Option<(u64, bool)>; 2 * PAGES as usize] = [None; 2 * PAGES as usize];
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Map { first, pages, writable } => {
                    let start = (at as u64 * 5) % PAGES;
                    let range = start as usize..(start + pages) as usize;
                    if table[range.clone()].iter().any(Option::is_some) {
                        continue;
                    }
                    mappings.push(setup.map(start * FRAME, first, pages, writable));
                    for (page, entry) in (first..).zip(&mut table[range]) {
                        *entry = Some((page, writable));
                    }
                }
                Step::Unmap { which, .. } if !mappings.is_empty() => {
                    let mapping = mappings.swap_remove(which % mappings.len());
                    setup.domains.unmap(setup.domain, &mapping);
                    let start = (mapping.iova / FRAME) as usize;
                    table[start..start + mapping.pages as usize].fill(None);
                }
                Step::Unmap { .. } => {}
            }
            for (page, entry) in (0..).zip(table) {
                let value = (at << 8) as u32 | page as u32;
                let written = setup.port.write_u32_release(page * FRAME + 16, value);
                prop_assert_eq!(written.is_ok(), entry.is_some_and(|(_, writable)| writable));
                let read = setup.port.read_u32(page * FRAME + 16);
                prop_assert_eq!(read.is_ok(), entry.is_some());
                let Some((behind, _)) = entry else { continue };
                let physical = setup.physical(behind);
                let frame = setup.domains.ram().layout().frame_at(physical).expect("RAM");
                let frame = setup.domains.ram().frame(frame).expect("machine RAM");
                let there = frame.load_u32(16).expect("machine RAM");
                prop_assert_eq!(read, Ok(there));
                if written.is_ok() {
                    prop_assert_eq!(there, value);
                }
            }
        }
    }
}
