//! type1: mappings of a native container, in both versions.

use std::fmt::Debug;

use subsystem::{FileId, Function, IommuInfo, Refusal, Subsystem, UserMemory, UserMemoryExt};
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::client::{Client, PARAMETERS, Vfio, assert_refused, state};
use crate::group::NAME;
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, TestHost};
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

const PAGE: u64 = 4096;
/// Where the process has 64 pages of memory, and none behind them.
const MEMORY: u64 = 0x4000_0000;
const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
const ALL: u32 = VFIO_DMA_UNMAP_FLAG_ALL;
const BITMAP: u32 = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;

/// A subsystem with a function in a group of its own for each IOMMU.
fn behind(iommus: &[IommuInfo]) -> Vfio {
    let vfio = Subsystem::new(TestHost::new(), PARAMETERS).expect("a subsystem");
    for info in iommus {
        let function =
            vfio.host().add_function(TestFunction { iommu: Some(*info), ..TestFunction::express() });
        vfio.probe(function).expect("a device behind an IOMMU");
    }
    vfio
}

/// A container that the first group has joined, backed by type1.
struct Type1<'a> {
    client: Client<'a>,
    group: FileId,
    container: FileId,
    fd: i32,
}

impl<'a> Type1<'a> {
    fn new(vfio: &'a Vfio, version: u32) -> Self {
        let client = Client::new(vfio);
        vfio.host().ram(|ram| ram.map(client.caller.task, MEMORY, 64, Layout::Scattered, true));
        let group = client.open_group(0).expect("the group");
        let (container, fd) = client.container();
        client.set_container(group, fd).expect("join");
        client.set_iommu(container, version).expect("type1");
        Type1 { client, group, container, fd }
    }

    fn map_with(&self, flags: u32, vaddr: u64, iova: u64, size: u64) -> Result<(), Refusal> {
        let mut argument = VfioIommuType1DmaMap { flags, vaddr, iova, size, ..Command::new() };
        self.client.call(self.container, &mut argument).map(|answer| assert_eq!(answer, 0))
    }

    /// Maps pages from the start of the memory on.
    fn map(&self, iova: u64, pages: u64) -> Result<(), Refusal> {
        self.map_with(RW, MEMORY, iova, pages * PAGE)
    }

    /// Unmaps; the number of bytes.
    fn unmap_with(&self, flags: u32, iova: u64, size: u64) -> Result<u64, Refusal> {
        let mut argument = VfioIommuType1DmaUnmap { flags, iova, size, ..Command::new() };
        self.client.call(self.container, &mut argument).map(|_| argument.size)
    }

    fn unmap(&self, iova: u64, pages: u64) -> Result<u64, Refusal> {
        self.unmap_with(0, iova, pages * PAGE)
    }

    fn unmap_with_bitmap(&self, iova: u64, size: u64, bitmap: VfioBitmap) -> Result<u64, Refusal> {
        let argsz = 48;
        let argument = VfioIommuType1DmaUnmap { argsz, flags: BITMAP, iova, size };
        let mut bytes = [argument.as_bytes(), bitmap.as_bytes()].concat();
        self.client.raw(self.container, VFIO_IOMMU_UNMAP_DMA, &mut bytes)?;
        Ok(VfioIommuType1DmaUnmap::read_from_bytes(&bytes[..24]).unwrap().size)
    }

    fn dirty(&self, flags: u32) -> Result<u32, Refusal> {
        self.client.call(self.container, &mut VfioIommuType1DirtyBitmap { flags, ..Command::new() })
    }

    fn get_bitmap(&self, iova: u64, size: u64, bitmap: VfioBitmap) -> Result<u32, Refusal> {
        let head = VfioIommuType1DirtyBitmap { argsz: 48, flags: VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP };
        let range = VfioIommuType1DirtyBitmapGet { iova, size, bitmap };
        let mut bytes = [head.as_bytes(), range.as_bytes()].concat();
        self.client.raw(self.container, VFIO_IOMMU_DIRTY_PAGES, &mut bytes)
    }

    /// The words of [`bitmap`].
    fn words<const N: usize>(&self) -> [u64; N] {
        let memory: &dyn UserMemory = &self.client.caller;
        std::array::from_fn(|word| memory.get(MEMORY + 8 * word as u64).unwrap())
    }

    fn fill_words(&self, value: u64) {
        let memory: &dyn UserMemory = &self.client.caller;
        (0..8).for_each(|word| memory.put(MEMORY + 8 * word, &value).unwrap());
    }

    /// GET_INFO with so much room; the bytes.
    fn info(&self, argsz: u32) -> Vec<u8> {
        let mut bytes = vec![0xee; 256];
        bytes[..16].copy_from_slice(VfioIommuType1Info { argsz, ..Command::new() }.as_bytes()[..16].as_ref());
        self.client.raw(self.container, VFIO_IOMMU_GET_INFO, &mut bytes).expect("information");
        bytes
    }
}

/// A bitmap at the start of the memory.
fn bitmap() -> VfioBitmap {
    VfioBitmap { pgsize: PAGE, size: 64, data: MEMORY }
}

const V2: u32 = VFIO_TYPE1v2_IOMMU;

#[test]
fn b658_extensions_and_commands() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, VFIO_TYPE1_IOMMU);
    let has =
        |client: &Client<'_>, number| client.number(type1.container, VFIO_CHECK_EXTENSION, number).unwrap();
    let found: Vec<u64> = (0..13).filter(|number| has(&type1.client, *number) == 1).collect();
    assert_eq!(found, [1, 3, 9, 10]);
    assert_refused!(type1.client.number(type1.container, 0x3b90, 0), ENOTTY, "type1.unknown-command");
    let ioas = IommuIoasAlloc::OPCODE;
    assert_refused!(type1.client.number(type1.container, ioas, 0), ENOTTY, "type1.unknown-command");
    let vfio = behind(&[IommuInfo { enforces_coherency: true, ..IOMMU }]);
    let type1 = Type1::new(&vfio, V2);
    assert_eq!(has(&type1.client, 4), 1);
    for kind in [0, 6, VFIO_UNMAP_ALL, VFIO_NOIOMMU_IOMMU] {
        let client = Client::new(&vfio);
        vfio.release(type1.group);
        let group = client.open_group(0).unwrap();
        let (container, fd) = client.container();
        client.set_container(group, fd).unwrap();
        assert_refused!(client.set_iommu(container, kind), ENODEV, "set-iommu.unknown");
        vfio.release(group);
    }
}

#[test]
fn devices_reach_what_is_mapped_and_nothing_else() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    type1.map_with(VFIO_DMA_MAP_FLAG_READ, MEMORY + PAGE, 0x10_0000, 2 * PAGE).unwrap();
    let at = |iova| vfio.host().translate(Function(0), iova);
    let physical = vfio.host().ram(|ram| ram.physical(type1.client.caller.task, MEMORY + 2 * PAGE)).unwrap();
    assert_eq!(at(0x10_1004), Some((physical + 4, false)));
    assert_eq!(at(0x10_2000), None);
    type1.unmap(0x10_0000, 2).unwrap();
    assert_eq!(at(0x10_1000), None);
    type1.map(0, 1).unwrap();
    vfio.release(type1.group);
    assert_eq!(at(0), None);
    assert_refused!(type1.map(0, 1), EINVAL, "container.unset");
}

#[test]
fn map_arguments() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    let short = VfioIommuType1DmaMap::new();
    assert_refused!(type1.client.sized(type1.container, &short, 31), EINVAL, "type1-map.argsz");
    for flags in [0, 8 | RW, VFIO_DMA_MAP_FLAG_VADDR | 1] {
        assert_refused!(type1.map_with(flags, MEMORY, 0, PAGE), EINVAL, "type1-map.flags");
    }
    assert_refused!(type1.map(0, 0), EINVAL, "type1-map.size");
    assert_refused!(type1.map(PAGE.wrapping_neg(), 2), EOVERFLOW, "type1-map.wraps");
    assert_refused!(type1.map_with(RW, PAGE.wrapping_neg(), 0, 2 * PAGE), EOVERFLOW, "type1-map.wraps");
    for (address, iova, size) in [(MEMORY + 1, 0, PAGE), (MEMORY, 8, PAGE), (MEMORY, 0, PAGE / 2)] {
        assert_refused!(type1.map_with(RW, address, iova, size), EINVAL, "type1-map.alignment");
    }
    assert_refused!(type1.map_with(RW, MEMORY + 63 * PAGE, 0, 2 * PAGE), EFAULT, "type1-map.fault");
    for (iova, pages) in [(0xfee0_0000, 1), (0xfedf_f000, 2), (0x80_0000_0000, 1), (0x7f_ffff_f000, 2)] {
        assert_refused!(type1.map(iova, pages), EINVAL, "type1-map.range");
    }
    let before = state(&vfio);
    for (iova, pages) in [(0xfedf_f000, 1), (0xfef0_0000, 1), (0x7f_ffff_f000, 1), (0, 4)] {
        type1.map(iova, pages).unwrap();
        assert_refused!(type1.map(iova, 1), EEXIST, "type1-map.overlap");
    }
    assert_eq!(vfio.usage().areas, 4);
    assert_eq!(type1.unmap_with(ALL, 0, 0), Ok(7 * PAGE));
    assert_eq!(state(&vfio), before);
}

#[test]
fn unmap_arguments() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    let short = VfioIommuType1DmaUnmap::new();
    assert_refused!(type1.client.sized(type1.container, &short, 23), EINVAL, "type1-unmap.argsz");
    let flags = VfioIommuType1DmaUnmap { flags: BITMAP, size: PAGE, ..Command::new() };
    assert_refused!(type1.client.sized(type1.container, &flags, 47), EINVAL, "type1-unmap.argsz");
    for flags in [8, BITMAP | ALL, BITMAP | VFIO_DMA_UNMAP_FLAG_VADDR] {
        assert_refused!(type1.unmap_with(flags, 0, 0), EINVAL, "type1-unmap.flags");
    }
    assert_refused!(type1.unmap_with(0, 1, PAGE), EINVAL, "type1-unmap.alignment");
    assert_refused!(type1.unmap_with(0, 0, PAGE + 1), EINVAL, "type1-unmap.alignment");
    assert_refused!(type1.unmap(0, 0), EINVAL, "type1-unmap.size");
    assert_refused!(type1.unmap_with(ALL, PAGE, 0), EINVAL, "type1-unmap.size");
    assert_refused!(type1.unmap_with(ALL, 0, PAGE), EINVAL, "type1-unmap.size");
    assert_refused!(type1.unmap(PAGE.wrapping_neg(), 2), EOVERFLOW, "type1-unmap.wraps");
    assert_eq!(type1.unmap(0, 1), Ok(0), "nothing was there");
    assert_eq!(type1.unmap_with(ALL, 0, 0), Ok(0));
}

#[test]
fn version_2_unmaps_whole_mappings() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    for iova in [0x10_0000, 0x10_4000, 0x20_0000] {
        type1.map(iova, 4).unwrap();
    }
    for (iova, pages) in [(0x10_0000, 2), (0x10_1000, 3), (0x10_0000, 5), (0xf_f000, 2), (0x10_7000, 2)] {
        assert_refused!(type1.unmap(iova, pages), EINVAL, "type1-unmap.bisects");
    }
    assert_eq!(type1.unmap(0xf_f000, 10), Ok(8 * PAGE), "both that are inside");
    assert_eq!(type1.unmap(0x20_0000, 4), Ok(4 * PAGE));
}

#[test]
fn version_1_unmaps_all_of_a_mapping_that_begins_in_the_range() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, VFIO_TYPE1_IOMMU);
    for iova in [0x10_0000, 0x10_4000] {
        type1.map(iova, 4).unwrap();
    }
    assert_eq!(type1.unmap(0x10_1000, 1), Ok(0), "from the middle nothing");
    assert_eq!(type1.unmap(0x10_2000, 6), Ok(0), "nor what follows");
    assert_eq!(type1.unmap(0x10_0000, 1), Ok(4 * PAGE), "from the start the whole");
    assert_eq!(type1.unmap(0xf_0000, 21), Ok(4 * PAGE));
    type1.map(0x10_0000, 4).unwrap();
    assert_eq!(type1.unmap_with(ALL, 0, 0), Ok(4 * PAGE));
    assert_refused!(type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START), EACCES, "type1-dirty.version");
}

#[test]
fn a_mapping_can_lose_its_address_and_get_another() {
    const VADDR: u32 = VFIO_DMA_UNMAP_FLAG_VADDR;
    let vfio = behind(&[IOMMU, IommuInfo { group: 1, ..IOMMU }]);
    let type1 = Type1::new(&vfio, V2);
    type1.map(0x10_0000, 4).unwrap();
    type1.map(0x10_4000, 4).unwrap();
    let new = |vaddr, iova, pages| type1.map_with(VFIO_DMA_MAP_FLAG_VADDR, vaddr, iova, pages * PAGE);
    assert_refused!(new(MEMORY, 0x10_0000, 4), EINVAL, "type1-map.vaddr-mismatch");
    assert_eq!(type1.unmap_with(VADDR, 0x10_4000, 4 * PAGE), Ok(4 * PAGE));
    assert_refused!(type1.unmap_with(VADDR, 0x10_0000, 8 * PAGE), EINVAL, "type1-unmap.vaddr");
    assert_refused!(type1.unmap_with(VADDR | ALL, 0, 0), EINVAL, "type1-unmap.vaddr");
    let other = type1.client.open_group(1).unwrap();
    assert_refused!(type1.client.set_container(other, type1.fd), EBUSY, "type1.group-addresses");
    assert_refused!(new(MEMORY, 0x10_0000, 4), EINVAL, "type1-map.vaddr-mismatch");
    assert_refused!(new(MEMORY, 0x10_4000, 3), EINVAL, "type1-map.vaddr-mismatch");
    assert_refused!(new(MEMORY, 0x30_0000, 4), ENOENT, "type1-map.vaddr-none");
    new(MEMORY, 0x10_4000, 4).unwrap();
    type1.client.set_container(other, type1.fd).unwrap();
    // Whoever gives it a new address is charged for it.
    assert_eq!(type1.unmap_with(VADDR, 0x10_4000, 4 * PAGE), Ok(4 * PAGE));
    let charged = || vfio.host().in_use().charged;
    assert_eq!(charged(), [(0, 8, 0)]);
    let heir = Client::new(&vfio);
    let flags = VFIO_DMA_MAP_FLAG_VADDR;
    let mut argument =
        VfioIommuType1DmaMap { flags, vaddr: MEMORY, iova: 0x10_4000, size: 4 * PAGE, ..Command::new() };
    heir.call(type1.container, &mut argument).unwrap();
    assert_eq!(charged(), [(0, 4, 0), (0, 4, 0)]);
    assert_eq!(type1.unmap_with(ALL, 0, 0), Ok(8 * PAGE));
    assert_eq!(charged(), [(0, 0, 0), (0, 0, 0)]);
}

#[test]
fn locked_memory_has_a_limit() {
    let vfio = behind(&[IOMMU]);
    let mut type1 = Type1::new(&vfio, V2);
    let task = type1.client.caller.task;
    type1.client.caller.caps.ipc_lock = false;
    vfio.host().ram(|ram| ram.process(task).limit = Some(8));
    type1.map(0, 8).unwrap();
    let before = state(&vfio);
    assert_refused!(type1.map(0x10_0000, 1), ENOMEM, "type1-map.locked");
    let said = vfio.host().bus(|bus| bus.log.last().cloned());
    assert_eq!(said.as_deref(), Some("Warn: vfio_pin_pages_remote: RLIMIT_MEMLOCK (32768) exceeded"));
    assert_eq!(state(&vfio), before);
    // A page that is missing is found only where the limit does not come first.
    assert_refused!(type1.map_with(RW, MEMORY + 63 * PAGE, 0x10_0000, 2 * PAGE), ENOMEM, "type1-map.locked");
    type1.unmap(0, 8).unwrap();
    assert_refused!(type1.map_with(RW, MEMORY + 60 * PAGE, 0, 16 * PAGE), EFAULT, "type1-map.fault");
    type1.client.caller.caps.ipc_lock = true;
    type1.map(0, 9).unwrap();
    assert_eq!(vfio.host().in_use().charged, [(0, 9, 0)], "it counts nevertheless");
}

#[test]
fn what_the_address_space_is_like() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    let short = VfioIommuType1Info::new();
    assert_refused!(type1.client.sized(type1.container, &short, 15), EINVAL, "type1-info.argsz");
    type1.map(0, 1).unwrap();
    // As Linux 7.3 on an emulated VT-d unit.
    let info = type1.info(256);
    let words: Vec<u64> =
        info[..120].chunks(8).map(|it| u64::from_le_bytes(it.try_into().unwrap())).collect();
    let expected = [
        3 << 32 | 256,
        0x4020_1000,
        24, // argsz and flags, page sizes, where the capabilities start
        2 | 1 << 16 | 56 << 32,
        0,
        4096,
        1 << 28, // migration
        3 | 1 << 16 | 72 << 32,
        65_534, // mappings left
        1 | 1 << 16,
        2,
        0,
        0xfedf_ffff,
        0xfef0_0000,
        0x7f_ffff_ffff, // ranges
    ];
    assert_eq!(words, expected);
    assert_eq!(info[120..], [0xee; 136], "no more is written");
    let info = type1.info(119);
    assert_eq!(
        info[..24],
        [&120_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &words[1].to_le_bytes(), &[0; 8]].concat()
    );
    assert_eq!(info[24..], [0xee; 232]);
    assert_eq!(type1.info(16)[16..], [0xee; 240]);
}

#[test]
fn dirty_arguments() {
    const START: u32 = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    type1.map(0x10_0000, 4).unwrap();
    let short = VfioIommuType1DirtyBitmap::new();
    assert_refused!(type1.client.sized(type1.container, &short, 7), EINVAL, "type1-dirty.argsz");
    for flags in [0, 3, 8] {
        assert_refused!(type1.dirty(flags), EINVAL, "type1-dirty.flags");
    }
    assert_refused!(type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), EINVAL, "type1-dirty.argsz");
    let get = |iova, size, bitmap| type1.get_bitmap(iova, size, bitmap);
    assert_refused!(get(0x10_0000, 4 * PAGE, bitmap()), EINVAL, "type1-dirty.off");
    assert_refused!(type1.unmap_with_bitmap(0x10_0000, 4 * PAGE, bitmap()), EINVAL, "type1-unmap.untracked");
    type1.dirty(START).unwrap();
    type1.dirty(START).unwrap();
    assert_refused!(get(0x10_0000, 0, bitmap()), EINVAL, "type1-dirty.size");
    assert_refused!(get(PAGE.wrapping_neg(), 2 * PAGE, bitmap()), EOVERFLOW, "type1-dirty.wraps");
    for (iova, size, pgsize) in
        [(0x10_0800, PAGE, PAGE), (0x10_0000, PAGE + 1, PAGE), (0x10_0000, 2 * PAGE, 2 * PAGE)]
    {
        let bitmap = VfioBitmap { pgsize, ..bitmap() };
        assert_refused!(get(iova, size, bitmap), EINVAL, "type1-dirty.range");
    }
    for (iova, pages) in [(0x10_1000, 8), (0xf_f000, 3)] {
        assert_refused!(get(iova, pages * PAGE, bitmap()), EINVAL, "type1-dirty.bisects");
    }
    for (size, pages) in [(0, 4), (7, 4), (8, 65), (1 << 29, 4), (64, 0)] {
        let bitmap = VfioBitmap { size, ..bitmap() };
        let answer = get(0x10_0000, pages * PAGE + u64::from(pages == 0), bitmap);
        assert_refused!(answer, EINVAL, "type1-bitmap.size");
    }
    assert_refused!(get(0x10_0000, PAGE, VfioBitmap { pgsize: 0, ..bitmap() }), EINVAL, "type1-bitmap.size");
    for data in [u64::MAX, 0x7fff_ffff_f000] {
        assert_refused!(
            get(0x10_0000, PAGE, VfioBitmap { data, ..bitmap() }),
            EINVAL,
            "type1-bitmap.address"
        );
    }
    let nowhere = VfioBitmap { data: 0x1000_0000, ..bitmap() };
    assert_refused!(get(0x10_0000, 4 * PAGE, nowhere), EFAULT, "reply.fault");
    assert_refused!(get(0xf_f000, 5 * PAGE, nowhere), EFAULT, "argument.fault");
    let other = VfioBitmap { pgsize: 2 * PAGE, ..bitmap() };
    assert_refused!(type1.unmap_with_bitmap(0x10_0000, 4 * PAGE, other), EINVAL, "type1-unmap.untracked");
    assert_refused!(type1.unmap_with_bitmap(0x10_0000, 4 * PAGE, nowhere), EFAULT, "reply.fault");
    assert_eq!(type1.unmap_with_bitmap(0x10_0000, 4 * PAGE, bitmap()), Ok(4 * PAGE));
    assert_eq!(type1.words(), [0xf]);
    type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP).unwrap();
}

/// As Linux 7.3 answers the same calls, whose own bitmaps keep bits that nobody asked for.
#[test]
fn everything_that_is_mapped_is_dirty() {
    let vfio = behind(&[IOMMU]);
    let type1 = Type1::new(&vfio, V2);
    for (iova, pages) in [(0x10_3000, 5), (0x11_0000, 2), (0x14_0000, 0x40 - 16 + 16)] {
        type1.map(iova, pages).unwrap();
    }
    type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START).unwrap();
    type1.fill_words(0x5555_5555_5555_5555);
    type1.get_bitmap(0x10_0000, 0x10_0000, bitmap()).unwrap();
    let rest = 0x5555_5555_5555_5555;
    assert_eq!(type1.words(), [0x5555_5555_5557_55fd, u64::MAX, rest, rest]);
    type1.fill_words(0);
    type1.get_bitmap(0x10_0000, 0x10_0000, bitmap()).unwrap();
    assert_eq!(type1.words(), [0xffff_ffff_ffff_aff8, u64::MAX, 0, 0]);
    // Tracking anew forgets them.
    type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP).unwrap();
    type1.dirty(VFIO_IOMMU_DIRTY_PAGES_FLAG_START).unwrap();
    type1.fill_words(0);
    type1.get_bitmap(0x10_0000, 0x10_0000, bitmap()).unwrap();
    assert_eq!(type1.words(), [0x3_00f8, u64::MAX, 0, 0]);
}

#[test]
fn groups_share_what_is_mapped() {
    let other = |group| IommuInfo { group, ..IOMMU };
    let enforcing = IommuInfo { enforces_coherency: true, aperture_last: 0xffff_ffff, ..other(2) };
    let vfio = behind(&[IOMMU, other(1), enforcing, IommuInfo { isolated_msi: false, ..other(3) }]);
    let type1 = Type1::new(&vfio, V2);
    let join = |minor| {
        let group = type1.client.open_group(minor).unwrap();
        (group, type1.client.set_container(group, type1.fd))
    };
    type1.map(0x10_0000, 1).unwrap();
    let (second, joined) = join(1);
    joined.unwrap();
    let reaches = |function| vfio.host().translate(Function(function), 0x10_0000).is_some();
    assert!(reaches(0) && reaches(1));
    type1.map(0x1_0000_0000, 1).unwrap();
    let (third, refused) = join(2);
    assert_refused!(refused, EINVAL, "type1.group-aperture");
    type1.unmap(0x1_0000_0000, 1).unwrap();
    type1.client.set_container(third, type1.fd).unwrap();
    assert!(reaches(2), "a domain of its own has it too");
    assert_refused!(type1.map(0x1_0000_0000, 1), EINVAL, "type1-map.range");
    type1.map(0x20_0000, 1).unwrap();
    vfio.release(third);
    assert!(!reaches(2));
    type1.map(0x1_0000_0000, 1).unwrap();
    let (fourth, refused) = join(3);
    assert_refused!(refused, EPERM, "type1.group-interrupts");
    vfio.release(fourth);
    vfio.release(type1.group);
    assert!(reaches(1) && !reaches(0));
    vfio.release(second);
    assert_eq!(vfio.usage().areas, 0);
    let in_use = vfio.host().iommus(|iommus| iommus.in_use());
    assert_eq!(in_use, crate::support::iommu::DomainsInUse::default());
}

#[test]
fn what_is_mapped_leaves_the_window_for_interrupts_of_a_new_group() {
    let window = IommuInfo { group: 1, msi_window: (0x10_0000, 0x1f_ffff), ..IOMMU };
    let vfio = behind(&[IOMMU, window]);
    let type1 = Type1::new(&vfio, V2);
    type1.map(0x18_0000, 1).unwrap();
    let second = type1.client.open_group(1).unwrap();
    assert_refused!(type1.client.set_container(second, type1.fd), EINVAL, "type1.group-reserved");
    type1.unmap(0x18_0000, 1).unwrap();
    type1.client.set_container(second, type1.fd).unwrap();
    assert_refused!(type1.map(0x18_0000, 1), EINVAL, "type1-map.range");
}

/// A BAR is no memory: it is mapped, but neither pinned nor counted.
#[test]
fn a_mapped_bar_can_be_mapped() {
    const BAR: u64 = 0x7000_0000;
    let vfio = behind(&[IOMMU, IommuInfo { group: 1, enforces_coherency: true, ..IOMMU }]);
    let mut type1 = Type1::new(&vfio, V2);
    let task = type1.client.caller.task;
    type1.client.caller.caps.ipc_lock = false;
    vfio.host().ram(|ram| {
        ram.process(task).regions = vec![(BAR, 4, true), (BAR + 16 * PAGE, 4, false)];
        ram.process(task).limit = Some(1);
    });
    let before = vfio.usage();
    type1.map_with(RW, BAR + PAGE, 0x10_0000, 3 * PAGE).unwrap();
    type1.map_with(VFIO_DMA_MAP_FLAG_READ, BAR + 16 * PAGE, 0x20_0000, 4 * PAGE).unwrap();
    assert_refused!(type1.map_with(RW, BAR + 16 * PAGE, 0x30_0000, PAGE), EFAULT, "type1-map.fault");
    assert_refused!(type1.map_with(RW, BAR + 3 * PAGE, 0x30_0000, PAGE + PAGE), EFAULT, "type1-map.fault");
    assert_eq!((vfio.usage().areas, vfio.host().translate(Function(0), 0x10_0000)), (2, None));
    assert_refused!(type1.map(0x10_2000, 1), EEXIST, "type1-map.overlap");
    // Nothing of it is counted for whoever gives it a new address.
    assert_eq!(type1.unmap_with(VFIO_DMA_UNMAP_FLAG_VADDR, 0x10_0000, 3 * PAGE), Ok(3 * PAGE));
    let flags = VFIO_DMA_MAP_FLAG_VADDR;
    let mut argument =
        VfioIommuType1DmaMap { flags, vaddr: BAR, iova: 0x10_0000, size: 3 * PAGE, ..Command::new() };
    Client::new(&vfio).call(type1.container, &mut argument).unwrap();
    // A group that joins later has it too.
    let second = type1.client.open_group(1).unwrap();
    type1.client.set_container(second, type1.fd).unwrap();
    vfio.release(second);
    assert_eq!(type1.unmap_with(ALL, 0, 0), Ok(7 * PAGE));
    assert_eq!(vfio.host().in_use().pinned_pages, 0);
    type1.map_with(RW, BAR, 0, PAGE).unwrap();
    assert_eq!(type1.unmap(0, 1), Ok(PAGE));
    assert_eq!(vfio.usage(), before);
}

/// The module parameters count as they are when type1 is chosen, or a group joins.
#[test]
fn parameters_of_the_module() {
    let vfio = behind(&[IOMMU, IommuInfo { group: 1, isolated_msi: false, ..IOMMU }]);
    vfio.set_modules(|modules| modules.dma_entry_limit = 2);
    let type1 = Type1::new(&vfio, V2);
    vfio.set_modules(|modules| modules.dma_entry_limit = 0);
    type1.map(0, 1).unwrap();
    type1.map(0x10_0000, 1).unwrap();
    assert_refused!(type1.map(0x10_0000, 1), EEXIST, "type1-map.overlap");
    assert_refused!(type1.map(0x20_0000, 1), ENOSPC, "type1-map.limit");
    assert_refused!(type1.map(0x80_0000_0000, 1), ENOSPC, "type1-map.limit");
    type1.unmap(0, 1).unwrap();
    type1.map(0x20_0000, 1).unwrap();

    let other = type1.client.open_group(1).unwrap();
    assert_refused!(type1.client.set_container(other, type1.fd), EPERM, "type1.group-interrupts");
    let warned = || vfio.host().bus(|bus| bus.log.len());
    let before = warned();
    vfio.set_modules(|modules| modules.type1_unsafe_interrupts = true);
    type1.client.set_container(other, type1.fd).unwrap();
    assert_eq!(warned(), before);
    vfio.set_modules(|modules| modules.type1_unsafe_interrupts = false);
    assert!(vfio.host().translate(Function(1), 0x20_0000).is_some(), "it stays");
}

#[test]
fn the_dma_of_a_group_has_one_owner() {
    let vfio = behind(&[IOMMU]);
    let mut client = Client::new(&vfio);
    let (first, second) = (client.container(), client.iommufd());
    let group = client.open_group(0).unwrap();
    client.set_container(group, second.1).unwrap();
    let device = client.device_of(group, NAME).unwrap();
    client.unset_container(group).unwrap();
    assert_refused!(client.set_container(group, first.1), EPERM, "set-container.owned");
    vfio.release(device);
    client.set_container(group, first.1).unwrap();
    client.set_iommu(first.0, V2).unwrap();
    client.device_of(group, NAME).unwrap();
}

#[test]
fn each_allocation_fails_in_turn() {
    let infos = [IOMMU, IommuInfo { group: 1, enforces_coherency: true, ..IOMMU }];
    fn sweep<T, R: Debug>(
        infos: &[IommuInfo],
        prepare: impl Fn(&Type1<'_>) -> T,
        step: impl Fn(&Type1<'_>, &T) -> Result<R, Refusal>,
    ) -> u64 {
        for n in 0.. {
            let vfio = behind(infos);
            let type1 = Type1::new(&vfio, V2);
            let prepared = prepare(&type1);
            let before = state(&vfio);
            vfio.host().fail_allocation(Some(n));
            let result = step(&type1, &prepared);
            let failed = vfio.host().has_failed();
            vfio.host().fail_allocation(None);
            let Err(refusal) = result else {
                assert!(!failed, "allocation {n} failed and the step did not");
                return n;
            };
            assert_eq!(refusal.errno(), uapi::Errno::ENOMEM, "{refusal:?}");
            assert_eq!(state(&vfio), before, "allocation {n}");
            step(&type1, &prepared).expect("it works after all");
        }
        unreachable!("some attempt succeeds")
    }
    assert!(sweep(&infos[..1], |_| (), |type1, ()| type1.map(0, 4)) >= 2, "the mapping and the domain");
    let prepare = |type1: &Type1<'_>| {
        [0, 0x10_0000, 0x20_0000].into_iter().for_each(|iova| type1.map(iova, 2).unwrap());
        type1.client.open_group(1).unwrap()
    };
    let step = |type1: &Type1<'_>, group: &FileId| type1.client.set_container(*group, type1.fd);
    assert!(sweep(&infos, prepare, step) >= 5, "a list, the domain and what is mapped");
    let vfio = behind(&infos[..1]);
    let type1 = Type1::new(&vfio, V2);
    let before = state(&vfio);
    vfio.host().fail_pin(Some(0));
    assert_refused!(type1.map(0, 4), ENOMEM, "vfio.no-memory");
    vfio.host().fail_pin(None);
    assert_eq!(state(&vfio), before);
    assert!(type1.client.caller.read(ARGUMENT, &mut [0]).is_ok());
}
