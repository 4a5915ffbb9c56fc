//! IOAS_NOIOMMU_GET_PA.

use subsystem::iommufd::Binding;
use uapi::Command;
use uapi::iommufd::*;
use zerocopy::IntoBytes;

use crate::client::{BUFFER, Client, FIXED, READ, pages};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

const HUGE: u64 = 2 << 20;

#[test]
fn b514_to_b524_b689_b690_checks() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    let ioas = client.ioas();
    let device = client.bind().id();
    let get = |client: &Client<'_>, flags, reserved, ioas_id, iova, length| {
        client.call(&mut IommuIoasNoiommuGetPa { flags, reserved, ioas_id, iova, length, ..Command::new() })
    };
    assert_refused!(get(&client, 1, 0, ioas, 0, 1), EOPNOTSUPP, "get-pa.flags");
    assert_refused!(get(&client, 0, 1, ioas, 0, 1), EOPNOTSUPP, "get-pa.flags");
    assert_refused!(get(&client, 1, 0, ioas, 0, 0), EOPNOTSUPP, "get-pa.flags");
    assert_refused!(get(&client, 0, 0, ioas, 0, 0), EINVAL, "get-pa.length");
    assert_refused!(get(&client, 0, 0, ioas, u64::MAX, 0), EINVAL, "get-pa.length");
    assert_refused!(get(&client, 0, 0, ioas, u64::MAX, 1), EOVERFLOW, "get-pa.limit");
    assert_refused!(get(&client, 0, 0, 99, 0, 1), ENOENT, "ioas.unknown");
    assert_refused!(get(&client, 0, 0, 99, 0, 0), EINVAL, "get-pa.length");
    assert_refused!(get(&client, 0, 0, device, 0, 1), ENOENT, "ioas.unknown");
    assert_refused!(get(&client, 0, 0, ioas, 0x1000, 1), ENOENT, "get-pa.unmapped");
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    assert_refused!(get(&client, 0, 0, ioas, 0x1000, 1), EOPNOTSUPP, "get-pa.no-page-table");
    client.caller.caps.sys_rawio = false;
    assert_refused!(get(&client, 1, 0, ioas, 0, 0), EPERM, "get-pa.rawio");
    client.close();
}

#[test]
fn b525_to_b528_b535_one_page() {
    let host = TestHost::new();
    let (client, _, ioas, hwpt) = Client::attached(&host);
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    let page = client.pagemap(BUFFER);
    assert_eq!(client.physical(ioas, 0x1000, 4096), Ok((page, 4096)));
    assert_eq!(client.physical(ioas, 0x1234, 1), Ok((page + 0x234, 1)));
    assert_eq!(client.physical(ioas, 0x1800, 0x1_0000), Ok((page + 0x800, 0x800)));
    assert_eq!(client.physical(ioas, 0x1fff, 16), Ok((page + 0xfff, 1)));
    assert_refused!(client.physical(ioas, 0x2000, 1), ENOENT, "get-pa.unmapped");
    assert_refused!(client.physical(ioas, 0xfff, 1), ENOENT, "get-pa.unmapped");
    assert_refused!(client.physical(hwpt, 0x1000, 1), ENOENT, "ioas.unknown");
    client.close();
}

#[test]
fn b529_to_b532_b541_a_huge_page() {
    let host = TestHost::new();
    let (client, device, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, HUGE / 4096, Layout::Contiguous);
    let iova = client.map_any(ioas, BUFFER, HUGE).unwrap();
    let start = client.pagemap(BUFFER);
    assert_eq!(client.physical(ioas, iova, HUGE), Ok((start, HUGE)));
    assert_eq!(client.physical(ioas, iova, 0x3000), Ok((start, 0x3000)));
    assert_eq!(client.physical(ioas, iova + 0x800, HUGE), Ok((start + 0x800, 0x1f_f800)));
    assert_eq!(client.physical(ioas, iova, u64::MAX - 1), Ok((start, HUGE)));
    client.detach(device);
    client.option(IOMMU_OPTION_HUGE_PAGES, IOMMU_OPTION_OP_SET, ioas, 0).unwrap();
    client.attach(device, ioas).unwrap();
    assert_eq!(client.physical(ioas, iova, HUGE), Ok((start, HUGE)));
    client.close();
}

#[test]
fn b533_scattered_pages() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 2, Layout::Contiguous);
    client.memory(BUFFER + pages(2), 3, Layout::Scattered);
    let iova = client.map_any(ioas, BUFFER, pages(5)).unwrap();
    assert_eq!(client.physical(ioas, iova, pages(5)), Ok((client.pagemap(BUFFER), pages(2))));
    let third = client.pagemap(BUFFER + pages(2));
    assert_eq!(client.physical(ioas, iova + pages(2) + 5, pages(5)), Ok((third + 5, 4096 - 5)));
    client.close();
}

#[test]
fn b534_an_answer_never_crosses_an_area() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 8, Layout::Contiguous);
    client.map_at(ioas, BUFFER, pages(3), 0x1_0000).unwrap();
    client.map_at(ioas, BUFFER + pages(3), pages(5), 0x1_3000).unwrap();
    assert_eq!(client.physical(ioas, 0x1_0000, pages(8)), Ok((client.pagemap(BUFFER), pages(3))));
    // Also where the two areas are slices of one record.
    let dst = client.ioas();
    let device = client.context.bind(&host, subsystem::Function(8), Binding::Noiommu).unwrap();
    client.attach(device, dst).unwrap();
    client.copy_at((ioas, 0x1_3000), pages(2), (dst, 0x1000)).unwrap();
    client.copy_at((ioas, 0x1_5000), pages(2), (dst, 0x3000)).unwrap();
    assert_eq!(client.physical(dst, 0x1000, pages(8)).unwrap().1, pages(2));
    client.close();
}

#[test]
fn b536_a_failed_query_leaves_the_argument_alone() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    let query = IommuIoasNoiommuGetPa { ioas_id: ioas, iova: 3, length: 5, out_phys: 7, ..Command::new() };
    let mut argument = query;
    assert_refused!(client.call(&mut argument), ENOENT, "get-pa.unmapped");
    assert_eq!(argument, query);
    client.close();
}

#[test]
fn b537_to_b540_it_works_while_there_is_a_page_table() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let (first, second) = (client.ioas(), client.ioas());
    let device = client.bind();
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(first, BUFFER, 4096, 0x1000).unwrap();
    client.attach(device, first).unwrap();
    assert!(client.physical(first, 0x1000, 1).is_ok());
    client.detach(device);
    assert_refused!(client.physical(first, 0x1000, 1), EOPNOTSUPP, "get-pa.no-page-table");
    client.attach(device, first).unwrap();
    assert!(client.physical(first, 0x1000, 1).is_ok());
    client.attach(device, second).unwrap();
    assert_refused!(client.physical(first, 0x1000, 1), EOPNOTSUPP, "get-pa.no-page-table");
    client.close();
}

#[test]
fn b542_b543_b691_b692_rights_and_ends_do_not_matter() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 2, Layout::Scattered);
    client.map(ioas, IOMMU_IOAS_MAP_WRITEABLE | FIXED, BUFFER, 4096, 0x1000).unwrap();
    client.map(ioas, READ | FIXED, BUFFER, 4096, 0).unwrap();
    client.map_at(ioas, BUFFER, 4096, u64::MAX - 4095).unwrap();
    let page = client.pagemap(BUFFER);
    assert_eq!(client.physical(ioas, 0x1000, 4096), Ok((page, 4096)));
    assert_eq!(client.physical(ioas, 0, 4096), Ok((page, 4096)));
    assert_eq!(client.physical(ioas, u64::MAX - 1, 1), Ok((page + 4094, 1)));
    assert_eq!(client.physical(ioas, u64::MAX - 4095, u64::MAX), Ok((page, 4096)));
    client.close();
}

#[test]
fn b687_b688_a_longer_argument() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    let query = IommuIoasNoiommuGetPa { size: 48, ioas_id: ioas, iova: 0x1000, length: 1, ..Command::new() };
    let mut bytes = [query.as_bytes(), &[0; 8]].concat();
    assert!(client.raw(IOMMU_IOAS_NOIOMMU_GET_PA, &mut bytes).is_ok());
    assert_eq!(bytes[32..40], client.pagemap(BUFFER).to_le_bytes());
    bytes[47] = 1;
    assert_refused!(client.raw(IOMMU_IOAS_NOIOMMU_GET_PA, &mut bytes), E2BIG, "iommufd.argument-tail");
    client.close();
}

#[test]
fn b693_memory_that_the_process_gave_up_stays_where_it_is() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    let before = client.physical(ioas, 0x1000, 1);
    host.ram(|ram| ram.unmap(client.caller.task, BUFFER, 1));
    assert_eq!(client.physical(ioas, 0x1000, 1), before);
    client.close();
}
