//! Container ioctls on an IOAS, held against what Linux 7.3 was seen to answer.

use subsystem::iommufd::{Binding, Context};
use subsystem::{DmaOwner, Kconfig, Refusal};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::client::{BUFFER, Client, FUNCTION, pages};
use crate::support::host::TestHost;
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
const ALL: u32 = VFIO_DMA_UNMAP_FLAG_ALL;
const IOVA: u64 = 0x10_0000;

impl<'a> Client<'a> {
    /// A client with an IOAS for container ioctls, and 16 pages of memory.
    fn container(host: &'a TestHost) -> (Self, u32) {
        let client = Self::new(host);
        let ioas_id = client.ioas();
        let op = IOMMU_VFIO_IOAS_SET as u16;
        client.call(&mut IommuVfioIoas { ioas_id, op, ..Command::new() }).expect("VFIO_IOAS");
        client.memory(BUFFER, 16, Layout::Scattered);
        (client, ioas_id)
    }

    fn number(&self, command: u32, number: u32) -> Result<u32, Refusal> {
        self.context.ioctl(self.host, &self.caller.ctx(), command, number.into())
    }

    fn dma_map(&self, flags: u32, vaddr: u64, iova: u64, size: u64) -> Result<(), Refusal> {
        self.call(&mut VfioIommuType1DmaMap { flags, vaddr, iova, size, ..Command::new() })
    }

    /// UNMAP_DMA; the answer, and the size that came with it.
    fn dma_unmap(&self, flags: u32, iova: u64, size: u64) -> (Result<(), Refusal>, u64) {
        let mut argument = VfioIommuType1DmaUnmap { flags, iova, size, ..Command::new() };
        (self.call(&mut argument), argument.size)
    }

    /// GET_INFO with so much room; the bytes.
    fn info(&self, argsz: usize) -> [u8; 96] {
        let mut bytes = [0xee; 96];
        bytes[..4].copy_from_slice(&(argsz as u32).to_le_bytes());
        self.raw(VFIO_IOMMU_GET_INFO, &mut bytes).expect("information");
        bytes
    }
}

/// Bytes as words.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn arguments() {
    let host = TestHost::new();
    let (client, _) = Client::container(&host);
    let short = |command, size: u32| client.raw(command, &mut [&size.to_le_bytes()[..], &[0; 60]].concat());
    assert_refused!(short(VFIO_IOMMU_GET_INFO, 15), EINVAL, "compat-info.argsz");
    assert_refused!(short(VFIO_IOMMU_MAP_DMA, 31), EINVAL, "compat-map.argsz");
    assert_refused!(short(VFIO_IOMMU_UNMAP_DMA, 23), EINVAL, "compat-unmap.argsz");
    assert_refused!(client.dma_map(4 | RW, BUFFER, IOVA, pages(1)), EINVAL, "compat-map.flags");
    assert_refused!(client.dma_map(RW, BUFFER, IOVA, 0), EINVAL, "map.length");
    assert_refused!(
        client.dma_map(RW, pages(1).wrapping_neg(), IOVA, pages(2)),
        EOVERFLOW,
        "map.source-wraps"
    );
    assert_refused!(
        client.dma_map(RW, BUFFER, pages(1).wrapping_neg(), pages(2)),
        EOVERFLOW,
        "map.iova-wraps"
    );
    assert_refused!(client.dma_unmap(1, IOVA, pages(1)).0, EINVAL, "compat-unmap.flags");
    for (iova, size) in [(1, 0), (0, 1)] {
        assert_refused!(client.dma_unmap(ALL, iova, size).0, EINVAL, "compat-unmap.all");
    }
    let (answer, size) = client.dma_unmap(0, IOVA, 0);
    assert_refused!(answer, EINVAL, "unmap.length");
    assert_eq!(size, 0);
    let (answer, size) = client.dma_unmap(0, pages(1).wrapping_neg(), pages(2));
    assert_refused!(answer, EOVERFLOW, "unmap.wraps");
    assert_eq!(size, 0, "told even so");
    let nobody = Client::new(&host);
    assert_refused!(nobody.dma_map(RW, BUFFER, IOVA, pages(1)), ENODEV, "vfio-ioas.none");
    assert_refused!(nobody.dma_unmap(ALL, 0, 0).0, ENODEV, "vfio-ioas.none");
    assert_refused!(nobody.raw(VFIO_IOMMU_GET_INFO, &mut [16; 64]), ENODEV, "vfio-ioas.none");
    nobody.context.close(&host);
    client.close();
}

#[test]
fn b361_b575_b661_whole_mappings_are_unmapped() {
    let host = TestHost::new();
    let (client, _) = Client::container(&host);
    assert_eq!(client.dma_unmap(0, IOVA, pages(1)), (Ok(()), 0));
    client.dma_map(RW, BUFFER, IOVA, pages(2)).unwrap();
    client.dma_map(RW, BUFFER, IOVA + pages(2), pages(2)).unwrap();
    let (answer, size) = client.dma_unmap(0, IOVA, pages(3));
    assert_refused!(answer, ENOENT, "unmap.partial");
    assert_eq!(size, pages(2), "the first is gone");
    client.dma_map(RW, BUFFER, IOVA, pages(2)).unwrap();
    assert_eq!(client.dma_unmap(ALL, 0, 0), (Ok(()), pages(4)));
    client.close();
}

#[test]
fn b362_without_large_pages_any_page_is_unmapped_alone() {
    for attached in [false, true] {
        let host = TestHost::new();
        let (client, ioas) = Client::container(&host);
        client.number(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU).unwrap();
        let device = client.bind();
        if attached {
            client.attach(device, ioas).unwrap();
        }
        client.dma_map(RW, BUFFER, IOVA, pages(8)).unwrap();
        // A copy shares the pages, and keeps them.
        client.copy_at((ioas, IOVA), pages(8), (ioas, 0x20_0000)).unwrap();
        assert_eq!(client.dma_unmap(0, IOVA + pages(2), pages(3)), (Ok(()), pages(3)));
        assert_eq!(client.dma_unmap(0, IOVA, pages(1)), (Ok(()), pages(1)));
        assert_refused!(client.dma_unmap(0, IOVA + pages(6), 0x800).0, EINVAL, "compat-unmap.cut");
        assert_eq!(client.pinned(), if attached { 8 } else { 0 });
        let physical = |iova| client.physical(ioas, iova, pages(1)).map(|(address, _)| address);
        if attached {
            assert_eq!(physical(IOVA + pages(1)), Ok(client.pagemap(BUFFER + pages(1))));
            assert_eq!(physical(IOVA + pages(5)), Ok(client.pagemap(BUFFER + pages(5))));
            assert_eq!(physical(0x20_0000 + pages(3)), Ok(client.pagemap(BUFFER + pages(3))));
        }
        assert_refused!(physical(IOVA + pages(3)), ENOENT, "get-pa.unmapped");
        client.unmap(ioas, 0x20_0000, pages(8)).unwrap();
        assert_eq!(client.pinned(), if attached { 4 } else { 0 }, "what the cut mapping has left");
        assert_eq!(client.dma_unmap(0, 0, 0x100_0000), (Ok(()), pages(4)));
        client.close();
    }
}

#[test]
fn each_allocation_of_a_cut_fails_in_turn() {
    for n in 0.. {
        let host = TestHost::new();
        let (client, ioas) = Client::container(&host);
        client.number(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU).unwrap();
        client.attach(client.bind(), ioas).unwrap();
        client.dma_map(RW, BUFFER, IOVA, pages(8)).unwrap();
        host.fail_allocation(Some(n));
        let (answer, _) = client.dma_unmap(0, IOVA + pages(2), pages(3));
        let failed = host.has_failed();
        host.fail_allocation(None);
        if let Err(refusal) = answer {
            assert_eq!(refusal.errno(), uapi::Errno::ENOMEM);
            assert_eq!(client.pinned(), 8, "allocation {n}");
            assert_eq!(client.dma_unmap(0, IOVA + pages(2), pages(3)), (Ok(()), pages(3)));
        }
        assert_eq!(client.pinned(), 5);
        client.close();
        if !failed {
            assert!(n >= 2, "pieces, and an area");
            return;
        }
    }
}

#[test]
fn devices_may_read_or_write_every_mapping_of_a_page_table() {
    let host = TestHost::new();
    let (client, ioas) = Client::container(&host);
    let device = client.bind();
    client.dma_map(0, BUFFER, IOVA, pages(1)).expect("without a page table nobody minds");
    let before = client.state();
    assert_refused!(client.attach(device, ioas), EINVAL, "attach.rights");
    assert_eq!(client.state(), before);
    client.dma_unmap(ALL, 0, 0).0.unwrap();
    client.attach(device, ioas).unwrap();
    let before = client.state();
    assert_refused!(client.dma_map(0, BUFFER, IOVA, pages(1)), EINVAL, "attach.rights");
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn b366_what_the_ioas_is_like() {
    const NONE: u64 = 0xeeee_eeee_eeee_eeee;
    const AVAILABLE: u64 = 3 | 1 << 16;
    const LINKED: u64 = AVAILABLE | 40 << 32;
    const NUMBER: u64 = NONE >> 32 << 32 | 0xffff_ffff;
    const RANGES: u64 = 1 | 1 << 16;
    let host = TestHost::new();
    let (client, ioas) = Client::container(&host);
    let sizes = !0xfff_u64;
    // The second word of the answer is only there from 24 on.
    for (argsz, told) in [
        (16, [NONE, NONE, NONE, NONE, NONE, NONE]),
        (24, [NONE, NONE, NONE, NONE, NONE, NONE]),
        (35, [NONE, NONE, NONE, NONE, NONE, NONE]),
        (36, [AVAILABLE, NUMBER, NONE, NONE, NONE, NONE]),
        (39, [AVAILABLE, NUMBER, NONE, NONE, NONE, NONE]),
        (40, [LINKED, NUMBER, NONE, NONE, NONE, NONE]),
        (71, [LINKED, NUMBER, NONE, NONE, NONE, NONE]),
        (72, [LINKED, NUMBER, RANGES, 1, 0, u64::MAX]),
        (80, [LINKED, NUMBER, RANGES, 1, 0, u64::MAX]),
    ] {
        let info = client.info(argsz);
        let offset = if argsz >= 72 { 24 } else { 0 };
        assert_eq!(words(&info[..16]), [3 << 32 | 72, sizes], "{argsz}");
        assert_eq!(words(&info[16..24]), [if argsz < 24 { NONE } else { offset }], "{argsz}");
        assert_eq!(words(&info[24..72]), told, "{argsz}");
    }
    let device = client.bind();
    client.attach(device, ioas).unwrap();
    assert_eq!(words(&client.info(72)[8..16]), [0xf_ff7f_ffff_f000], "as the software page table of Linux");
    client.close();
}

#[test]
fn b320_b654_a_group_behind_an_iommu_brings_an_ioas() {
    let host = TestHost::new();
    host.put_behind(FUNCTION, IOMMU);
    let client = Client::new(&host);
    client.context.join(&host, false).unwrap();
    assert_eq!(client.context.compat_ioas(), Ok(1));
    client.context.join(&host, false).expect("another group");
    assert_eq!(client.context.usage().objects, 1);
    let how = Binding::Iommu { owner: DmaOwner::Context(0), unsafe_interrupts: false };
    let device = client.context.bind(&host, FUNCTION, how).unwrap();
    client.attach(device, 1).unwrap();
    let info = client.info(88);
    assert_eq!(words(&info[..16]), [3 << 32 | 88, 0x4020_1000]);
    assert_eq!(words(&info[40..88]), [1 | 1 << 16, 2, 0, 0xfedf_ffff, 0xfef0_0000, 0x7f_ffff_ffff]);
    assert_eq!(client.number(VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU), Ok(0));
    client.memory(BUFFER, 4, Layout::Scattered);
    client.dma_map(VFIO_DMA_MAP_FLAG_READ, BUFFER, IOVA, pages(4)).unwrap();
    assert_eq!(host.translate(FUNCTION, IOVA + 1), Some((client.pagemap(BUFFER) + 1, false)));
    client.close();
}

#[test]
fn b321_b349_to_b356_a_group_without_an_iommu_leaves_its_mark() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    client.context.join(&host, true).unwrap();
    assert_refused!(client.context.compat_ioas(), ENODEV, "vfio-ioas.none");
    let extensions: Vec<u32> =
        (0..13).filter(|number| client.number(VFIO_CHECK_EXTENSION, *number) == Ok(1)).collect();
    assert_eq!(extensions, [8]);
    for _ in 0..2 {
        client.number(VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU).unwrap();
    }
    client.caller.caps.sys_rawio = false;
    assert_refused!(client.number(VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), EPERM, "set-iommu.capability");
    for kind in [1, 3, 2] {
        assert_refused!(client.number(VFIO_SET_IOMMU, kind), EINVAL, "compat.iommu-type");
    }
    assert_refused!(client.context.join(&host, false), EINVAL, "set-container.noiommu");
    assert_refused!(client.dma_map(RW, BUFFER, IOVA, pages(1)), ENODEV, "vfio-ioas.none");
    let ioas_id = client.ioas();
    let op = IOMMU_VFIO_IOAS_SET as u16;
    client.call(&mut IommuVfioIoas { ioas_id, op, ..Command::new() }).expect("it may still be chosen");
    assert_refused!(client.context.join(&host, true), EINVAL, "set-container.ioas");
    client.close();
}

#[test]
fn b656_a_kernel_without_noiommu_does_not_offer_it() {
    let host = TestHost::new();
    let values = [(subsystem::Symbol::VfioNoiommu, subsystem::kconfig::Tristate::N)];
    let kconfig = Kconfig::FULL.with(&values).unwrap();
    let mut client = Client::new(&host);
    client.context.close(&host);
    client.context = Context::new(&host, kconfig).unwrap().into();
    assert_eq!(client.number(VFIO_CHECK_EXTENSION, VFIO_NOIOMMU_IOMMU), Ok(0));
    assert_eq!(client.raw(VFIO_GET_API_VERSION, VfioIommuType1Info::new().as_mut_bytes()), Ok(0));
    client.close();
}
