//! UNMAP.

use crate::client::{BUFFER, Client, pages};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

#[test]
fn b484_to_b487_b686_whole_areas_only() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    client.map_at(ioas, BUFFER, 8192, 0x1000).unwrap();
    assert_refused!(client.unmap(ioas, 0x1000, 0x1000), ENOENT, "unmap.partial");
    assert_refused!(client.unmap(ioas, 0x2000, 0x1000), ENOENT, "unmap.partial");
    assert_refused!(client.unmap(ioas, 0x1001, 0x1fff), ENOENT, "unmap.partial");
    assert_eq!(client.unmap(ioas, 0x1000, 0x2000), Ok(0x2000));
    client.map_at(ioas, BUFFER, 4096, 0x2000).unwrap();
    assert_eq!(client.unmap(ioas, 0x1000, 0x3000), Ok(0x1000));
    client.close();
}

#[test]
fn b488_b489_areas_before_a_partial_one_are_gone() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    client.map_at(ioas, BUFFER, 8192, 0x2000).unwrap();
    assert_refused!(client.unmap(ioas, 0x1000, 0x2000), ENOENT, "unmap.partial");
    assert_eq!(client.map_at(ioas, BUFFER, 4096, 0x1000), Ok(0x1000));
    client.close();
}

#[test]
fn b490_to_b496_checks() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    assert_refused!(client.unmap(ioas, 0x1000, 0x1000), ENOENT, "unmap.nothing");
    assert_eq!(client.unmap(ioas, 0, u64::MAX), Ok(0));
    for iova in [0x1000, 0x5000, 0x20_0000] {
        client.map_at(ioas, BUFFER, iova, iova).unwrap();
    }
    assert_eq!(client.unmap(ioas, 0, u64::MAX), Ok(0x20_6000));
    assert_refused!(client.unmap(ioas, 0x1000, u64::MAX), EOVERFLOW, "unmap.limit");
    assert_refused!(client.unmap(ioas, u64::MAX, 1), EOVERFLOW, "unmap.limit");
    assert_refused!(client.unmap(ioas, 0x1000, 0), EINVAL, "unmap.length");
    assert_refused!(client.unmap(ioas, 0x1000, u64::MAX - 1), EOVERFLOW, "unmap.wraps");
    assert_refused!(client.unmap(99, 0x1000, 0), ENOENT, "ioas.unknown");
    client.close();
}

#[test]
fn the_last_page_of_the_address_space() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    let iova = u64::MAX - 4095;
    client.map_at(ioas, BUFFER, 4096, iova).unwrap();
    assert_eq!(client.unmap(ioas, iova, 4096), Ok(4096));
    client.map_at(ioas, BUFFER, 4096, iova).unwrap();
    assert_eq!(client.unmap(ioas, 0, u64::MAX), Ok(4096));
    client.close();
}

#[test]
fn b497_b498_pages_are_given_back() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 4, Layout::Scattered);
    let iova = client.map_any(ioas, BUFFER, pages(4)).unwrap();
    let physical = client.pagemap(BUFFER);
    assert!(host.may_reach(crate::client::FUNCTION, physical));
    assert_eq!(client.pinned(), 4);
    client.unmap(ioas, iova, pages(4)).unwrap();
    assert_refused!(client.physical(ioas, iova, 1), ENOENT, "get-pa.unmapped");
    assert!(!host.may_reach(crate::client::FUNCTION, physical));
    assert_eq!(client.pinned(), 0);
    client.close();
}
