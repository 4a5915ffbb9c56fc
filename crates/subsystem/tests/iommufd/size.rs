//! The size rule, and commands that are none.

use subsystem::UserMemory;
use uapi::Command;
use uapi::iommufd::*;
use zerocopy::IntoBytes;

use crate::client::Client;
use crate::support::host::{ARGUMENT, TestHost};

/// The argument of IOAS_ALLOC with a stated size, in `length` bytes.
fn alloc(size: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    bytes
}

#[test]
fn b367_to_b370_the_size_rule() {
    let host = TestHost::new();
    let client = Client::new(&host);
    assert_refused!(client.raw(IOMMU_IOAS_ALLOC, &mut alloc(11, 12)), EINVAL, "iommufd.argument-too-small");
    assert!(client.raw(IOMMU_IOAS_ALLOC, &mut alloc(12, 12)).is_ok());
    assert!(client.raw(IOMMU_IOAS_ALLOC, &mut alloc(64, 64)).is_ok());
    for dirty in [12, 13, 40, 63] {
        let mut bytes = alloc(64, 64);
        bytes[dirty] = 1;
        assert_refused!(client.raw(IOMMU_IOAS_ALLOC, &mut bytes), E2BIG, "iommufd.argument-tail");
    }
    client.close();
}

#[test]
fn b371_an_argument_that_cannot_be_read() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let call = |command, argument| client.context.ioctl(&host, &client.caller.ctx(), command, argument);
    assert_refused!(call(IOMMU_IOAS_ALLOC, 0), EFAULT, "iommufd.argument-unreadable");
    assert_refused!(call(IOMMU_IOAS_ALLOC, u64::MAX), EFAULT, "iommufd.argument-unreadable");
    // Even where only the upper bits of the command are wrong, the argument is looked at first.
    assert_refused!(call(IOMMU_IOAS_ALLOC | 0xc000_0000, 0), EFAULT, "iommufd.argument-unreadable");
    client.close();
}

#[test]
fn the_first_byte_of_a_tail_that_is_wrong_decides() {
    let host = TestHost::new();
    let client = Client::new(&host);
    // The known part ends with the page; the tail is not there.
    let at = ARGUMENT + 4096 - 12;
    let call = |size| {
        client.caller.write(at, &alloc(size, 12)).unwrap();
        client.context.ioctl(&host, &client.caller.ctx(), IOMMU_IOAS_ALLOC, at)
    };
    assert!(call(12).is_ok());
    assert_refused!(call(13), EFAULT, "iommufd.argument-unreadable");
    assert_refused!(call(u32::MAX), EFAULT, "iommufd.argument-unreadable");
    // A byte that is not zero before the end of the page is seen before the page that is missing.
    let at = at - 8;
    client.caller.write(at, &alloc(4096, 12)).unwrap();
    client.caller.write(at + 12, &[0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
    let result = client.context.ioctl(&host, &client.caller.ctx(), IOMMU_IOAS_ALLOC, at);
    assert_refused!(result, E2BIG, "iommufd.argument-tail");
    client.close();
}

#[test]
fn b372_to_b374_commands_that_are_none() {
    let host = TestHost::new();
    let client = Client::new(&host);
    for command in [0x3b96, 0x3b7f, 0x3bff, 0, IOMMU_IOAS_ALLOC | 0xc000_0000, IOMMU_IOAS_ALLOC & 0xff] {
        assert_refused!(client.raw(command, &mut alloc(12, 12)), ENOTTY, "iommufd.unknown-command");
    }
    client.close();
}

#[test]
fn b377_b379_the_size_comes_before_the_capability() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    let mut small = IommuIoasNoiommuGetPa { size: 39, ..Command::new() };
    assert_refused!(client.call(&mut small), EINVAL, "iommufd.argument-too-small");
    client.caller.caps.sys_rawio = false;
    assert_refused!(client.call(&mut small), EINVAL, "iommufd.argument-too-small");
    client.close();
}

#[test]
fn b667_a_failed_call_leaves_the_argument_alone() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    let map = IommuIoasMap { ioas_id: ioas, flags: 6, user_va: 3, iova: 5, ..Command::new() };
    let mut argument = map;
    assert_refused!(client.call(&mut argument), EINVAL, "map.length");
    assert_eq!(argument, map);
    let unmap = IommuIoasUnmap { ioas_id: ioas, iova: 5, length: 7, ..Command::new() };
    let mut argument = unmap;
    assert_refused!(client.call(&mut argument), ENOENT, "unmap.nothing");
    assert_eq!(argument, unmap);
    client.close();
}

#[test]
fn a_reply_that_cannot_be_written_undoes_an_allocation_but_not_a_map() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let read_only = 0x9000;
    host.ram(|ram| {
        ram.map(client.caller.task, read_only, 1, crate::support::memory::Layout::Scattered, true);
    });
    let call = |command, bytes: &[u8]| {
        host.ram(|ram| ram.protect(client.caller.task, read_only, true));
        client.caller.write(read_only, bytes).unwrap();
        host.ram(|ram| ram.protect(client.caller.task, read_only, false));
        client.context.ioctl(&host, &client.caller.ctx(), command, read_only)
    };
    let before = client.state();
    let alloc = call(IOMMU_IOAS_ALLOC, IommuIoasAlloc::new().as_bytes());
    assert_refused!(alloc, EFAULT, "iommufd.argument-unwritable");
    assert_eq!(client.state(), before);
    let ioas_id = client.ioas();
    assert_eq!(ioas_id, 1, "the id was given back");
    let map = IommuIoasMap { ioas_id, flags: 6, length: 4096, ..Command::new() };
    assert_refused!(call(IOMMU_IOAS_MAP, map.as_bytes()), EFAULT, "iommufd.argument-unwritable");
    assert_eq!(client.context.usage().areas, 1);
    client.close();
}
