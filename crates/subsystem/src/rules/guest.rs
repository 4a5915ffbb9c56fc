//! The rules of what only an IOMMU has that guests can use: nested page tables, vIOMMUs, page faults, PASIDs.

use super::rules;

rules! {
    // Page tables.
    HWPT_ALLOC_PARENT_FAULTS = EOPNOTSUPP, "hwpt-alloc.parent-faults", "a page table that others are nested in names no fault queue";
    ATTACH_PASID_WIDTH = EINVAL, "attach.pasid-width", "a PASID is one that the device has";
    ATTACH_VDEVICE = ENOENT, "attach.vdevice", "a device that is attached to a page table of a vIOMMU has a virtual device there";

    // Data for the driver of an IOMMU.
    USER_DATA_KIND = EINVAL, "user-data.kind", "the data is of the type that its IOMMU expects";
    USER_DATA_LENGTH = EINVAL, "user-data.length", "the data has the length of its type";
    USER_DATA_UNREADABLE = EFAULT, "user-data.unreadable", "the data is in memory that the caller can read";
    USER_DATA_UNWRITABLE = EFAULT, "user-data.unwritable", "the data is in memory that the caller can write";
    USER_DATA_TAIL = E2BIG, "user-data.tail", "bytes of an entry behind those that its type knows are zero";

    // vIOMMUs and virtual devices.
    VIOMMU_PARENT = EINVAL, "viommu.parent", "the parent of a vIOMMU was made with the flag NEST_PARENT";
    VIOMMU_OTHER_IOMMU = EINVAL, "viommu.other-iommu", "the device is behind the IOMMU of the vIOMMU";
    VDEVICE_TWICE = EEXIST, "vdevice.twice", "a device has one virtual device";
    VDEVICE_NAME = EEXIST, "vdevice.name", "no two devices behind a vIOMMU have the same virt_id";
    DESTROY_VIOMMU_IN_USE = EBUSY, "destroy.viommu-in-use", "a vIOMMU that is destroyed has no page table, no virtual device and no queue, and nobody has its memory mapped";

    // Queues of page faults and of events.
    FAULT_QUEUE_READ_ROOM = EINVAL, "fault-queue.read-room", "a read has room for the first fault that is queued";
    QUEUE_READ_MEMORY = EFAULT, "queue.read-memory", "what is read from a queue goes to memory that may be written";
    EVENT_QUEUE_TYPE = EEXIST, "event-queue.type", "a vIOMMU has one queue for events of a type";
    EVENT_QUEUE_READ_SIZE = EINVAL, "event-queue.read-size", "a read has room for the header of an event, of 8 bytes";
    EVENT_QUEUE_READ_ROOM = EINVAL, "event-queue.read-room", "a read has room for the first event that is queued";
    EVENT_QUEUE_WRITE = EINVAL, "event-queue.write", "a queue of events is read, not written";

    // Hardware queues.
    HW_QUEUE_TOO_LONG = ERANGE, "hw-queue.too-long", "the pages of a queue are less than all";
    HW_QUEUE_UNSUPPORTED = EOPNOTSUPP, "hw-queue.unsupported", "the vIOMMU has hardware queues of that type";
    HW_QUEUE_SCATTERED = EFAULT, "hw-queue.scattered", "the memory of a hardware queue is in one piece, physically";
    DESTROY_HW_QUEUE_IN_USE = EBUSY, "destroy.hw-queue-in-use", "hardware queues are destroyed the last one first";
    UNMAP_KEPT = EBUSY, "unmap.kept", "no hardware queue is in the memory";
}
