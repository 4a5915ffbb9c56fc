//! Identifiers, destruction and the end of a context.

use subsystem::iommufd::Binding;
use uapi::Command;
use uapi::iommufd::*;

use crate::client::{BUFFER, Client, FUNCTION, pages};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

#[test]
fn b383_b384_the_lowest_free_id_first() {
    let host = TestHost::new();
    let client = Client::new(&host);
    assert_eq!([client.ioas(), client.ioas(), client.ioas()], [1, 2, 3]);
    client.destroy(2).unwrap();
    assert_eq!(client.ioas(), 2);
    client.close();
}

#[test]
fn b385_to_b388_destroying_what_is_not_there() {
    let host = TestHost::new();
    let client = Client::new(&host);
    for id in [0, 99, u32::MAX] {
        assert_refused!(client.destroy(id), ENOENT, "destroy.unknown");
    }
    let ioas = client.ioas();
    client.destroy(ioas).unwrap();
    assert_refused!(client.destroy(ioas), ENOENT, "destroy.unknown");
    client.close();
}

#[test]
fn b389_mappings_do_not_keep_an_ioas() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    client.map_any(ioas, BUFFER, pages(4)).unwrap();
    client.destroy(ioas).unwrap();
    assert_eq!(client.context.usage(), Default::default());
    client.close();
}

#[test]
fn b390_a_refused_allocation_takes_no_id() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let mut argument = IommuIoasAlloc { flags: 1, ..Command::new() };
    assert_refused!(client.call(&mut argument), EOPNOTSUPP, "ioas-alloc.flags");
    assert_eq!(client.ioas(), 1);
    client.close();
}

#[test]
fn b398_closing_a_context_gives_everything_back() {
    let host = TestHost::new();
    let (client, _, ioas, _) = Client::attached(&host);
    client.memory(BUFFER, 16, Layout::Scattered);
    let iova = client.map_any(ioas, BUFFER, pages(16)).unwrap();
    let other = client.ioas();
    client.copy_at((ioas, iova), pages(2), (other, pages(5))).unwrap();
    assert_eq!(client.pinned(), 16);
    client.close();
}

#[test]
fn b058_b059_a_device_takes_the_lowest_free_id_too() {
    let host = TestHost::new();
    let client = Client::new(&host);
    assert_eq!(client.bind().id(), 1);
    assert_eq!(client.context.bind(&host, subsystem::Function(8), Binding::Noiommu).unwrap().id(), 2);
    client.close();

    let client = Client::new(&host);
    assert_eq!(client.ioas(), 1);
    assert_eq!(client.bind().id(), 2);
    client.close();
}

#[test]
fn b073_b074_a_device_object_lives_as_long_as_it_is_bound() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let device = client.bind();
    assert_refused!(client.destroy(device.id()), EBUSY, "destroy.device");
    client.context.unbind(&host, device);
    assert_refused!(client.destroy(device.id()), ENOENT, "destroy.unknown");
    client.close();
}

/// Regression, with every allocation failing in turn: a bind that answers has made the object that attaching needs; one that is refused has made nothing.
#[test]
fn regression_a_bound_device_can_always_be_attached() {
    let host = TestHost::new();
    for n in 0.. {
        let client = Client::new(&host);
        let ioas = client.ioas();
        let before = client.state();
        host.fail_allocation(Some(n));
        let bound = client.context.bind(&host, FUNCTION, Binding::Noiommu);
        let failed = host.has_failed();
        host.fail_allocation(None);
        match bound {
            Ok(device) => {
                assert!(client.attach(device, ioas).is_ok());
                assert_refused!(client.destroy(device.id()), EBUSY, "destroy.device");
            }
            Err(refusal) => {
                assert!(failed);
                assert_refused!(Err::<(), _>(refusal), ENOMEM, "iommufd.no-memory");
                assert_eq!(client.state(), before);
            }
        }
        client.close();
        if !failed {
            return;
        }
    }
}
