//! What drivers of emulated devices reach through containers.

use subsystem::{FileId, Refusal, Transfer};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::client::{Client, Vfio, assert_refused};
use crate::emulated::{Attached, BUFFER, NAME, PAGE, READ_WRITE, one, pinned, process, take_unmapped};
use crate::random::Random;
use crate::support::function::TestFunction;
use crate::support::iommu::IOMMU;

/// A group that has joined a container, type1 in version 2, and given out the device.
pub(crate) fn contained<'a>(vfio: &'a Vfio, version: u32) -> (Client<'a>, FileId, FileId, i32, FileId) {
    let client = process(vfio);
    let group = client.open_group(0).unwrap();
    let (container, fd) = client.container();
    client.set_container(group, fd).unwrap();
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), ENODEV, "set-iommu.unknown");
    client.set_iommu(container, version).unwrap();
    assert_refused!(client.device_of(group, "emulated-0 "), ENODEV, "get-device-fd.unknown");
    let device = client.device_of(group, NAME).unwrap();
    (client, group, container, fd, device)
}

pub(crate) fn dma_map(client: &Client<'_>, container: FileId, flags: u32, vaddr: u64, iova: u64, pages: u64) {
    let mut argument = VfioIommuType1DmaMap { flags, vaddr, iova, size: pages * PAGE, ..Command::new() };
    client.call(container, &mut argument).expect("MAP_DMA");
}

pub(crate) fn dma_unmap(
    client: &Client<'_>,
    container: FileId,
    flags: u32,
    iova: u64,
    size: u64,
) -> Result<u64, Refusal> {
    let mut argument = VfioIommuType1DmaUnmap { flags, iova, size, ..Command::new() };
    client.call(container, &mut argument).map(|_| argument.size)
}

pub(crate) const V2: u32 = VFIO_TYPE1v2_IOMMU;

#[test]
fn a_container_of_emulated_devices_pins_what_is_asked_for() {
    let (vfio, function) = one();
    let (mut client, group, container, _, device) = contained(&vfio, V2);
    let extension = |number| client.number(container, VFIO_CHECK_EXTENSION, number).unwrap();
    assert_eq!((0..13).filter(|number| extension(*number) == 1).collect::<Vec<_>>(), [1, 3, 4, 9]);
    let mut info = [&72_u32.to_le_bytes()[..], &[0xee; 252]].concat();
    client.raw(container, VFIO_IOMMU_GET_INFO, &mut info).unwrap();
    let word = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4), word(8), word(12), word(16)), (72, 3, 0xffff_f000, u32::MAX, 24));
    assert_eq!((word(56), word(60), word(64), word(68), word(72)), (0x1_0003, 0, 0xffff, 0, 0xeeee_eeee));

    // Anything can be mapped, even where interrupts would be and nothing is.
    let rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    dma_map(&client, container, rw, 0x9000_0000, 0xfee0_0000, 2);
    dma_map(&client, container, rw, BUFFER, 0x10000, 8);
    dma_map(&client, container, VFIO_DMA_MAP_FLAG_READ, BUFFER, 0x20000, 1);
    dma_map(&client, container, VFIO_DMA_MAP_FLAG_WRITE, BUFFER, 0x30000, 1);
    assert_eq!(pinned(&vfio), 0);
    let vaddr = VFIO_DMA_UNMAP_FLAG_VADDR;
    assert_refused!(dma_unmap(&client, container, vaddr, 0x10001, PAGE), EBUSY, "type1-unmap.emulated");

    let pin = |iova, pages, write| vfio.pin_pages(function, iova, pages, write);
    assert_refused!(pin(0x10000, 0, true), EINVAL, "type1-pin.length");
    assert_refused!(pin(0x10000, 513, true), E2BIG, "type1-pin.many");
    assert_refused!(pin(u64::MAX - 4095, 2, true), EOVERFLOW, "type1-pin.wraps");
    assert_refused!(pin(0x17000, 2, true), EINVAL, "type1-pin.unmapped");
    assert_refused!(pin(0x20000, 1, true), EPERM, "type1-pin.rights");
    assert_refused!(pin(0x30000, 1, false), EPERM, "type1-pin.rights");
    assert_refused!(pin(0xfee0_0000, 1, true), EFAULT, "type1-pin.fault");
    vfio.host().ram(|ram| ram.process(client.caller.task).regions = vec![(0x9000_0000, 1, true)]);
    assert_refused!(pin(0xfee0_0000, 1, true), EINVAL, "type1-pin.bar");
    assert_eq!(pinned(&vfio), 0);
    pin(0x11000, 2, true).unwrap();
    pin(0x12000, 1, false).unwrap();
    let locked = || vfio.host().ram(|ram| ram.process(client.caller.task).space);
    assert_eq!((pinned(&vfio), locked()), (2, 2));
    vfio.unpin_pages(function, 0x11000, 2);
    assert_eq!((pinned(&vfio), locked()), (1, 1));

    let read = |iova, length| {
        let mut bytes = vec![0; length];
        vfio.transfer(function, iova, Transfer::Read(&mut bytes)).map(|()| bytes)
    };
    let write = |iova, bytes: &[u8]| vfio.transfer(function, iova, Transfer::Write(bytes));
    write(0x10ffe, b"copied").unwrap();
    assert_eq!(read(0x10ffe, 6), Ok(b"copied".to_vec()));
    assert_refused!(read(0x10000, 0), EINVAL, "type1-copy.length");
    assert_refused!(read(0x17fff, 2), EINVAL, "type1-copy.unmapped");
    assert_refused!(write(0x20000, b"x"), EPERM, "type1-copy.rights");
    assert_refused!(write(0x30000, b"x"), EPERM, "type1-copy.rights");
    assert_refused!(read(0xfee0_0000, 1), EFAULT, "type1-copy.fault");

    assert_eq!(dma_unmap(&client, container, 0, 0x10000, 8 * PAGE), Ok(8 * PAGE));
    assert_eq!(take_unmapped(&vfio, function), [(0x10000, 0x17fff)]);
    assert_eq!((pinned(&vfio), locked()), (0, 0));
    dma_map(&client, container, rw, BUFFER, 0x10000, 8);
    client.caller.caps.ipc_lock = false;
    dma_map(&client, container, rw, BUFFER, 0x40000, 2);
    vfio.host().ram(|ram| ram.process(client.caller.task).limit = Some(1));
    assert_refused!(vfio.pin_pages(function, 0x40000, 2, true), ENOMEM, "type1-pin.locked");
    vfio.pin_pages(function, 0x10000, 1, true).unwrap();
    vfio.release(device);
    assert_eq!(take_unmapped(&vfio, function), [(0, u64::MAX)]);
    assert_eq!(pinned(&vfio), 0, "a device that is closed has nothing");
    vfio.release(group);
    assert_eq!(vfio.usage().areas, 0, "with the last group goes what is mapped");
}

#[test]
fn version_1_of_type1_pins_nothing() {
    let (vfio, function) = one();
    let (client, _, container, ..) = contained(&vfio, VFIO_TYPE1_IOMMU);
    dma_map(&client, container, VFIO_DMA_MAP_FLAG_READ, BUFFER, 0x10000, 8);
    assert_refused!(vfio.pin_pages(function, 0x10000, 1, false), EACCES, "type1-pin.version");
    assert_eq!(vfio.transfer(function, 0x10000, Transfer::Read(&mut [0])), Ok(()));
}

/// A group behind an IOMMU has everything pinned as long as it is there; each page is charged once.
#[test]
fn emulated_devices_share_a_container_with_others() {
    let (vfio, function) = one();
    let behind = vfio.host().add_function(TestFunction { iommu: Some(IOMMU), ..TestFunction::express() });
    vfio.probe(behind).unwrap();
    let without = vfio.host().add_function(TestFunction::express());
    vfio.probe(without).unwrap();
    let (client, emulated, container, fd, device) = contained(&vfio, V2);
    let noiommu = client.open_group(2).unwrap();
    assert_refused!(client.set_container(noiommu, fd), EPERM, "set-container.mixed");
    let rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    dma_map(&client, container, rw, BUFFER, 0x10000, 8);
    vfio.pin_pages(function, 0x11000, 2, true).unwrap();
    let locked = || vfio.host().ram(|ram| ram.process(client.caller.task).space);
    let group = client.open_group(1).unwrap();
    for _ in 0..2 {
        client.set_container(group, fd).unwrap();
        // Those of the driver are pinned twice and charged once.
        assert_eq!((pinned(&vfio), locked()), (10, 8));
        vfio.pin_pages(function, 0x13000, 1, true).unwrap();
        assert_eq!((pinned(&vfio), locked()), (11, 8));
        client.unset_container(group).unwrap();
        assert_eq!((pinned(&vfio), locked()), (3, 3));
        vfio.unpin_pages(function, 0x13000, 1);
        assert_eq!((pinned(&vfio), locked()), (2, 2));
    }
    // The ranges of IOVAs are known since there was an IOMMU: all of them, now.
    let mut info = [&256_u32.to_le_bytes()[..], &[0xee; 252]].concat();
    client.raw(container, VFIO_IOMMU_GET_INFO, &mut info).unwrap();
    assert_eq!(
        info[72..104],
        [&[1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[0; 8][..], &[0xff; 8]].concat()
    );

    dma_map(&client, container, rw, 0x9000_0000, 0x40000, 1);
    assert_refused!(client.set_container(group, fd), EFAULT, "type1-map.fault");
    assert_eq!((pinned(&vfio), locked()), (2, 2), "what is refused leaves everything as it was");
    dma_unmap(&client, container, 0, 0x40000, PAGE).unwrap();
    dma_map(&client, container, rw, BUFFER, 0xfee0_0000, 1);
    assert_refused!(client.set_container(group, fd), EINVAL, "type1.group-reserved");
    dma_unmap(&client, container, 0, 0xfee0_0000, PAGE).unwrap();
    client.set_container(group, fd).unwrap();
    vfio.release(device);
    vfio.release(emulated);
    assert_eq!(
        (pinned(&vfio), locked(), vfio.usage().areas),
        (8, 8, 1),
        "the mapping stays with the other group"
    );
    client.unset_container(group).unwrap();
    assert_eq!((pinned(&vfio), locked(), vfio.usage().areas), (0, 0, 0));
}

#[test]
fn a_group_that_has_joined_an_iommufd_attaches_to_the_ioas_for_containers() {
    let (vfio, function) = one();
    let mut client = process(&vfio);
    let group = client.open_group(0).unwrap();
    let (iommufd, fd) = client.iommufd();
    client.set_container(group, fd).unwrap();
    client.set_iommu(iommufd, VFIO_TYPE1_IOMMU).unwrap();
    let device = client.device_of(group, NAME).unwrap();
    let mut compat = IommuVfioIoas { op: IOMMU_VFIO_IOAS_GET as u16, ..Command::new() };
    client.call(iommufd, &mut compat).unwrap();
    assert_refused!(client.destroy(iommufd, compat.ioas_id), EBUSY, "destroy.ioas-in-use");
    dma_map(&client, iommufd, VFIO_DMA_MAP_FLAG_READ, BUFFER, 0x10000, 4);
    vfio.pin_pages(function, 0x10000, 1, false).unwrap();
    // Version 1 cuts mappings, unless pages of them are pinned.
    assert_refused!(dma_unmap(&client, iommufd, 0, 0x11000, PAGE), EINVAL, "compat-unmap.pinned");
    vfio.unpin_pages(function, 0x10000, 1);
    assert_eq!(dma_unmap(&client, iommufd, 0, 0x11000, PAGE), Ok(PAGE));
    vfio.pin_pages(function, 0x12000, 2, false).unwrap();
    vfio.release(device);
    assert_eq!(pinned(&vfio), 0);
    vfio.release(group);
}

/// Random mappings, pins, and their ends, against a model that knows which pages are mapped and which calls have pinned them:
/// by an IOAS and by a container.
#[test]
fn what_is_pinned_is_what_a_model_says() {
    const PAGES: u64 = 24;
    for seed in 1..41 {
        let (vfio, function) = one();
        let in_container = seed % 2 == 0;
        let attached = (!in_container).then(|| Attached::new(&vfio, function));
        let contained = in_container.then(|| contained(&vfio, V2));
        let random = &mut Random::new(seed);
        let mut mapped: Vec<(u64, u64)> = Vec::new();
        let mut pins: Vec<(u64, u64)> = Vec::new();
        let overlap =
            |one: &(u64, u64), other: &(u64, u64)| one.0 < other.0 + other.1 && other.0 < one.0 + one.1;
        for _ in 0..200 {
            let range = (random.below(PAGES), 1 + random.below(4));
            let (iova, length) = (PAGE * (16 + range.0), PAGE * range.1);
            match random.below(5) {
                0 if !mapped.iter().any(|other| overlap(other, &range)) => {
                    match (&attached, &contained) {
                        (Some(it), _) => drop(it.map(READ_WRITE, 0, iova, range.1).unwrap()),
                        (_, Some((client, _, container, ..))) => {
                            dma_map(client, *container, 3, BUFFER, iova, range.1);
                        }
                        _ => unreachable!(),
                    }
                    mapped.push(range);
                }
                1 if mapped.contains(&range) => {
                    match (&attached, &contained) {
                        (Some(it), _) => assert_eq!(it.unmap(iova, length), Ok(length)),
                        (_, Some((client, _, container, ..))) => {
                            assert_eq!(dma_unmap(client, *container, 0, iova, length), Ok(length));
                        }
                        _ => unreachable!(),
                    }
                    mapped.retain(|other| *other != range);
                    pins.retain(|pin| !overlap(pin, &range));
                }
                2 | 3 => {
                    let covered = (range.0..range.0 + range.1)
                        .all(|page| mapped.iter().any(|other| overlap(other, &(page, 1))));
                    assert_eq!(vfio.pin_pages(function, iova, range.1, true).is_ok(), covered);
                    pins.extend(covered.then_some(range));
                }
                4 => {
                    vfio.unpin_pages(function, iova, range.1);
                    if let Some(at) = pins.iter().position(|pin| *pin == range) {
                        pins.remove(at);
                    }
                }
                _ => {}
            }
            let expected =
                (0..PAGES + 4).filter(|page| pins.iter().any(|pin| overlap(pin, &(*page, 1)))).count();
            assert_eq!(pinned(&vfio), expected as u64, "seed {seed}");
        }
    }
}
