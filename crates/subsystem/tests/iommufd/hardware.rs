//! What only an IOMMU could do.

use uapi::Command;
use uapi::iommufd::*;

use crate::client::Client;
use crate::support::host::TestHost;

/// Runs `f` with a device attached, and checks that it changes nothing.
fn unchanged(f: impl FnOnce(&Client<'_>, u32, u32)) {
    let host = TestHost::new();
    let (client, device, _, hwpt) = Client::attached(&host);
    let before = client.state();
    f(&client, device.id(), hwpt);
    assert_eq!(client.state(), before);
    client.close();
}

#[test]
fn hardware_information() {
    unchanged(|client, device, hwpt| {
        let info = |flags, dev_id| client.call(&mut IommuHwInfo { flags, dev_id, ..Command::new() });
        assert_refused!(info(0, device), EOPNOTSUPP, "hw-info.noiommu");
        assert_refused!(info(1, device), EOPNOTSUPP, "hw-info.noiommu");
        assert_refused!(info(0, hwpt), ENOENT, "hw-info.device");
        assert_refused!(info(2, hwpt), EOPNOTSUPP, "hw-info.fields");
        let mut reserved = IommuHwInfo { reserved: [0, 0, 1], ..Command::new() };
        assert_refused!(client.call(&mut reserved), EOPNOTSUPP, "hw-info.fields");
    });
}

#[test]
fn dirty_pages() {
    unchanged(|client, device, hwpt| {
        let track =
            |flags, hwpt_id| client.call(&mut IommuHwptSetDirtyTracking { flags, hwpt_id, ..Command::new() });
        assert_refused!(track(1, hwpt), EOPNOTSUPP, "dirty.unsupported");
        assert_refused!(track(1, device), ENOENT, "hwpt.unknown");
        assert_refused!(track(2, device), EOPNOTSUPP, "dirty.fields");
        let bitmap = |flags, hwpt_id, iova, length, page_size| {
            client.call(&mut IommuHwptGetDirtyBitmap {
                flags,
                hwpt_id,
                iova,
                length,
                page_size,
                ..Command::new()
            })
        };
        assert_refused!(bitmap(2, 99, 0, 0, 0), EOPNOTSUPP, "dirty.fields");
        assert_refused!(bitmap(0, 99, 0, 0, 0), ENOENT, "hwpt.unknown");
        assert_refused!(bitmap(0, hwpt, 0, 0, 0), EINVAL, "dirty.length");
        assert_refused!(bitmap(0, hwpt, 4096, u64::MAX, 0), EOVERFLOW, "dirty.wraps");
        assert_refused!(bitmap(0, hwpt, 100, 4096, 4096), EINVAL, "dirty.alignment");
        assert_refused!(bitmap(0, hwpt, 4096, 4096, 0), EINVAL, "dirty.alignment");
        assert_refused!(bitmap(0, hwpt, 4096, 8192, 4096), EOPNOTSUPP, "dirty.unsupported");
    });
}

#[test]
fn invalidation_says_that_nothing_was_done() {
    unchanged(|client, _, hwpt| {
        for (argument, errno, name) in [
            (
                IommuHwptInvalidate { reserved: 1, ..Command::new() },
                uapi::Errno::EOPNOTSUPP,
                "invalidate.reserved",
            ),
            (IommuHwptInvalidate { hwpt_id: 99, ..Command::new() }, uapi::Errno::EINVAL, "invalidate.array"),
        ] {
            let mut argument = IommuHwptInvalidate { entry_num: 3, ..argument };
            let rule = crate::client::refused(client.call(&mut argument));
            assert_eq!((rule.errno, rule.name, argument.entry_num), (errno, name, 0));
        }
        let invalidate = |hwpt_id| client.call(&mut IommuHwptInvalidate { hwpt_id, ..Command::new() });
        assert_refused!(invalidate(99), ENOENT, "invalidate.unknown");
        assert_refused!(invalidate(hwpt), EINVAL, "invalidate.type");
    });
}

#[test]
fn virtual_iommus_and_their_queues() {
    unchanged(|client, dev_id, hwpt_id| {
        let viommu =
            |type_, dev_id| client.call(&mut IommuViommuAlloc { type_, dev_id, hwpt_id, ..Command::new() });
        assert_refused!(viommu(0, dev_id), EOPNOTSUPP, "viommu.fields");
        assert_refused!(viommu(1, hwpt_id), ENOENT, "viommu.device");
        assert_refused!(viommu(1, dev_id), EOPNOTSUPP, "viommu.unsupported");
        let mut vdevice = IommuVdeviceAlloc { viommu_id: hwpt_id, dev_id, ..Command::new() };
        assert_refused!(client.call(&mut vdevice), ENOENT, "viommu.unknown");
        let queue = |type_, nesting_parent_iova, length| {
            client.call(&mut IommuHwQueueAlloc { type_, nesting_parent_iova, length, ..Command::new() })
        };
        assert_refused!(queue(0, 0, 0), EOPNOTSUPP, "hw-queue.fields");
        assert_refused!(queue(1, 0, 0), EINVAL, "hw-queue.length");
        assert_refused!(queue(1, 4096, u64::MAX), EOVERFLOW, "hw-queue.wraps");
        assert_refused!(queue(1, 0, 4096), ENOENT, "viommu.unknown");
    });
}
