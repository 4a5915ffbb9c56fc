//! Which pages a device has written, as large as its page table has them.

use super::*;
use crate::client::assert_refused;

const TRACKING: u32 = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;

impl Guest<'_> {
    fn track(&self, hwpt_id: u32, on: bool) -> Result<(), Refusal> {
        self.call(&mut IommuHwptSetDirtyTracking { flags: on.into(), hwpt_id, ..Command::new() })
    }

    /// The device writes to so many pages of 2 KiB, those whose bits are set; how many that are.
    fn write_pages(&self, hwpt: u32, count: u64, bits: u64) -> Result<u64, Refusal> {
        self.data(&bits);
        let operand = IommuTestDirty {
            iova: IOVA,
            length: count * 2048,
            page_size: 2048,
            uptr: DATA,
            ..Default::default()
        };
        self.test(IOMMU_TEST_OP_DIRTY, hwpt, operand).map(|reply| reply.out_nr_dirty)
    }

    /// The bits of so many pages of 2 KiB that were written.
    fn written(&self, hwpt_id: u32, count: u64, flags: u32) -> u64 {
        self.data(&0_u64);
        let mut argument = IommuHwptGetDirtyBitmap {
            hwpt_id,
            flags,
            iova: IOVA,
            length: count * 2048,
            page_size: 2048,
            data: DATA,
            ..Command::new()
        };
        self.call(&mut argument).expect("the bitmap");
        let mut bits = [0; 8];
        self.client.caller.read(DATA, &mut bits).unwrap();
        u64::from_le_bytes(bits)
    }
}

/// A guest with 16 pages of memory, mapped one by one, and a page table that tracks dirty pages.
fn tracking(vfio: &Vfio) -> (Guest<'_>, u32) {
    let guest = Guest::new(vfio);
    let mut option =
        IommuOption { option_id: IOMMU_OPTION_HUGE_PAGES, object_id: guest.ioas, val64: 0, ..Command::new() };
    guest.call(&mut option).expect("nothing is mapped");
    guest.map_memory(16, Layout::Contiguous);
    let table = guest.table(TRACKING).unwrap();
    (guest, table)
}

#[test]
fn what_is_written_is_told_page_by_page() {
    let vfio = kernel();
    let (guest, table) = tracking(&vfio);
    assert_refused!(guest.write_pages(table, 32, 1), EINVAL, "test.dirty-untracked");
    guest.track(table, true).unwrap();
    assert_eq!(guest.write_pages(table, 32, 0b1000_0001_0001), Ok(3));
    assert_eq!(guest.written(table, 32, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR), 0b1100_0011_0011);
    assert_eq!(guest.written(table, 4, 0), 0b0011, "a part of it");
    assert_eq!(guest.written(table, 32, 0), 0b1100_0011_0000);
    assert_eq!(guest.written(table, 32, 0), 0);
    guest.write_pages(table, 32, 1).unwrap();
    guest.track(table, true).unwrap();
    assert_eq!(guest.written(table, 32, 0), 0, "it begins with no page written");
    guest.write_pages(table, 32, 1).unwrap();
    guest.unmap(IOVA, 16 * 4096).unwrap();
    guest.map_memory_again(16);
    assert_eq!(guest.written(table, 32, 0), 0, "the page was unmapped");
    guest.track(table, false).unwrap();
    assert_refused!(guest.write_pages(table, 32, 1), EINVAL, "test.dirty-untracked");
    guest.close(&[]);
}

#[test]
fn large_pages_are_written_as_a_whole() {
    const PIECE: u64 = 16 * 4096;
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let task = guest.client.caller.task;
    vfio.host().ram(|ram| ram.map(task, BUFFER, 32, Layout::Contiguous, true));
    // A piece that begins where a page of its size does.
    let aligned = (0..16).map(|page| BUFFER + page * 4096).find(|address| {
        vfio.host().ram(|ram| ram.physical(task, *address)).is_some_and(|at| at.is_multiple_of(PIECE))
    });
    guest.client.map(guest.iommufd, guest.ioas, aligned.expect("one of them is"), IOVA, PIECE);
    let table = guest.table(TRACKING).unwrap();
    guest.track(table, true).unwrap();
    assert_eq!(guest.write_pages(table, 32, 1 << 9), Ok(1));
    assert_eq!(guest.written(table, 32, 0), 0xffff_ffff);

    // Of a page table that has pages of 4 KiB and 1 MiB, these are small ones.
    let mut huge = guest.nested_argument(guest.ioas, TRACKING);
    guest.data(&IommuHwptSelftest { iotlb: 0, pagetable_type: MOCK_IOMMUPT_HUGE });
    guest.call(&mut huge).expect("a page table of large pages");
    guest.track(huge.out_hwpt_id, true).unwrap();
    assert_eq!(guest.write_pages(huge.out_hwpt_id, 32, 1 << 9), Ok(1));
    assert_eq!(guest.written(huge.out_hwpt_id, 32, 0), 0b11 << 8);
    guest.close(&[]);
}

#[test]
fn what_a_bitmap_needs() {
    let vfio = kernel();
    let (guest, table) = tracking(&vfio);
    guest.track(table, true).unwrap();
    let good = IommuTestDirty { iova: IOVA, length: 4096, page_size: 2048, uptr: DATA, ..Default::default() };
    let dirty = |hwpt, operand: IommuTestDirty| guest.test(IOMMU_TEST_OP_DIRTY, hwpt, operand).map(|_| ());
    for bad in [
        IommuTestDirty { iova: IOVA + 1, ..good },
        IommuTestDirty { length: 0, ..good },
        IommuTestDirty { length: 4097, ..good },
        IommuTestDirty { page_size: 0, ..good },
        IommuTestDirty { uptr: 0, ..good },
    ] {
        assert_refused!(dirty(table, bad), EINVAL, "test.dirty-range");
    }
    let many = IommuTestDirty { length: 2048 << 28, ..good };
    assert_refused!(dirty(table, many), EOVERFLOW, "test.dirty-many");
    assert_refused!(dirty(guest.ioas, good), ENOENT, "hwpt.unknown");
    assert_refused!(dirty(table, IommuTestDirty { uptr: 8, ..good }), EFAULT, "test.dirty-bitmap");
    guest.close(&[]);
}

#[test]
fn a_device_that_cannot_tell_has_no_such_page_table() {
    let vfio = kernel();
    let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_NO_DIRTY);
    assert_refused!(guest.table(TRACKING), EOPNOTSUPP, "hwpt-alloc.dirty");
    let (_, able) = guest.new_device(0);
    let able = Guest { device: able, ..guest };
    let table = able.table(TRACKING).unwrap();
    assert_refused!(able.replace(table), EINVAL, "attach.dirty");
    able.close(&[]);
}
