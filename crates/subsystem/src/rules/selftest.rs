//! Rules of the unit of the kernel's self-tests, and of `IOMMU_TEST_CMD`: nobody else can break them.

use super::rules;

rules! {
    OPERATION = EOPNOTSUPP, "test.operation", "the operation exists";
    LENGTH = EINVAL, "test.length", "a length is not 0";
    WRAPS = EOVERFLOW, "test.wraps", "the range ends below 2^64";
    RESERVED = EADDRINUSE, "test.reserved", "nothing is mapped, and nothing allowed, where IOVAs are to be kept free";
    DEVICE_FLAGS = EINVAL, "test.device-flags", "the flags of a device are NO_DIRTY and PASID";
    DEVICE = ENOENT, "test.device", "the id is that of a device";
    SELFTEST = ENOENT, "test.selftest", "the id is that of what a test made a device with";
    UNIT = EINVAL, "test.unit", "the page table, or the device, is of the self-tests' unit";
    ALIGNMENT = EINVAL, "test.alignment", "addresses and lengths are multiples of the page size that is checked, and end below 2^64";
    MEMORY = EFAULT, "test.memory", "the memory that a test names is there";
    MAP = EINVAL, "test.map", "the page table translates each IOVA to the memory that the test expects there";
    REFS = EIO, "test.refs", "each page is pinned as often as the test expects";
    CACHE = EINVAL, "test.cache", "the entry of the device's cache is there, and holds what the test expects";
    ACCESS = EBADFD, "test.access", "the descriptor is that of an access";
    ACCESS_FLAGS = EOPNOTSUPP, "test.access-flags", "the flags are known";
    ACCESS_DESCRIPTOR = ENOMEM, "test.access-descriptor", "the caller has room for another descriptor";
    ACCESS_PINS = EOPNOTSUPP, "test.access-pins", "an access pins pages that was made to pin pages";
    ACCESS_LENGTH = ENOMEM, "test.access-length", "at most 16 MiB are reached at a time";
    ACCESS_ITEM = ENOENT, "test.access-item", "what is given back was pinned by the access, and not taken back meanwhile";
    PAGES = EBADE, "test.pages", "each page that was pinned is the one that the test expects";
    FILE_IOCTL = ENOTTY, "test.file-ioctl", "the file of an access knows no ioctl";
    FILE_READ = EINVAL, "test.file-read", "the file of an access is neither read nor written";
    FILE_POSITION = ESPIPE, "test.file-position", "the file of an access has no positions";
    FILE_MAP = ENODEV, "test.file-map", "the file of an access is not mapped";
    BUFFER_LENGTH = EINVAL, "test.buffer-length", "a dma-buf of a test has 1 to 512 pages";
    BUFFER_DESCRIPTOR = EBADF, "test.buffer-descriptor", "the descriptor of a dma-buf is open";
    BUFFER_FILE = EINVAL, "test.buffer-file", "the descriptor is that of a dma-buf";
    BUFFER_OTHER = EOPNOTSUPP, "test.buffer-other", "a dma-buf that is revoked is of a test";
    MEMORY_LIMIT = EINVAL, "test.memory-limit", "the limit is at least 12";

    // What the devices and accesses of tests alone can ask for.
    UNITS = EINVAL, "attach.unit", "a page table is of the unit that the device is behind";
    NO_DIRTY = EINVAL, "attach.dirty", "a device of the self-tests without dirty tracking is attached to no page table that tracks";
    WHOLE_PAGES = EINVAL, "access.pages", "what is pinned are whole pages, but for the end of the last";
    TABLE_DATA = EOPNOTSUPP, "test.table-data", "the data of a page table is of the self-tests' type";
    TABLE_TYPE = EOPNOTSUPP, "test.table-type", "the page table is of a type that the self-tests' unit has";
    DIRTY_RANGE = EINVAL, "test.dirty-range", "there is a bitmap, and the range is a multiple of page_size, neither of which is 0";
    DIRTY_MANY = EOVERFLOW, "test.dirty-many", "the range has 2^27 pages at most";
    DIRTY_UNTRACKED = EINVAL, "test.dirty-untracked", "the page table tracks dirty pages";
    DIRTY_BITMAP = EFAULT, "test.dirty-bitmap", "the bitmap is in memory that the caller can read";
    NESTED = ENOENT, "test.nested", "the id is that of a nested page table";
    NESTED_DATA = EOPNOTSUPP, "test.nested-data", "the data of a nested page table is of the self-tests' type";
    IOTLB = EINVAL, "test.iotlb", "the entry of the IOTLB is there, and holds what the test expects";
    INVALIDATE_FLAGS = EOPNOTSUPP, "test.invalidate-flags", "an invalidation has no flag but ALL";
    INVALIDATE_ENTRY = EINVAL, "test.invalidate-entry", "what is invalidated is there";
    INVALIDATE_DEVICE = EINVAL, "test.invalidate-device", "the guest has a device that it calls so";
    EVENT_GUEST = ENOENT, "test.event-guest", "the device is attached to a page table of a vIOMMU, and not called 0 there";
    EVENT_QUEUE = EOPNOTSUPP, "test.event-queue", "the vIOMMU has a queue for events of the self-tests' type";
    QUEUE_INDEX = EINVAL, "test.queue-index", "a vIOMMU has two hardware queues";
    QUEUE_TWICE = EEXIST, "test.queue-twice", "the hardware queue is not there yet";
    QUEUE_ORDER = EIO, "test.queue-order", "the hardware queue before is there";
    PASID_ATTACHED = EBUSY, "test.pasid-attached", "a device that is attached under a PASID is not attached so yet";
    PASID_DETACHED = EINVAL, "test.pasid-detached", "a device whose page table is replaced is attached";
    PASID_RESERVED = ENOMEM, "test.pasid-reserved", "a device is attached under PASID 1024 once (which is how tests have an attachment fail)";
    PASID_TABLE = EINVAL, "test.pasid-table", "the device is attached to the page table that the test expects, or to none";
}
