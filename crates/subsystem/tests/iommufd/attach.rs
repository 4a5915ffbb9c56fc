//! Attaching and detaching devices, and page tables.

use subsystem::Function;
use subsystem::iommufd::Binding;
use uapi::iommufd::*;
use uapi::{Command, Errno};

use crate::client::{BUFFER, Client, FUNCTION, pages, refused};
use crate::support::host::{Descriptor, TestHost};
use crate::support::memory::Layout;

#[test]
fn b089_b094_to_b100_what_can_be_attached_to() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    let ioas = client.ioas();
    assert_eq!((device.id(), ioas), (1, 2));
    for id in [0, 3, 99] {
        assert_refused!(client.attach(device, id), ENOENT, "attach.unknown");
    }
    assert_refused!(client.attach(device, device.id()), EINVAL, "attach.type");
    assert_eq!(client.attach(device, ioas), Ok(3));
    assert_eq!(client.attach(device, ioas), Ok(3), "once more changes nothing");
    assert_eq!(client.attach(device, 3), Ok(3));
    client.close();
}

#[test]
fn b101_to_b103_replacing() {
    let host = TestHost::new();
    let (client, device, first, hwpt) = Client::attached(&host);
    let second = client.ioas();
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(first, BUFFER, 4096, 0x1000).unwrap();
    assert_refused!(client.attach(device, 99), ENOENT, "attach.unknown");
    assert!(client.physical(first, 0x1000, 1).is_ok(), "the attachment stays");
    client.map_at(second, 0xdead_0000, 4096, 0x1000).unwrap();
    assert_refused!(client.attach(device, second), EFAULT, "pin.fault");
    assert!(client.physical(first, 0x1000, 1).is_ok(), "the attachment stays");
    client.unmap(second, 0x1000, 4096).unwrap();
    assert_eq!(client.attach(device, second), Ok(5), "the new page table is made before the old one goes");
    assert_refused!(client.destroy(hwpt), ENOENT, "destroy.unknown");
    client.close();
}

#[test]
fn b105_to_b111_the_page_table_lives_as_long_as_a_device_is_attached() {
    let host = TestHost::new();
    let (client, device, ioas, hwpt) = Client::attached(&host);
    let other = client.context.bind(&host, Function(8), Binding::Noiommu).unwrap();
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    assert_eq!(client.attach(other, ioas), Ok(hwpt), "it is shared");
    client.detach(device);
    assert!(client.physical(ioas, 0x1000, 1).is_ok());
    assert_refused!(client.destroy(hwpt), EBUSY, "destroy.hwpt-in-use");
    assert_refused!(client.destroy(ioas), EBUSY, "destroy.ioas-in-use");
    client.detach(other);
    client.detach(other);
    assert_refused!(client.destroy(hwpt), ENOENT, "destroy.unknown");
    client.destroy(ioas).unwrap();
    client.close();
}

#[test]
fn b110_detaching_what_is_not_attached() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    let before = client.state();
    client.detach(device);
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn b116_to_b120_mappings_that_do_not_suit_a_page_table() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    client.memory(BUFFER, 2, Layout::Scattered);
    for (address, length, iova, errno, name) in [
        (0xdead_0000, 4096, 0x8000, Errno::EFAULT, "pin.fault"),
        (BUFFER, 100, 0x8000, Errno::EADDRINUSE, "attach.alignment"),
        (BUFFER, 4096, 0x8800, Errno::EADDRINUSE, "attach.alignment"),
        (BUFFER + 0x10, 4096, 0x8000, Errno::EADDRINUSE, "attach.alignment"),
    ] {
        let ioas = client.ioas();
        client.map_at(ioas, BUFFER, pages(2), 0).unwrap();
        client.map_at(ioas, address, length, iova).unwrap();
        let before = client.state();
        let rule = refused(client.attach(device, ioas));
        assert_eq!((rule.errno, rule.name), (errno, name));
        assert_eq!(client.state(), before);
        client.destroy(ioas).expect("nothing was left linked");
    }
    client.close();
}

#[test]
fn b121_the_limit_of_locked_memory() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    let device = client.bind();
    let ioas = client.ioas();
    client.memory(BUFFER, 17, Layout::Scattered);
    client.limit(16);
    client.map_any(ioas, BUFFER, pages(17)).unwrap();
    let before = client.state();
    assert_refused!(client.attach(device, ioas), ENOMEM, "pin.limit");
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn b122_nothing_is_reserved() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    let ioas = client.ioas();
    client.allow(ioas, &[(0xfee0_0000, 0xfeef_ffff)]).unwrap();
    assert!(client.attach(device, ioas).is_ok());
    client.close();
}

#[test]
fn b579_b581_unbinding_leaves_ioas_and_areas() {
    let host = TestHost::new();
    let (client, device, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 4, Layout::Scattered);
    client.map_any(ioas, BUFFER, pages(4)).unwrap();
    client.context.unbind(&host, device);
    assert_eq!((client.pinned(), client.context.usage().areas), (0, 1));
    assert!(!host.may_reach(FUNCTION, client.pagemap(BUFFER)));
    assert_refused!(client.attach(device, ioas), EINVAL, "attach.unbound");
    let device = client.bind();
    assert!(client.attach(device, ioas).is_ok());
    assert_eq!(client.pinned(), 4);
    client.close();
}

#[test]
fn a_page_table_made_by_hand_outlives_the_device() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    let ioas = client.ioas();
    client.memory(BUFFER, 4, Layout::Scattered);
    client.map_at(ioas, BUFFER, pages(4), 0x1000).unwrap();
    let hwpt = client.hwpt(device, ioas).unwrap();
    assert_eq!((client.pinned(), client.alignment(ioas)), (4, 4096));
    let auto = client.attach(device, ioas).unwrap();
    assert_ne!(auto, hwpt, "one made by hand is not picked for an IOAS");
    assert_eq!(client.attach(device, hwpt), Ok(hwpt));
    assert_refused!(client.destroy(auto), ENOENT, "destroy.unknown");
    assert_refused!(client.destroy(hwpt), EBUSY, "destroy.hwpt-in-use");
    client.context.unbind(&host, device);
    assert!(client.physical(ioas, 0x1000, 1).is_ok());
    assert_eq!(client.pinned(), 4);
    assert_refused!(client.destroy(ioas), EBUSY, "destroy.ioas-in-use");
    client.destroy(hwpt).unwrap();
    assert_eq!(client.pinned(), 0);
    client.close();
}

#[test]
fn what_hwpt_alloc_refuses() {
    let host = TestHost::new();
    let (client, device, ioas, hwpt) = Client::attached(&host);
    let before = client.state();
    let good = IommuHwptAlloc { dev_id: device.id(), pt_id: ioas, ..Command::new() };
    let call = |argument: IommuHwptAlloc| client.call(&mut argument.clone());
    assert_refused!(call(IommuHwptAlloc { reserved: 1, ..good }), EOPNOTSUPP, "hwpt-alloc.reserved");
    assert_refused!(call(IommuHwptAlloc { data_len: 1, ..good }), EINVAL, "hwpt-alloc.data");
    assert_refused!(call(IommuHwptAlloc { data_type: 1, ..good }), EINVAL, "hwpt-alloc.data");
    assert_refused!(call(IommuHwptAlloc { dev_id: ioas, ..good }), ENOENT, "hwpt-alloc.device");
    assert_refused!(call(IommuHwptAlloc { pt_id: 99, ..good }), EINVAL, "hwpt-alloc.parent");
    assert_refused!(call(IommuHwptAlloc { pt_id: device.id(), ..good }), EINVAL, "hwpt-alloc.parent");
    assert_refused!(call(IommuHwptAlloc { pt_id: hwpt, ..good }), EOPNOTSUPP, "hwpt-alloc.nested");
    for flags in [1, 2, 8, 16] {
        assert_refused!(call(IommuHwptAlloc { flags, ..good }), EOPNOTSUPP, "hwpt-alloc.flags-noiommu");
    }
    assert_refused!(
        call(IommuHwptAlloc { data_type: 1, data_len: 8, ..good }),
        EOPNOTSUPP,
        "hwpt-alloc.flags-noiommu"
    );
    assert_refused!(call(IommuHwptAlloc { flags: 4, ..good }), ENOENT, "hwpt-alloc.fault-queue");
    assert_eq!(client.state(), before);
    assert!(call(IommuHwptAlloc { size: 24, ..good }).is_ok(), "the short form of the argument");
    client.close();
}

#[test]
fn change_of_process() {
    let host = TestHost::new();
    let (mut client, _, ioas, _) = Client::attached(&host);
    let file = host.ram(|ram| ram.new_memfd(pages(8), Layout::Scattered));
    let fd = client.caller.install(Descriptor::File(file));
    let change = |client: &Client<'_>| client.call(&mut IommuIoasChangeProcess::new());
    let mut reserved = IommuIoasChangeProcess { reserved: 1, ..Command::new() };
    assert_refused!(client.call(&mut reserved), EOPNOTSUPP, "change-process.reserved");
    assert!(change(&client).is_ok(), "nothing is mapped");
    client.limit(100);
    client.map_file(ioas, fd, 0, pages(8)).unwrap();
    let old = client.caller.task;
    let mut other = Client::new(&host);
    other.limit(4);
    std::mem::swap(&mut client.caller, &mut other.caller);
    let before = client.state();
    assert_refused!(change(&client), ENOMEM, "pin.limit");
    assert_eq!(client.state(), before);
    client.limit(100);
    change(&client).unwrap();
    assert_eq!(host.ram(|ram| (ram.process(old).user, ram.process(old).holders)), (0, 0));
    assert_eq!(client.pinned(), 8);
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0).unwrap();
    assert_refused!(change(&client), EINVAL, "change-process.user");
    other.context.close(&host);
    client.close();
}
