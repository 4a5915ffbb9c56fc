//! Several threads work on one context.

use std::thread;
use subsystem::iommufd::Binding;

use subsystem::Function;

use crate::client::{BEHIND_IOMMU, BUFFER, Client, pages};
use crate::support::host::TestHost;
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

const ROUNDS: u64 = 300;

/// Maps, asks, copies and unmaps in IOVAs of its own, in both IOASes.
fn work(client: &Client<'_>, number: u64, [first, second]: [u32; 2]) {
    client.memory(BUFFER, 8, Layout::Scattered);
    let iova = number << 32;
    for round in 0..ROUNDS {
        client.map_at(first, BUFFER, pages(8), iova).unwrap();
        // Whether there is a page table at this moment is up to the other thread.
        if let Ok((physical, length)) = client.physical(first, iova + pages(round % 8), 100) {
            assert_eq!((physical, length), (client.pagemap(BUFFER + pages(round % 8)), 100));
        }
        client.copy_at((first, iova + pages(round % 5)), pages(3), (second, iova)).unwrap();
        assert_eq!(client.unmap(first, iova, pages(8)), Ok(pages(8)));
        assert_eq!(client.unmap(second, iova, pages(3)), Ok(pages(3)));
    }
}

/// Attaches and detaches a device, and makes and destroys objects.
fn disturb(client: &Client<'_>, (function, binding): (Function, Binding), [first, second]: [u32; 2]) {
    for round in 0..ROUNDS {
        let device = client.context.bind(client.host, function, binding).unwrap();
        client.attach(device, if round % 2 == 0 { first } else { second }).unwrap();
        let ioas = client.ioas();
        client.attach(device, ioas).unwrap();
        client.context.unbind(client.host, device);
        client.destroy(ioas).unwrap();
    }
}

#[test]
fn nothing_is_lost_between_threads() {
    let host = TestHost::new();
    host.put_behind(Function(4), IOMMU);
    let client = Client::new(&host);
    let spaces = [client.ioas(), client.ioas()];
    thread::scope(|scope| {
        for number in 1..=3 {
            let client = client.sharing();
            scope.spawn(move || work(&client, number, spaces));
        }
        for device in [(Function(3), Binding::Noiommu), (Function(4), BEHIND_IOMMU)] {
            let client = client.sharing();
            scope.spawn(move || disturb(&client, device, spaces));
        }
    });
    let usage = client.context.usage();
    assert_eq!((usage.objects, usage.areas, usage.pages), (2, 0, 0));
    client.close();
}
