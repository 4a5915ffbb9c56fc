//! The rules of IOMMUFD.

use super::rules;

rules! {
    // Every command.
    UNKNOWN_COMMAND = ENOTTY, "iommufd.unknown-command", "the command is one that an iommufd file knows";
    ARGUMENT_UNREADABLE = EFAULT, "iommufd.argument-unreadable", "the argument is in memory that the caller can read";
    ARGUMENT_UNWRITABLE = EFAULT, "iommufd.argument-unwritable", "the argument is in memory that the caller can write";
    ARGUMENT_TOO_SMALL = EINVAL, "iommufd.argument-too-small", "size is at least the least size of the command";
    ARGUMENT_TAIL = E2BIG, "iommufd.argument-tail", "bytes behind those that this version knows are zero";
    NO_MEMORY = ENOMEM, "iommufd.no-memory", "there is memory for what the subsystem has to keep";

    // Objects.
    OBJECTS_EXHAUSTED = EBUSY, "object.exhausted", "a context has less than 2^31 objects";
    DESTROY_UNKNOWN = ENOENT, "destroy.unknown", "the id is that of an object of this context";
    DESTROY_DEVICE = EBUSY, "destroy.device", "a device object lives until its device file is closed";
    DESTROY_IOAS_IN_USE = EBUSY, "destroy.ioas-in-use", "an IOAS that is destroyed has no page table, and no emulated device is attached to it";
    DESTROY_HWPT_IN_USE = EBUSY, "destroy.hwpt-in-use", "a page table that is destroyed has no device attached, and neither page tables nested in it nor vIOMMUs";
    DESTROY_QUEUE_OPEN = EBUSY, "destroy.queue-open", "the file of a queue that is destroyed is closed";
    DESTROY_FAULT_QUEUE_IN_USE = EBUSY, "destroy.fault-queue-in-use", "a fault queue that is destroyed is named by no page table";
    IOAS_UNKNOWN = ENOENT, "ioas.unknown", "the id is that of an IOAS of this context";
    IOAS_ALLOC_FLAGS = EOPNOTSUPP, "ioas-alloc.flags", "flags is zero";
    IOVA_RANGES_RESERVED = EOPNOTSUPP, "iova-ranges.reserved", "the reserved field is zero";
    IOVA_RANGES_ARRAY = EFAULT, "iova-ranges.array", "the array is in memory that the caller can write";
    IOVA_RANGES_ROOM = EMSGSIZE, "iova-ranges.room", "the array has room for every range (the reply says how many there are)";
    ALLOW_IOVAS_RESERVED = EOPNOTSUPP, "allow-iovas.reserved", "the reserved field is zero";
    ALLOW_IOVAS_ARRAY = EFAULT, "allow-iovas.array", "the array is in memory that the caller can read";
    ALLOW_IOVAS_RANGE = EINVAL, "allow-iovas.range", "each range ends behind its start";
    ALLOW_IOVAS_RESERVED_REGION = EADDRINUSE, "allow-iovas.reserved-region", "no range has IOVAs that a device or the aperture of a page table keeps free";
    ALLOW_IOVAS_OVERLAP = EINVAL, "allow-iovas.overlap", "no two ranges overlap";

    // Placing a mapping: MAP, MAP_FILE, COPY.
    MAP_FLAGS = EOPNOTSUPP, "map.flags", "flags are FIXED_IOVA, WRITEABLE and READABLE, and the reserved field is zero";
    MAP_LIMIT = EOVERFLOW, "map.limit", "no IOVA and no length is 2^64-1";
    MAP_ACCESS = EINVAL, "map.access", "a mapping is readable or writeable for devices";
    MAP_SOURCE_WRAPS = EOVERFLOW, "map.source-wraps", "the memory to be mapped ends below 2^64";
    MAP_LENGTH = EINVAL, "map.length", "a length is neither 0 nor within a page of 2^64";
    MAP_LENGTH_ALIGNMENT = EINVAL, "map.length-alignment", "the length is a multiple of the alignment of the IOAS";
    MAP_IOVA_ALIGNMENT = EINVAL, "map.iova-alignment", "a fixed IOVA is a multiple of the alignment of the IOAS";
    MAP_IOVA_WRAPS = EOVERFLOW, "map.iova-wraps", "a mapping at a fixed IOVA ends below 2^64";
    MAP_RESERVED = EINVAL, "map.reserved", "a fixed IOVA is in the aperture of each page table, and outside the windows of each device";
    MAP_OVERLAP = EEXIST, "map.overlap", "nothing is mapped at the IOVAs of a new mapping";
    MAP_SOURCE_ALIGNMENT = EINVAL, "map.source-alignment", "the offset of the memory in its page is a multiple of the alignment of the IOAS";
    MAP_PIECE_ALIGNMENT = EINVAL, "map.piece-alignment", "each piece of a copy begins and ends at a multiple of the alignment of the IOAS";
    MAP_TOO_LONG = EOVERFLOW, "map.too-long", "a mapping without a fixed IOVA is shorter than half of the address space";
    MAP_NATURAL_ALIGNMENT = EINVAL, "map.natural-alignment", "without a fixed IOVA, the address and the length of the memory allow the alignment of the IOAS";
    MAP_NO_ROOM = ENOSPC, "map.no-room", "the allowed IOVAs have a hole that is large enough";
    MAP_FILE_BOUNDS = EINVAL, "map-file.bounds", "the range ends within the dma-buf, and has less than 2^32 pages";
    MAP_FILE_REVOKED = ENODEV, "map-file.revoked", "memory answers behind the dma-buf";
    MAP_FILE_RANGES = EOPNOTSUPP, "map-file.ranges", "the dma-buf has one range";
    MAP_FILE_DESCRIPTOR = EBADF, "map-file.descriptor", "the descriptor is open";
    COPY_UNCOVERED = ENOENT, "copy.uncovered", "the whole source is mapped, without gaps";
    COPY_WRITEABLE = EPERM, "copy.writeable", "a writeable mapping is copied from memory that was mapped writeable";

    // Pinning.
    PIN_FAULT = EFAULT, "pin.fault", "every page that a device is to reach is there and can be accessed in the way that was asked for";
    PIN_NO_MEMORY = ENOMEM, "pin.no-memory", "the host has memory for pinning";
    PIN_FILE = EINVAL, "pin.file", "a file that is mapped is a memory file and holds all of the pages";
    PIN_LIMIT = ENOMEM, "pin.limit", "without CAP_IPC_LOCK, pinned memory stays below RLIMIT_MEMLOCK";

    // UNMAP.
    UNMAP_LIMIT = EOVERFLOW, "unmap.limit", "neither the IOVA nor the length is 2^64-1, unless everything is unmapped";
    UNMAP_LENGTH = EINVAL, "unmap.length", "a length is not 0";
    UNMAP_WRAPS = EOVERFLOW, "unmap.wraps", "the range ends below 2^64";
    UNMAP_PARTIAL = ENOENT, "unmap.partial", "each mapping that the range touches is inside it";
    UNMAP_NOTHING = ENOENT, "unmap.nothing", "something is mapped in the range";

    // NOIOMMU_GET_PA.
    GET_PA_KCONFIG = EOPNOTSUPP, "get-pa.kconfig", "the kernel is built with IOMMUFD_NOIOMMU";
    GET_PA_RAWIO = EPERM, "get-pa.rawio", "the caller has CAP_SYS_RAWIO";
    GET_PA_FLAGS = EOPNOTSUPP, "get-pa.flags", "flags and the reserved field are zero";
    GET_PA_LENGTH = EINVAL, "get-pa.length", "the length is not 0";
    GET_PA_LIMIT = EOVERFLOW, "get-pa.limit", "the IOVA is not 2^64-1";
    GET_PA_REVOKED = EINVAL, "get-pa.revoked", "the dma-buf behind the IOVA was not revoked since it was mapped";
    GET_PA_UNMAPPED = ENOENT, "get-pa.unmapped", "the IOVA is mapped";
    GET_PA_NO_PAGE_TABLE = EOPNOTSUPP, "get-pa.no-page-table", "the IOAS has a page table that was made for a device without IOMMU";

    // OPTION.
    OPTION_UNKNOWN = EOPNOTSUPP, "option.unknown", "the option and the operation exist, and the reserved field is zero";
    OPTION_RLIMIT_OBJECT = EOPNOTSUPP, "option.rlimit-object", "RLIMIT_MODE belongs to no object";
    OPTION_RLIMIT_CAPABILITY = EPERM, "option.rlimit-capability", "who sets RLIMIT_MODE has CAP_SYS_RESOURCE";
    OPTION_RLIMIT_LATE = EBUSY, "option.rlimit-late", "RLIMIT_MODE is set before the context has objects";
    OPTION_RLIMIT_VALUE = EINVAL, "option.rlimit-value", "RLIMIT_MODE is 0 or 1";
    OPTION_HUGE_VALUE = EINVAL, "option.huge-value", "HUGE_PAGES is 0 or 1";
    OPTION_HUGE_FILLED = EINVAL, "option.huge-filled", "large pages are switched off while no page table has mappings";
    OPTION_HUGE_ALIGNMENT = EADDRINUSE, "option.huge-alignment", "without large pages, every mapping is page-aligned";

    // Devices.
    BIND_INTERRUPTS = EPERM, "bind.interrupts", "the IOMMU isolates the interrupts of the device, or allow_unsafe_interrupts of iommufd is on";
    BIND_OWNER = EPERM, "bind.dma-owner", "the DMA of the device's iommu_group belongs to nobody else: to no other context, and to no driver of the host";
    DEVICE_GONE = EINVAL, "attach.unbound", "a device that is attached is bound";
    ATTACH_UNKNOWN = ENOENT, "attach.unknown", "pt_id is that of an object of the context that the device is bound to";
    ATTACH_TYPE = EINVAL, "attach.type", "pt_id is that of an IOAS or a page table";
    ATTACH_GROUP = EINVAL, "attach.group", "all devices of an iommu_group are attached to the same page table";
    ATTACH_RESERVED = EADDRINUSE, "attach.reserved", "nothing is mapped, and nothing allowed, in the windows of the device, such as that of its interrupts";
    ATTACH_PASID_TABLE = EINVAL, "attach.pasid-table", "a page table for a PASID is one that was made with the PASID flag, and so is the one that the device has without";
    ATTACH_NOIOMMU_TABLE = EINVAL, "attach.noiommu-table", "the page table of a device behind an IOMMU was made for one";
    REPLACE_NOIOMMU_TABLE = ENODEV, "attach.replace-noiommu-table", "the page table that replaces that of a device behind an IOMMU was made for one";
    ATTACH_FAULTS = ENODEV, "attach.faults", "behind an IOMMU, a page table that names a fault queue is for a device that has page faults";
    LINK_RIGHTS = EINVAL, "attach.rights", "devices may read or write every mapping of an IOAS that has a page table";
    LINK_ALIGNMENT = EADDRINUSE, "attach.alignment", "every mapping of an IOAS that a device is attached to is page-aligned: IOVA, length and address";
    LINK_APERTURE = EADDRINUSE, "attach.aperture", "nothing is mapped, and nothing allowed, beyond the IOVAs that a page table translates";

    // Accesses: what the driver of an emulated device is answered.
    ACCESS_DETACHED = ENOENT, "access.detached", "the device is attached to an IOAS";
    ACCESS_LENGTH = EINVAL, "access.length", "a length is not 0";
    ACCESS_WRAPS = EOVERFLOW, "access.wraps", "the range ends below 2^64";
    ACCESS_UNMAPPED = ENOENT, "access.unmapped", "all of the range is mapped, without gaps";
    ACCESS_RIGHTS = EPERM, "access.rights", "all of the range is mapped for reading, or for writing, as it is reached";
    ACCESS_BAR = EINVAL, "access.bar", "what is reached in software is memory, not a BAR behind a dma-buf";

    // Page tables.
    HWPT_ALLOC_RESERVED = EOPNOTSUPP, "hwpt-alloc.reserved", "the reserved field is zero";
    HWPT_ALLOC_DATA = EINVAL, "hwpt-alloc.data", "there is data exactly if data_type names its kind";
    HWPT_ALLOC_DEVICE = ENOENT, "hwpt-alloc.device", "dev_id is that of a bound device";
    HWPT_ALLOC_PARENT = EINVAL, "hwpt-alloc.parent", "pt_id is that of an IOAS, a page table or a vIOMMU";
    HWPT_ALLOC_FLAGS_NOIOMMU = EOPNOTSUPP, "hwpt-alloc.flags-noiommu", "a page table for a device without IOMMU has no flags but FAULT_ID_VALID, and no data";
    HWPT_ALLOC_FLAGS = EOPNOTSUPP, "hwpt-alloc.flags", "a page table has no flags but DIRTY_TRACKING, FAULT_ID_VALID, PASID and, if its IOMMU nests page tables, NEST_PARENT; it has data only if that takes any";
    HWPT_ALLOC_DIRTY = EOPNOTSUPP, "hwpt-alloc.dirty", "a page table tracks dirty pages only if the IOMMU can";
    HWPT_ALLOC_NESTED = EOPNOTSUPP, "hwpt-alloc.nested", "a page table is nested only for a device behind an IOMMU, with data, and with no flags but FAULT_ID_VALID and PASID";
    HWPT_ALLOC_NESTED_PARENT = EINVAL, "hwpt-alloc.nested-parent", "a page table is nested in one that was made with the flag NEST_PARENT, behind the same IOMMU";
    HWPT_ALLOC_FAULT_QUEUE = ENOENT, "hwpt-alloc.fault-queue", "fault_id is that of a fault queue";
    HWPT_UNKNOWN = ENOENT, "hwpt.unknown", "the id is that of a page table of an IOAS";

    // Queues and their files.
    QUEUE_DESCRIPTOR = EMFILE, "queue.descriptor", "the caller has room for another descriptor";
    QUEUE_POSITION = ESPIPE, "queue.position", "a queue has no positions: it is read and written with read and write";
    QUEUE_IOCTL = ENOTTY, "queue.ioctl", "the file of a queue knows no ioctl";
    QUEUE_MAP = ENODEV, "queue.map", "the file of a queue is not mapped";
    FAULT_QUEUE_FLAGS = EOPNOTSUPP, "fault-queue.flags", "flags is zero";
    FAULT_QUEUE_READ_SIZE = ESPIPE, "fault-queue.read-size", "a read asks for whole faults, of 40 bytes each";
    FAULT_QUEUE_WRITE_SIZE = ESPIPE, "fault-queue.write-size", "a write gives whole responses, of 8 bytes each";
    FAULT_QUEUE_CODE = EINVAL, "fault-queue.code", "the code of a response is SUCCESS or INVALID";
    FAULT_QUEUE_COOKIE = EINVAL, "fault-queue.cookie", "the cookie of a response is that of a fault which was read";

    // What only hardware could do.
    HW_INFO_FIELDS = EOPNOTSUPP, "hw-info.fields", "flags are known and the reserved field is zero";
    HW_INFO_DEVICE = ENOENT, "hw-info.device", "dev_id is that of a bound device";
    HW_INFO_NOIOMMU = EOPNOTSUPP, "hw-info.noiommu", "only an IOMMU has hardware information";
    HW_INFO_TYPE = EOPNOTSUPP, "hw-info.type", "the wanted description is that of an Intel VT-d unit, or whichever there is";
    HW_INFO_BUFFER = EFAULT, "hw-info.buffer", "the buffer is in memory that the caller can write";
    DIRTY_FIELDS = EOPNOTSUPP, "dirty.fields", "flags are known and the reserved field is zero";
    DIRTY_LENGTH = EINVAL, "dirty.length", "the length is not 0";
    DIRTY_WRAPS = EOVERFLOW, "dirty.wraps", "the range ends below 2^64";
    DIRTY_ALIGNMENT = EINVAL, "dirty.alignment", "the range is a multiple of the alignment of the IOAS and of page_size, which is not 0";
    DIRTY_UNSUPPORTED = EOPNOTSUPP, "dirty.unsupported", "the page table was made with the flag DIRTY_TRACKING";
    INVALIDATE_RESERVED = EOPNOTSUPP, "invalidate.reserved", "the reserved field is zero";
    INVALIDATE_ARRAY = EINVAL, "invalidate.array", "there is an array, of at most 2^19 entries of at most a page";
    INVALIDATE_UNKNOWN = ENOENT, "invalidate.unknown", "the id is that of an object of this context";
    INVALIDATE_TYPE = EINVAL, "invalidate.type", "the id is that of a nested page table or a vIOMMU";
    VIOMMU_FIELDS = EOPNOTSUPP, "viommu.fields", "flags is zero and the type is not";
    VIOMMU_DEVICE = ENOENT, "viommu.device", "dev_id is that of a bound device";
    VIOMMU_UNSUPPORTED = EOPNOTSUPP, "viommu.unsupported", "the device is behind an IOMMU that offers vIOMMUs of that type";
    VIOMMU_UNKNOWN = ENOENT, "viommu.unknown", "the id is that of a vIOMMU";
    EVENT_QUEUE_FIELDS = EOPNOTSUPP, "event-queue.fields", "flags and the reserved field are zero and the type is not";
    EVENT_QUEUE_DEPTH = EINVAL, "event-queue.depth", "the depth is between 1 and 2^19";
    HW_QUEUE_FIELDS = EOPNOTSUPP, "hw-queue.fields", "flags is zero and the type is not";
    HW_QUEUE_LENGTH = EINVAL, "hw-queue.length", "the length is not 0";
    HW_QUEUE_WRAPS = EOVERFLOW, "hw-queue.wraps", "the queue ends below 2^64";

    // Change of process.
    CHANGE_PROCESS_RESERVED = EOPNOTSUPP, "change-process.reserved", "the reserved field is zero";
    CHANGE_PROCESS_USER = EINVAL, "change-process.user", "every mapping is one of a file";

    // As a container.
    VFIO_IOAS_FIELDS = EOPNOTSUPP, "vfio-ioas.fields", "the operation exists and the reserved field is zero";
    VFIO_IOAS_NONE = ENODEV, "vfio-ioas.none", "an IOAS was chosen for container ioctls";
    COMPAT_IOMMU_TYPE = EINVAL, "compat.iommu-type", "the kind of IOMMU is one that the context offers to containers";
    COMPAT_INFO_ARGSZ = EINVAL, "compat-info.argsz", "argsz is at least 16";
    COMPAT_MAP_ARGSZ = EINVAL, "compat-map.argsz", "argsz is at least 32";
    COMPAT_MAP_FLAGS = EINVAL, "compat-map.flags", "the flags are READ and WRITE";
    COMPAT_UNMAP_ARGSZ = EINVAL, "compat-unmap.argsz", "argsz is at least 24";
    COMPAT_UNMAP_FLAGS = EINVAL, "compat-unmap.flags", "there is no flag but ALL";
    COMPAT_UNMAP_ALL = EINVAL, "compat-unmap.all", "who unmaps everything gives neither an IOVA nor a size";
    CUT_ALIGNMENT = EINVAL, "compat-unmap.cut", "a mapping is cut in two between two pages";
    CUT_PINNED = EINVAL, "compat-unmap.pinned", "no driver of an emulated device has pages pinned of a mapping that is cut in two";
}
