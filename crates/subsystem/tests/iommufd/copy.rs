//! COPY, and memory that areas share.

use subsystem::iommufd::Binding;
use uapi::Command;
use uapi::iommufd::*;

use crate::client::{BUFFER, Client, FIXED, READ, READ_WRITE, pages};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

#[test]
fn b499_to_b509_checks() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let (src, dst) = (client.ioas(), client.ioas());
    client.map_at(src, BUFFER, pages(4), 0x1_0000).unwrap();
    assert_eq!(client.copy_at((src, 0x1_1000), pages(2), (dst, 0x1000)), Ok(0x1000));
    assert_refused!(client.copy_at((src, 0x1_0000), 0, (dst, 0x8000)), EINVAL, "map.length");
    assert_refused!(client.copy_at((src, 0x1_3000), pages(2), (dst, 0x8000)), ENOENT, "copy.uncovered");
    assert_refused!(client.copy_at((src, 0x8000), pages(1), (dst, 0x8000)), ENOENT, "copy.uncovered");
    assert_refused!(client.copy_at((99, 0x1_0000), pages(1), (dst, 0x8000)), ENOENT, "ioas.unknown");
    assert_refused!(client.copy_at((src, 0x1_0000), pages(1), (99, 0x8000)), ENOENT, "ioas.unknown");
    assert_refused!(client.copy_at((src, 0x8000), pages(1), (99, 0x8000)), ENOENT, "copy.uncovered");
    assert_refused!(client.copy_at((src, 0x1_0000), pages(1), (dst, 0x1000)), EEXIST, "map.overlap");
    assert_refused!(client.copy_at((src, 0x1_0000), u64::MAX - 1, (dst, 0)), EOVERFLOW, "map.source-wraps");
    let copy = |flags, length, src_iova, dst_iova| {
        let (dst_ioas_id, src_ioas_id) = (dst, src);
        client.call(&mut IommuIoasCopy {
            flags,
            dst_ioas_id,
            src_ioas_id,
            length,
            dst_iova,
            src_iova,
            ..Command::new()
        })
    };
    assert_refused!(copy(0, pages(1), 0x1_0000, 0x8000), EINVAL, "map.access");
    assert_refused!(copy(8, pages(1), 0x1_0000, 0x8000), EOPNOTSUPP, "map.flags");
    assert_refused!(copy(READ, pages(1), 0x1_0000, u64::MAX), EOVERFLOW, "map.limit");
    assert_refused!(copy(READ, pages(1), u64::MAX, 0), EOVERFLOW, "map.limit");
    assert_refused!(copy(READ, u64::MAX, 0, 0), EOVERFLOW, "map.limit");
    assert_eq!(client.context.usage().areas, 2);
    client.close();
}

#[test]
fn b502_b503_b505_several_areas_and_the_same_ioas() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let (src, dst) = (client.ioas(), client.ioas());
    client.map_at(src, BUFFER, pages(2), 0x1_0000).unwrap();
    client.map_at(src, BUFFER, pages(2), 0x1_2000).unwrap();
    client.map_at(src, BUFFER, pages(2), 0x1_6000).unwrap();
    assert!(client.copy_at((src, 0x1_1000), pages(2), (dst, 0x1000)).is_ok());
    assert_refused!(client.unmap(dst, 0x1000, pages(2) - 1), ENOENT, "unmap.partial");
    assert_eq!(client.unmap(dst, 0x2000, pages(1)), Ok(pages(1)), "there are two areas");
    assert_refused!(client.copy_at((src, 0x1_2000), pages(6), (dst, 0x8000)), ENOENT, "copy.uncovered");
    assert!(client.copy_at((src, 0x1_0000), pages(4), (src, 0x10_0000)).is_ok());
    client.close();
}

#[test]
fn b504_memory_that_was_mapped_read_only() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let (src, dst) = (client.ioas(), client.ioas());
    client.map(src, READ | FIXED, BUFFER, pages(1), 0x1000).unwrap();
    client.map(src, READ_WRITE | FIXED, BUFFER, pages(1), 0x2000).unwrap();
    let before = client.state();
    assert_refused!(client.copy_at((src, 0x1000), pages(1), (dst, 0x1000)), EPERM, "copy.writeable");
    assert_refused!(client.copy_at((src, 0x1000), pages(2), (dst, 0x1000)), EPERM, "copy.writeable");
    assert_eq!(client.state(), before);
    assert!(client.copy_at((src, 0x2000), pages(1), (dst, 0x1000)).is_ok());
    client.close();
}

#[test]
fn b510_b511_a_copy_shares_the_pinned_pages() {
    let host = TestHost::new();
    let (client, _, src, _) = Client::attached(&host);
    let other = client.context.bind(&host, subsystem::Function(8), Binding::Noiommu).unwrap();
    let dst = client.ioas();
    client.attach(other, dst).unwrap();
    client.memory(BUFFER, 8, Layout::Scattered);
    client.map_at(src, BUFFER, pages(8), 0x1_0000).unwrap();
    client.copy_at((src, 0x1_2000), pages(3), (dst, 0x1000)).unwrap();
    client.copy_at((src, 0x1_0000), pages(8), (dst, 0x10_0000)).unwrap();
    assert_eq!(client.pinned(), 8);
    let physical = client.physical(dst, 0x2000, 1).unwrap();
    assert_eq!(physical, (client.pagemap(BUFFER + pages(3)), 1));
    client.unmap(dst, 0x10_0000, pages(8)).unwrap();
    client.unmap(src, 0x1_0000, pages(8)).unwrap();
    assert_eq!(client.pinned(), 3, "what the copy has stays, and nothing else");
    assert_eq!(client.physical(dst, 0x2000, 1), Ok(physical));
    client.unmap(dst, 0x1000, pages(3)).unwrap();
    assert_eq!((client.pinned(), client.context.usage().pages), (0, 0));
    client.close();
}

#[test]
fn b512_only_what_is_copied_is_pinned() {
    let host = TestHost::new();
    let (client, _, dst, _) = Client::attached(&host);
    let src = client.ioas();
    client.memory(BUFFER, 8, Layout::Contiguous);
    client.map_at(src, BUFFER, pages(8), 0x1_0000).unwrap();
    client.copy_at((src, 0x1_4000), pages(1), (dst, 0x1000)).unwrap();
    assert_eq!(client.pinned(), 1);
    client.copy_at((src, 0x1_2000), pages(5), (dst, 0x10_0000)).unwrap();
    assert_eq!(client.pinned(), 5, "the page in the middle is not pinned again");
    // Pinned in three steps, the memory is still one contiguous piece.
    assert_eq!(client.physical(dst, 0x10_0000, pages(9)), Ok((client.pagemap(BUFFER + pages(2)), pages(5))));
    client.unmap(dst, 0x1000, pages(1)).unwrap();
    assert_eq!(client.pinned(), 5);
    client.unmap(dst, 0x10_0000, pages(5)).unwrap();
    assert_eq!(client.pinned(), 0);
    client.close();
}

#[test]
fn b513_a_slice_that_begins_within_a_page() {
    let host = TestHost::new();
    let (client, _, dst, _) = Client::attached(&host);
    let src = client.ioas();
    client.memory(BUFFER, 2, Layout::Scattered);
    client.map_at(src, BUFFER, pages(2), 0x1_0000).unwrap();
    assert_refused!(client.copy_at((src, 0x1_0010), pages(1), (dst, 0x1000)), EINVAL, "map.source-alignment");
    assert_refused!(client.copy_at((src, 0x1_0000), 100, (dst, 0x1000)), EINVAL, "map.length-alignment");
    client.close();
}

#[test]
fn pieces_that_only_together_are_aligned() {
    let host = TestHost::new();
    let (client, _, dst, _) = Client::attached(&host);
    let src = client.ioas();
    client.memory(BUFFER, 2, Layout::Scattered);
    client.map_at(src, BUFFER, 100, 0x1_0000).unwrap();
    client.map_at(src, BUFFER + 4096, 4096 - 100, 0x1_0064).unwrap();
    let before = client.state();
    assert_refused!(client.copy_at((src, 0x1_0000), pages(1), (dst, 0x1000)), EINVAL, "map.piece-alignment");
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn a_copy_that_fails_in_its_second_area_leaves_nothing() {
    let host = TestHost::new();
    let (client, _, dst, _) = Client::attached(&host);
    let src = client.ioas();
    client.memory(BUFFER, 2, Layout::Scattered);
    client.map_at(src, BUFFER, pages(2), 0x1_0000).unwrap();
    client.map_at(src, BUFFER, pages(4), 0x1_2000).unwrap();
    let before = client.state();
    assert_refused!(client.copy_at((src, 0x1_0000), pages(5), (dst, 0x1000)), EFAULT, "pin.fault");
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn many_slices_of_one_record() {
    const SLICES: u64 = 3000;
    let host = TestHost::new();
    let (client, _, dst, _) = Client::attached(&host);
    let src = client.ioas();
    client.memory(BUFFER, 2 * SLICES, Layout::Contiguous);
    client.map_at(src, BUFFER, pages(2 * SLICES), 1 << 32).unwrap();
    // All of them, far from each other; the last page of each is also the first one of another slice.
    let order = |n: u64| n * 1337 % SLICES;
    let slice = |n: u64| (src, (1 << 32) + pages(2 * order(n)));
    for n in 0..SLICES - 1 {
        let length = pages(if order(n) == SLICES - 1 { 2 } else { 3 });
        client.copy_at(slice(n), length, (dst, pages(4 * n))).unwrap();
    }
    let missing = order(SLICES - 1);
    assert_eq!(client.pinned(), 2 * SLICES - 1, "its first page is in the slice before");
    client.copy_at((src, 1 << 32), pages(2 * SLICES), (dst, 1 << 40)).unwrap();
    assert_eq!(client.pinned(), 2 * SLICES);
    let whole = client.physical(dst, 1 << 40, u64::MAX).unwrap();
    assert_eq!(whole, (client.pagemap(BUFFER), pages(2 * SLICES)));
    client.unmap(src, 1 << 32, pages(2 * SLICES)).unwrap();
    client.unmap(dst, 1 << 40, pages(2 * SLICES)).unwrap();
    assert_eq!(client.pinned(), 2 * SLICES - 1, "page {} is given back", 2 * missing + 1);
    for n in 0..SLICES - 1 {
        let first = client.physical(dst, pages(4 * n), 1).unwrap().0;
        assert_eq!(first, client.pagemap(BUFFER + pages(2 * order(n))));
        client.unmap(dst, pages(4 * n), pages(3)).unwrap();
    }
    assert_eq!((client.pinned(), client.context.usage().pages), (0, 0));
    client.close();
}
