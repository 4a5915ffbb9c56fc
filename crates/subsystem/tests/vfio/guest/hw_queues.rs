//! Queues of the hardware.

use super::*;
use crate::client::{assert_refused, state};

#[test]
fn what_a_queue_is_made_from() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    assert_refused!(guest.hw_queue(viommu, 0, IOVA, 4096), ENOENT, "access.unmapped");
    guest.map_memory(4, Layout::Scattered);
    let before = state(&vfio);
    let good = IommuHwQueueAlloc {
        viommu_id: viommu,
        type_: IOMMU_HW_QUEUE_TYPE_SELFTEST,
        nesting_parent_iova: IOVA,
        length: 4096,
        ..Command::new()
    };
    let alloc = |argument: IommuHwQueueAlloc| guest.call(&mut { argument });
    assert_refused!(alloc(IommuHwQueueAlloc { flags: 1, ..good }), EOPNOTSUPP, "hw-queue.fields");
    assert_refused!(alloc(IommuHwQueueAlloc { type_: 0, ..good }), EOPNOTSUPP, "hw-queue.fields");
    assert_refused!(alloc(IommuHwQueueAlloc { length: 0, ..good }), EINVAL, "hw-queue.length");
    let end = IommuHwQueueAlloc { nesting_parent_iova: u64::MAX, ..good };
    assert_refused!(alloc(end), EOVERFLOW, "hw-queue.wraps");
    let all = IommuHwQueueAlloc { nesting_parent_iova: 0, length: u64::MAX, ..good };
    assert_refused!(alloc(all), ERANGE, "hw-queue.too-long");
    assert_refused!(alloc(IommuHwQueueAlloc { viommu_id: 99, ..good }), ENOENT, "viommu.unknown");
    assert_refused!(alloc(IommuHwQueueAlloc { type_: 1, ..good }), EOPNOTSUPP, "hw-queue.unsupported");
    assert_refused!(guest.hw_queue(viommu, 0, IOVA, 8192), EFAULT, "hw-queue.scattered");
    assert_refused!(guest.hw_queue(viommu, 0, IOVA + 100, 4096), EFAULT, "hw-queue.scattered");
    assert_refused!(guest.hw_queue(viommu, 0, IOVA + 3 * 4096, 8192), ENOENT, "access.unmapped");
    assert_refused!(guest.hw_queue(viommu, 2, IOVA, 4096), EINVAL, "test.queue-index");
    assert_refused!(guest.hw_queue(viommu, 1, IOVA, 4096), EIO, "test.queue-order");
    assert_eq!(state(&vfio), before);
    guest.close(&[]);
}

#[test]
fn its_memory_is_not_unmapped() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    guest.map_memory(4, Layout::Contiguous);
    let queue = guest.hw_queue(viommu, 0, IOVA + 2048, 4096).unwrap();
    assert_refused!(guest.hw_queue(viommu, 0, IOVA, 4096), EEXIST, "test.queue-twice");
    assert_refused!(guest.unmap(IOVA, 4 * 4096), EBUSY, "unmap.kept");
    assert_refused!(guest.unmap(IOVA, 4096), EBUSY, "unmap.kept");
    assert_refused!(guest.unmap(0, u64::MAX), EBUSY, "unmap.kept");
    assert_refused!(guest.destroy(viommu), EBUSY, "destroy.viommu-in-use");
    assert_refused!(guest.destroy(queue + 1), EBUSY, "destroy.device");
    guest.destroy(queue).unwrap();
    assert_refused!(guest.destroy(queue + 1), ENOENT, "destroy.unknown");
    guest.unmap(IOVA, 4 * 4096).unwrap();
    guest.destroy(viommu).unwrap();
    guest.close(&[]);
}

#[test]
fn the_first_one_goes_last() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    guest.map_memory(1, Layout::Contiguous);
    let first = guest.hw_queue(viommu, 0, IOVA, 2048).unwrap();
    let second = guest.hw_queue(viommu, 1, IOVA + 2048, 2048).unwrap();
    assert_refused!(guest.destroy(first), EBUSY, "destroy.hw-queue-in-use");
    guest.destroy(second).unwrap();
    assert_refused!(guest.unmap(IOVA, 4096), EBUSY, "unmap.kept");
    guest.destroy(first).unwrap();
    guest.unmap(IOVA, 4096).unwrap();
    guest.close(&[]);
}

#[test]
fn a_context_is_closed_with_queues_at_work() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    guest.map_memory(1, Layout::Contiguous);
    guest.hw_queue(viommu, 0, IOVA, 4096).unwrap();
    guest.hw_queue(viommu, 1, IOVA, 4096).unwrap();
    guest.close(&[]);
}
