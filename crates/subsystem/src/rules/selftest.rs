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
    FILE_MAP = ENODEV, "test.file-map", "the file of an access is not mapped";
    MEMORY_LIMIT = EINVAL, "test.memory-limit", "the limit is at least 12";

    // What the devices and accesses of tests alone can ask for.
    UNITS = EINVAL, "attach.unit", "a page table is of the unit that the device is behind";
    NO_DIRTY = EINVAL, "attach.dirty", "a device of the self-tests without dirty tracking is attached to no page table that tracks";
    WHOLE_PAGES = EINVAL, "access.pages", "what is pinned are whole pages, but for the end of the last";
}
