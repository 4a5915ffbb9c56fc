//! Dirty pages of containers with emulated devices: what drivers write or pin, and nothing else.

use subsystem::{FileId, Function, Transfer, UserMemory, UserMemoryExt as _};
use uapi::Command;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{Client, Vfio};
use crate::emulated::{BUFFER, PAGE, one};
use crate::random::Random;
use crate::software_dma_container::{V2, contained, dma_map, dma_unmap};
use crate::support::function::TestFunction;
use crate::support::iommu::IOMMU;

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
/// Where bitmaps are written.
const BITMAP: u64 = BUFFER + 7 * PAGE;

fn track(client: &Client<'_>, container: FileId, on: bool) {
    let flags = if on { VFIO_IOMMU_DIRTY_PAGES_FLAG_START } else { VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP };
    client.call(container, &mut VfioIommuType1DirtyBitmap { flags, ..Command::new() }).unwrap();
}

fn bitmap() -> VfioBitmap {
    VfioBitmap { pgsize: PAGE, size: 8, data: BITMAP }
}

fn word(client: &Client<'_>) -> u64 {
    (&client.caller as &dyn UserMemory).get(BITMAP).unwrap()
}

/// The dirty pages among up to 64.
fn dirty(client: &Client<'_>, container: FileId, iova: u64, pages: u64) -> u64 {
    (&client.caller as &dyn UserMemory).put(BITMAP, &0_u64).unwrap();
    let head = VfioIommuType1DirtyBitmap { argsz: 48, flags: VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP };
    let range = VfioIommuType1DirtyBitmapGet { iova, size: pages * PAGE, bitmap: bitmap() };
    let mut bytes = [head.as_bytes(), range.as_bytes()].concat();
    client.raw(container, VFIO_IOMMU_DIRTY_PAGES, &mut bytes).unwrap();
    word(client)
}

fn write(vfio: &Vfio, function: Function, iova: u64, length: usize) {
    vfio.transfer(function, iova, Transfer::Write(&vec![0; length])).unwrap();
}

#[test]
fn only_what_drivers_write_or_pin_is_dirty() {
    let (vfio, function) = one();
    let (client, _, container, ..) = contained(&vfio, V2);
    dma_map(&client, container, RW, BUFFER, 0x10000, 7);
    write(&vfio, function, 0x10000, 1);
    vfio.pin_pages(function, 0x11000, 1, true).unwrap();
    track(&client, container, true);
    let told = || dirty(&client, container, 0x10000, 7);
    assert_eq!(told(), 0b10, "what is pinned, not what was written before");
    write(&vfio, function, 0x12ffe, 4);
    vfio.transfer(function, 0x15000, Transfer::Read(&mut [0])).unwrap();
    assert_eq!((told(), told()), (0b1110, 0b10), "what is pinned is told again, what was written is not");
    vfio.pin_pages(function, 0x14000, 2, false).unwrap();
    vfio.unpin_pages(function, 0x14000, 2);
    vfio.unpin_pages(function, 0x11000, 1);
    assert_eq!((told(), told()), (0b11_0010, 0), "pinned until a moment ago");
    write(&vfio, function, 0x10000, 1);
    track(&client, container, false);
    track(&client, container, true);
    assert_eq!(told(), 0, "tracking anew");
    // What is unmapped is told of, with what was pinned by then; what is mapped in its place is clean.
    vfio.pin_pages(function, 0x16000, 1, true).unwrap();
    let flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
    let unmap = VfioIommuType1DmaUnmap { argsz: 48, flags, iova: 0x10000, size: 7 * PAGE };
    let mut bytes = [unmap.as_bytes(), bitmap().as_bytes()].concat();
    client.raw(container, VFIO_IOMMU_UNMAP_DMA, &mut bytes).unwrap();
    assert_eq!(word(&client), 0b100_0000);
    dma_map(&client, container, RW, BUFFER, 0x10000, 7);
    assert_eq!(told(), 0);
}

#[test]
fn while_devices_do_dma_everything_is_dirty() {
    let (vfio, function) = one();
    let behind = vfio.host().add_function(TestFunction { iommu: Some(IOMMU), ..TestFunction::express() });
    vfio.probe(behind).unwrap();
    let (client, _, container, fd, _) = contained(&vfio, V2);
    dma_map(&client, container, RW, BUFFER, 0x10000, 7);
    track(&client, container, true);
    write(&vfio, function, 0x11000, 1);
    let group = client.open_group(1).unwrap();
    client.set_container(group, fd).unwrap();
    let told = || dirty(&client, container, 0x10000, 7);
    assert_eq!((told(), told()), (0x7f, 0x7f));
    client.unset_container(group).unwrap();
    assert_eq!((told(), told()), (0x7f, 0), "it may have written until it left");
}

/// Until pages are tracked anew.
#[test]
fn what_there_is_no_memory_to_note_makes_everything_dirty() {
    let (vfio, function) = one();
    let (client, _, container, ..) = contained(&vfio, V2);
    dma_map(&client, container, RW, BUFFER, 0x10000, 7);
    track(&client, container, true);
    vfio.host().fail_allocation(Some(0));
    write(&vfio, function, 0x11000, 1);
    assert!(vfio.host().has_failed());
    vfio.host().fail_allocation(None);
    let told = || dirty(&client, container, 0x10000, 7);
    assert_eq!((told(), told()), (0x7f, 0x7f));
    track(&client, container, false);
    track(&client, container, true);
    assert_eq!(told(), 0);
}

/// Linux shifts its own bitmap into place, and clears it no further than the mapping goes.
#[test]
fn bits_that_linux_leaves_behind_are_those_of_dirty_pages() {
    let (vfio, function) = one();
    let (client, _, container, ..) = contained(&vfio, V2);
    dma_map(&client, container, RW, BUFFER, 0x13000, 5);
    track(&client, container, true);
    write(&vfio, function, 0x14000, 1);
    write(&vfio, function, 0x17000, 1);
    let told = || dirty(&client, container, 0x10000, 16);
    assert_eq!([told(), told(), told()], [0x90, 0x400, 0x2000]);
}

/// Random writes, pins, mappings and bitmaps, against a model that has a bit for each page.
#[test]
fn what_is_dirty_is_what_a_model_says() {
    const PAGES: u64 = 24;
    for seed in 1..21 {
        let (vfio, function) = one();
        let (client, _, container, ..) = contained(&vfio, V2);
        track(&client, container, true);
        let random = &mut Random::new(seed);
        let mut mapped: Vec<(u64, u64)> = Vec::new();
        let mut pins: Vec<(u64, u64)> = Vec::new();
        let mut dirty_pages = [false; PAGES as usize];
        for _ in 0..200 {
            let (first, count) = (random.below(PAGES), 1 + random.below(4));
            if first + count > PAGES {
                continue;
            }
            let (iova, length) = (first * PAGE, count * PAGE);
            let pages = || first as usize..(first + count) as usize;
            let within = |range: &(u64, u64)| range.0 <= first && first + count <= range.0 + range.1;
            let overlaps = |range: &(u64, u64)| range.0 < first + count && first < range.0 + range.1;
            match random.below(6) {
                0 if !mapped.iter().any(overlaps) => {
                    dma_map(&client, container, RW, BUFFER, iova, count);
                    mapped.push((first, count));
                }
                1 if mapped.contains(&(first, count)) => {
                    assert_eq!(dma_unmap(&client, container, 0, iova, length), Ok(length));
                    mapped.retain(|range| *range != (first, count));
                    pins.retain(|range| !overlaps(range));
                    dirty_pages[pages()].fill(false);
                }
                2 if mapped.iter().any(within) => {
                    write(&vfio, function, iova, length as usize);
                    dirty_pages[pages()].fill(true);
                }
                3 if mapped.iter().any(within) => {
                    vfio.pin_pages(function, iova, count, true).unwrap();
                    dirty_pages[pages()].fill(true);
                    pins.push((first, count));
                }
                4 => {
                    vfio.unpin_pages(function, iova, count);
                    if let Some(at) = pins.iter().position(|range| *range == (first, count)) {
                        pins.remove(at);
                    }
                }
                _ => {
                    for &(first, count) in &mapped {
                        let pages = first as usize..(first + count) as usize;
                        let expected = (0..).zip(&dirty_pages[pages.clone()]);
                        let expected = expected.fold(0, |bits, (bit, dirty)| bits | u64::from(*dirty) << bit);
                        assert_eq!(dirty(&client, container, first * PAGE, count), expected, "seed {seed}");
                        for page in pages {
                            let page = page as u64;
                            dirty_pages[page as usize] =
                                pins.iter().any(|pin| pin.0 <= page && page < pin.0 + pin.1);
                        }
                    }
                }
            }
        }
    }
}
