//! MAP, MAP_FILE, and where mappings go.

use uapi::Command;
use uapi::iommufd::*;

use crate::client::{BUFFER, Client, FIXED, READ, READ_WRITE, pages};
use crate::support::host::{Descriptor, TestHost};
use crate::support::memory::Layout;

/// An address that is aligned to 1 GiB, and hence to everything.
const ALIGNED: u64 = 1 << 30;

#[test]
fn b429_to_b437_b671_checks_before_anything_is_placed() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    let device = client.bind().id();
    let map = |flags, reserved, ioas_id, user_va, length, iova| {
        client.call(&mut IommuIoasMap { flags, reserved, ioas_id, user_va, length, iova, ..Command::new() })
    };
    assert_refused!(map(0, 0, ioas, BUFFER, 4096, 0), EINVAL, "map.access");
    assert_refused!(map(FIXED, 0, ioas, BUFFER, 4096, 0), EINVAL, "map.access");
    assert_refused!(map(8, 0, ioas, BUFFER, 4096, 0), EOPNOTSUPP, "map.flags");
    assert_refused!(map(READ, 1, ioas, BUFFER, 4096, 0), EOPNOTSUPP, "map.flags");
    assert_refused!(map(READ, 0, ioas, BUFFER, u64::MAX, 0), EOVERFLOW, "map.limit");
    assert_refused!(map(READ, 0, ioas, BUFFER, 4096, u64::MAX), EOVERFLOW, "map.limit");
    assert_refused!(map(0, 0, ioas, BUFFER, 4096, u64::MAX), EOVERFLOW, "map.limit");
    assert_refused!(map(READ, 0, ioas, BUFFER, 0, 0), EINVAL, "map.length");
    assert_refused!(map(READ, 0, ioas, 0, u64::MAX - 4095, 0), EINVAL, "map.length");
    assert_refused!(map(READ, 0, 99, BUFFER, 0, 0), ENOENT, "ioas.unknown");
    assert_refused!(map(READ, 0, device, BUFFER, 4096, 0), ENOENT, "ioas.unknown");
    assert_refused!(map(READ, 0, ioas, u64::MAX - 4095, 4096, 0), EOVERFLOW, "map.source-wraps");
    assert_eq!(client.context.usage().areas, 0);
    client.close();
}

#[test]
fn b438_to_b442_fixed_iovas() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    assert_eq!(client.map_at(ioas, BUFFER, 4096, 0), Ok(0));
    assert_eq!(client.map_at(ioas, BUFFER, 4096, u64::MAX - 4095), Ok(u64::MAX - 4095));
    assert_refused!(client.map_at(ioas, BUFFER, 8192, u64::MAX - 4095), EOVERFLOW, "map.iova-wraps");
    client.map_at(ioas, BUFFER, 8192, 0x1000).unwrap();
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x1000), EEXIST, "map.overlap");
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x2000), EEXIST, "map.overlap");
    client.close();
}

#[test]
fn b443_to_b449_the_lowest_place_with_the_natural_alignment() {
    let host = TestHost::new();
    let client = Client::new(&host);
    // Address, length, where it goes in an empty IOAS.
    for (address, length, iova) in [
        (ALIGNED + 0x1000, 4096, 0x1000),
        (ALIGNED, 4096, 0x1000),
        (ALIGNED, 64 << 10, 0x1_0000),
        (ALIGNED, 2 << 20, 0x20_0000),
        (ALIGNED, 1 << 30, 0x20_0000),
        (ALIGNED + 0x1000, 3 * 4096, 0x1000),
        (ALIGNED + 0x4000, 12 << 10, 0x4000),
        (0, 12 << 10, 0x4000),
    ] {
        let ioas = client.ioas();
        assert_eq!(client.map_any(ioas, address, length), Ok(iova), "{length:#x} at {address:#x}");
    }
    let ioas = client.ioas();
    assert_eq!(client.map_any(ioas, ALIGNED, 64 << 10), Ok(0x1_0000));
    assert_eq!(client.map_any(ioas, ALIGNED, 4096), Ok(0x1000), "the gap is used");
    client.close();
}

#[test]
fn b450_to_b455_allowed_ranges() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    client.allow(ioas, &[(0x10_0000, 0x1f_ffff)]).unwrap();
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(0x10_0000));
    assert_eq!(client.map_at(ioas, BUFFER, 4096, 0x1000), Ok(0x1000));

    assert_refused!(client.allow(ioas, &[(5, 5)]), EINVAL, "allow-iovas.range");
    assert_refused!(client.allow(ioas, &[(0, 9), (20, 29), (9, 10)]), EINVAL, "allow-iovas.overlap");
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(0x10_1000), "the old list is kept");

    client.allow(ioas, &[(0x5000, 0x5fff)]).unwrap();
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(0x5000));
    assert_refused!(client.map_any(ioas, BUFFER, 4096), ENOSPC, "map.no-room");
    client.allow(ioas, &[]).unwrap();
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(0x2000));

    let reserved = &mut IommuIoasAllowIovas { ioas_id: ioas, reserved: 1, ..Command::new() };
    assert_refused!(client.call(reserved), EOPNOTSUPP, "allow-iovas.reserved");
    let array = &mut IommuIoasAllowIovas { ioas_id: ioas, num_iovas: 1, ..Command::new() };
    assert_refused!(client.call(array), EFAULT, "allow-iovas.array");
    client.close();
}

#[test]
fn neither_the_first_page_nor_the_last_is_chosen() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    client.allow(ioas, &[(0, 0x1fff)]).unwrap();
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(0x1000));
    assert_refused!(client.map_any(ioas, BUFFER, 4096), ENOSPC, "map.no-room");
    client.allow(ioas, &[(u64::MAX - 0x1fff, u64::MAX)]).unwrap();
    assert_eq!(client.map_any(ioas, BUFFER, 4096), Ok(u64::MAX - 0x1fff));
    assert_refused!(client.map_any(ioas, BUFFER, 4096), ENOSPC, "map.no-room");
    client.close();
}

#[test]
fn b456_to_b459_iova_ranges() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    let at = crate::support::host::ARGUMENT + 0x800;
    let mut argument =
        IommuIoasIovaRanges { ioas_id: ioas, num_iovas: 1, allowed_iovas: at, ..Command::new() };
    client.call(&mut argument).unwrap();
    let mut range = [0; 16];
    subsystem::UserMemory::read(&client.caller, at, &mut range).unwrap();
    assert_eq!(range, [[0; 8], [0xff; 8]].concat()[..]);
    assert_eq!((argument.num_iovas, argument.out_iova_alignment), (1, 1));

    let mut argument = IommuIoasIovaRanges { ioas_id: ioas, num_iovas: 0, ..Command::new() };
    assert_refused!(client.call(&mut argument), EMSGSIZE, "iova-ranges.room");
    assert_eq!(
        (argument.num_iovas, argument.out_iova_alignment),
        (1, 1),
        "the reply is written all the same"
    );
    let mut argument = IommuIoasIovaRanges { ioas_id: ioas, num_iovas: 1, ..Command::new() };
    assert_refused!(client.call(&mut argument), EFAULT, "iova-ranges.array");

    let mut argument = IommuIoasIovaRanges { ioas_id: 99, reserved: 1, ..Command::new() };
    assert_refused!(client.call(&mut argument), EOPNOTSUPP, "iova-ranges.reserved");

    let device = client.bind();
    client.attach(device, ioas).unwrap();
    assert_eq!(client.alignment(ioas), 4096);
    client.detach(device);
    assert_eq!(client.alignment(ioas), 1);
    client.close();
}

#[test]
fn b460_b461_without_a_page_table_anything_is_recorded() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    assert!(client.map_any(ioas, 0x1234_5679, 100).is_ok());
    assert!(client.map_any(ioas, 0xdead_0000, 4096).is_ok());
    assert_eq!(client.pinned(), 0);
    client.close();
}

#[test]
fn b462_to_b465_alignment_with_a_page_table() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 2, Layout::Scattered);
    assert_refused!(client.map_any(ioas, BUFFER, 100), EINVAL, "map.length-alignment");
    assert_refused!(client.map_at(ioas, BUFFER + 0x10, 4096, 0x1000), EINVAL, "map.source-alignment");
    assert_refused!(client.map_any(ioas, BUFFER + 0x10, 4096), EINVAL, "map.natural-alignment");
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x800), EINVAL, "map.iova-alignment");
    // The order: length, IOVA, wrap, overlap, address.
    assert_refused!(client.map_at(ioas, BUFFER + 1, 100, 0x800), EINVAL, "map.length-alignment");
    assert_refused!(client.map_at(ioas, BUFFER + 1, 8192, u64::MAX - 4095), EOVERFLOW, "map.iova-wraps");
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    assert_refused!(client.map_at(ioas, BUFFER + 1, 4096, 0x1000), EEXIST, "map.overlap");
    client.close();
}

#[test]
fn b466_to_b468_memory_that_cannot_be_pinned() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    let before = client.state();
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x1000), EFAULT, "pin.fault");
    assert_eq!(client.state(), before);
    client.memory(BUFFER, 1, Layout::Scattered);
    assert_refused!(client.map_at(ioas, BUFFER, 8192, 0x1000), EFAULT, "pin.fault");
    host.ram(|ram| ram.protect(client.caller.task, BUFFER, false));
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x1000), EFAULT, "pin.fault");
    assert_eq!(client.map(ioas, READ | FIXED, BUFFER, 4096, 0x1000), Ok(0x1000));
    client.close();
}

#[test]
fn b470_to_b472_the_limit_of_locked_memory() {
    let host = TestHost::new();
    let (mut client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 256, Layout::Scattered);
    client.limit(16);
    let before = client.state();
    assert_refused!(client.map_at(ioas, BUFFER, pages(256), 0x1000), ENOMEM, "pin.limit");
    assert_eq!(client.state(), before);
    assert_eq!(client.map_at(ioas, BUFFER, 4096, 0x1000), Ok(0x1000));
    client.limit(0);
    client.caller.caps.ipc_lock = true;
    assert!(client.map_any(ioas, BUFFER, pages(256)).is_ok());
    client.close();
}

#[test]
fn b473_to_b475_pages_are_counted_once_for_each_map() {
    let host = TestHost::new();
    let (client, device, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 16, Layout::Scattered);
    client.map_any(ioas, BUFFER, pages(16)).unwrap();
    assert_eq!(client.pinned(), 16);
    client.map_any(ioas, BUFFER, pages(16)).unwrap();
    assert_eq!(client.pinned(), 32);
    client.detach(device);
    assert_eq!((client.pinned(), client.context.usage().areas), (0, 2));
    client.close();
}

#[test]
fn b476_to_b483_b678_to_b681_files() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let (memfd, odd, disk) = host.ram(|ram| {
        let memfd = ram.new_memfd(pages(512), Layout::Contiguous);
        (memfd, ram.new_memfd(4097, Layout::Scattered), ram.new_disk_file())
    });
    let [memfd_fd, odd_fd, disk_fd] =
        [memfd, odd, disk].map(|file| client.caller.install(Descriptor::File(file)));
    let event_fd = client.caller.install(Descriptor::Event(Default::default()));
    let ioas = client.ioas();
    assert_refused!(client.map_file(ioas, 99, 0, 4096), EBADF, "map-file.descriptor");
    assert_refused!(client.map_file(ioas, -1, 0, 4096), EBADF, "map-file.descriptor");
    assert_refused!(client.map_file(ioas, 99, 0, 0), EINVAL, "map.length");
    assert_refused!(client.map_file(ioas, 99, u64::MAX - 4095, 4096), EOVERFLOW, "map.source-wraps");
    assert_refused!(client.map_file(ioas, memfd_fd, 0, u64::MAX - 1), EINVAL, "map.length");
    assert_eq!(client.map_file(ioas, memfd_fd, 0, 2 << 20), Ok(0x20_0000));
    assert!(client.map_file(ioas, disk_fd, 0, 4096).is_ok(), "nothing is pinned, so nothing is asked");

    let device = client.bind();
    assert_refused!(client.attach(device, ioas), EINVAL, "pin.file");
    let ioas = client.ioas();
    client.attach(device, ioas).unwrap();
    let before = client.state();
    for (fd, start, length) in [(disk_fd, 0, 4096), (event_fd, 0, 4096), (odd_fd, 0, 8192)] {
        assert_refused!(client.map_file(ioas, fd, start, length), EINVAL, "pin.file");
    }
    assert_refused!(client.map_file(ioas, memfd_fd, pages(512), 4096), EINVAL, "pin.file");
    assert_refused!(client.map_file(ioas, memfd_fd, 100, 4096), EINVAL, "map.natural-alignment");
    let mut fixed = IommuIoasMapFile {
        flags: 7,
        ioas_id: ioas,
        fd: memfd_fd,
        start: 100,
        length: 4096,
        ..Command::new()
    };
    assert_refused!(client.call(&mut fixed), EINVAL, "map.source-alignment");
    assert_eq!(client.state(), before);
    assert!(client.map_file(ioas, odd_fd, 0, 4096).is_ok());
    let iova = client.map_file(ioas, memfd_fd, pages(3), pages(2)).unwrap();
    let expected = host.ram(|ram| ram.file_physical(memfd, pages(3)).unwrap());
    assert_eq!(client.physical(ioas, iova, u64::MAX), Ok((expected, pages(2))));
    client.close();
}

#[test]
fn b675_b676_the_offset_is_put_in_with_or() {
    let host = TestHost::new();
    let client = Client::new(&host);
    for (offset, iova) in [(0x10, 0x1070), (0x23, 0x1067)] {
        let ioas = client.ioas();
        client.map_at(ioas, BUFFER, 100, 0x1000).unwrap();
        assert_eq!(client.map_any(ioas, BUFFER + offset, 64), Ok(iova));
    }
    client.close();
}

#[test]
fn half_of_the_address_space_is_too_long_to_be_placed() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    assert_refused!(client.map_any(ioas, 0, u64::MAX / 2), EOVERFLOW, "map.too-long");
    assert_eq!(client.map_any(ioas, 0, u64::MAX / 2 - 1), Ok(0x20_0000));
    let ioas = client.ioas();
    assert_eq!(client.map_at(ioas, 0, u64::MAX / 2, 1 << 63), Ok(1 << 63));
    client.close();
}

#[test]
fn b682_b683_the_limit_in_rlimit_mode_1() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    client.option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, 0, 1).unwrap();
    let device = client.bind();
    let ioas = client.ioas();
    client.attach(device, ioas).unwrap();
    client.memory(BUFFER, 256, Layout::Scattered);
    client.limit(16);
    assert_refused!(client.map_any(ioas, BUFFER, pages(256)), ENOMEM, "pin.limit");
    client.caller.caps.ipc_lock = true;
    assert!(client.map_any(ioas, BUFFER, pages(256)).is_ok(), "the exemption stays");
    client.caller.caps.ipc_lock = false;
    client.map(ioas, READ_WRITE, BUFFER, pages(16), 0).unwrap();
    assert_eq!(host.ram(|ram| ram.process(client.caller.task).space), 16);
    client.close();
}
