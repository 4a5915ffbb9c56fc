//! The rules of type1, which backs native containers.

use super::rules;

rules! {
    UNKNOWN_COMMAND = ENOTTY, "type1.unknown-command", "the command is one of type1";

    // A group comes under type1.
    GROUP_ADDRESSES = EBUSY, "type1.group-addresses", "no mapping is without an address of the process when a group joins";
    GROUP_APERTURE = EINVAL, "type1.group-aperture", "the IOMMU of a group that joins can translate what is mapped";
    GROUP_RESERVED = EINVAL, "type1.group-reserved", "nothing is mapped where a group that joins has its window for interrupts";
    GROUP_INTERRUPTS = EPERM, "type1.group-interrupts", "the IOMMU of a group that joins keeps interrupts of devices apart, or allow_unsafe_interrupts of vfio_iommu_type1 is on";

    // IOMMU_GET_INFO.
    INFO_ARGSZ = EINVAL, "type1-info.argsz", "argsz is at least 16";

    // IOMMU_MAP_DMA.
    MAP_ARGSZ = EINVAL, "type1-map.argsz", "argsz is at least 32";
    MAP_FLAGS = EINVAL, "type1-map.flags", "the flags are READ, WRITE and VADDR; VADDR is alone, and without it one of the others is set";
    MAP_SIZE = EINVAL, "type1-map.size", "a mapping has a size";
    MAP_WRAPS = EOVERFLOW, "type1-map.wraps", "the IOVAs of a mapping and its memory end below 2^64";
    MAP_ALIGNMENT = EINVAL, "type1-map.alignment", "IOVA, address and size are multiples of the smallest page of the IOMMU";
    MAP_OVERLAP = EEXIST, "type1-map.overlap", "nothing is mapped at the IOVAs of a new mapping";
    MAP_LIMIT = ENOSPC, "type1-map.limit", "a container has at most as many mappings as dma_entry_limit of vfio_iommu_type1 was when type1 was chosen: 65535";
    MAP_RANGE = EINVAL, "type1-map.range", "the IOVAs of a mapping are in one of the ranges that the container has";
    MAP_FAULT = EFAULT, "type1-map.fault", "every page that is mapped is there and can be accessed in the way that was asked for";
    MAP_LOCKED = ENOMEM, "type1-map.locked", "without CAP_IPC_LOCK, locked memory of the process stays below RLIMIT_MEMLOCK";
    VADDR_NONE = ENOENT, "type1-map.vaddr-none", "a mapping that gets a new address is there";
    VADDR_MISMATCH = EINVAL, "type1-map.vaddr-mismatch", "a new address is for one whole mapping that has lost its own";

    // IOMMU_UNMAP_DMA.
    UNMAP_ARGSZ = EINVAL, "type1-unmap.argsz", "argsz is at least 24, and 48 with a bitmap";
    UNMAP_FLAGS = EINVAL, "type1-unmap.flags", "the flags are ALL, VADDR and GET_DIRTY_BITMAP; the last is alone";
    UNMAP_ALIGNMENT = EINVAL, "type1-unmap.alignment", "IOVA and size are multiples of the smallest page of the IOMMU";
    UNMAP_SIZE = EINVAL, "type1-unmap.size", "a size is not 0, unless everything is unmapped: then IOVA and size are 0";
    UNMAP_WRAPS = EOVERFLOW, "type1-unmap.wraps", "the range ends below 2^64";
    UNMAP_UNTRACKED = EINVAL, "type1-unmap.untracked", "a bitmap is asked for while dirty pages are tracked, with a bit for each smallest page";
    UNMAP_BISECTS = EINVAL, "type1-unmap.bisects", "no mapping is partly in the range (type1 version 2)";
    UNMAP_VADDR = EINVAL, "type1-unmap.vaddr", "a mapping that loses its address has one";

    UNMAP_EMULATED = EBUSY, "type1-unmap.emulated", "no mapping loses its address while the container has emulated devices";

    // What the driver of an emulated device is answered.
    PIN_LENGTH = EINVAL, "type1-pin.length", "at least one page is pinned";
    PIN_MANY = E2BIG, "type1-pin.many", "at most 512 pages are pinned with one call";
    PIN_VERSION = EACCES, "type1-pin.version", "only in version 2 of type1 are pages pinned";
    PIN_WRAPS = EOVERFLOW, "type1-pin.wraps", "the range ends below 2^64";
    PIN_UNMAPPED = EINVAL, "type1-pin.unmapped", "all pages are mapped";
    PIN_RIGHTS = EPERM, "type1-pin.rights", "all pages are mapped for reading, and for writing if they are to be written";
    PIN_BAR = EINVAL, "type1-pin.bar", "what is pinned is memory, not a BAR that the process has mapped";
    PIN_FAULT = EFAULT, "type1-pin.fault", "all pages are there and can be accessed in the way that they are mapped for";
    PIN_LOCKED = ENOMEM, "type1-pin.locked", "without CAP_IPC_LOCK, locked memory of the process stays below RLIMIT_MEMLOCK";
    COPY_LENGTH = EINVAL, "type1-copy.length", "a length is not 0";
    COPY_UNMAPPED = EINVAL, "type1-copy.unmapped", "all of the range is mapped";
    COPY_RIGHTS = EPERM, "type1-copy.rights", "all of the range is mapped for reading, and for writing if it is to be written";
    COPY_FAULT = EFAULT, "type1-copy.fault", "all of the range is there and can be accessed";

    // IOMMU_DIRTY_PAGES.
    DIRTY_VERSION = EACCES, "type1-dirty.version", "only version 2 of type1 tracks dirty pages";
    DIRTY_ARGSZ = EINVAL, "type1-dirty.argsz", "argsz is at least 8, and 48 with a range";
    DIRTY_FLAGS = EINVAL, "type1-dirty.flags", "exactly one of START, STOP and GET_BITMAP is set";
    DIRTY_SIZE = EINVAL, "type1-dirty.size", "a range has a size";
    DIRTY_WRAPS = EOVERFLOW, "type1-dirty.wraps", "the range ends below 2^64";
    DIRTY_RANGE = EINVAL, "type1-dirty.range", "the range and the pages of the bitmap are multiples of the smallest page of the IOMMU";
    DIRTY_OFF = EINVAL, "type1-dirty.off", "a bitmap is asked for while dirty pages are tracked";
    DIRTY_BISECTS = EINVAL, "type1-dirty.bisects", "no mapping is partly in the range";
    BITMAP_ADDRESS = EINVAL, "type1-bitmap.address", "a bitmap is where memory of a process can be";
    BITMAP_SIZE = EINVAL, "type1-bitmap.size", "a bitmap has a bit for each page of the range, in whole words, and at most 256 MiB";
}
