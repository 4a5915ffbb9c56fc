//! The rules of device files and of the PCI functions behind them.

use super::rules;

rules! {
    // Memory, and the argument of a call.
    NO_MEMORY = ENOMEM, "vfio.no-memory", "the host has memory for what the call needs";
    ARGUMENT_FAULT = EFAULT, "argument.fault", "the argument is in memory that can be read";
    REPLY_FAULT = EFAULT, "reply.fault", "the reply goes to memory that can be written";

    // Binding the driver to a function.
    PROBE_TWICE = EBUSY, "probe.twice", "the driver is bound to a function once";
    PROBE_BRIDGE = EINVAL, "probe.bridge", "the function has a header of type 0: it is no bridge";
    PROBE_SRIOV = EBUSY, "probe.sriov", "no virtual functions of the function are enabled before the driver is bound";
    PROBE_NO_IOMMU = EINVAL, "probe.no-iommu", "the function is behind an IOMMU, or enable_unsafe_noiommu_mode is on";
    PROBE_COHERENCY = EINVAL, "probe.coherency", "the IOMMU keeps the DMA of the function coherent";
    PROBE_NO_INDEX = ENOSPC, "probe.no-index", "fewer than 2^20 devices are registered";
    PROBE_NODE = ENOMEM, "probe.node", "the host can make the nodes of the device";

    // Opening.
    OPEN_NO_DEVICE = ENXIO, "open.no-device", "a device is registered under the number of the node";
    OPEN_UNREGISTERED = ENODEV, "open.unregistered", "the device is still registered";
    OPEN_CAPABILITY = EPERM, "open.capability", "opening a device without an IOMMU needs CAP_SYS_RAWIO";

    // What any file answers.
    FILE_CLOSED = EBADF, "file.closed", "the file is open";
    FILE_NOT_READABLE = EBADF, "file.not-readable", "read needs a file that was opened for reading";
    FILE_NOT_WRITABLE = EBADF, "file.not-writable", "write needs a file that was opened for writing";
    FILE_SEEK = ESPIPE, "file.seek", "the files of VFIO and IOMMUFD have no position to set; use pread and pwrite";
    IOMMUFD_READ = EINVAL, "iommufd.read", "an iommufd is not read from";
    IOMMUFD_WRITE = EINVAL, "iommufd.write", "an iommufd is not written to";
    IOMMUFD_MAP_PRIVATE = EINVAL, "iommufd.map-private", "a mapping of an iommufd is shared";
    IOMMUFD_MAP_EXECUTABLE = EPERM, "iommufd.map-executable", "a mapping of an iommufd is not executable";
    IOMMUFD_MAP = ENXIO, "iommufd.map", "the offset is that of an object which can be mapped";

    // BIND_IOMMUFD.
    BIND_ARGSZ = EINVAL, "bind.argsz", "argsz is at least 16";
    BIND_TAIL = E2BIG, "bind.tail", "bytes of the argument after the known 24 are zero";
    BIND_FD_NEGATIVE = EINVAL, "bind.fd-negative", "iommufd is not negative";
    BIND_FLAGS = EINVAL, "bind.flags", "no flag but VFIO_DEVICE_BIND_FLAG_TOKEN is set";
    BIND_GROUP_FILE = EINVAL, "bind.group-file", "a device file that a group gave out is not bound";
    BIND_GROUP_OPEN = EBUSY, "bind.group-open", "the group of a device that is bound is not open";
    BIND_ALREADY_BOUND = EINVAL, "bind.already-bound", "a device file is bound once";
    BIND_TOKEN_FAULT = EFAULT, "bind.token-fault", "the token is in memory that can be read";
    BIND_TOKEN = EINVAL, "bind.token", "a token is given for a physical or virtual function of SR-IOV only";
    TOKEN_PHYSICAL = EINVAL, "token.physical", "a token is given for a virtual function only if the driver of VFIO has its physical one too";
    TOKEN_REQUIRED = EACCES, "token.required", "a token is given for a virtual function, and for a physical one whose virtual functions are open";
    TOKEN_WRONG = EACCES, "token.wrong", "the token is that of the physical function";
    BIND_FD_CLOSED = EBADF, "bind.fd-closed", "iommufd is an open descriptor";
    BIND_NOT_IOMMUFD = EBADFD, "bind.not-iommufd", "the descriptor is that of /dev/iommu";
    BIND_DEVICE_OPEN = EINVAL, "bind.device-open", "the device is not bound through another file";
    BIND_RESET_BUSY = EAGAIN, "bind.reset-busy", "nothing else resets the function meanwhile, and its driver is not being unbound";

    // What needs a bound file.
    NOT_BOUND = EINVAL, "device.not-bound", "the file was bound to an iommufd context before";
    UNKNOWN_COMMAND = ENOTTY, "device.unknown-command", "the command is one of a device file";

    // ATTACH_IOMMUFD_PT and DETACH_IOMMUFD_PT.
    ATTACH_ARGSZ = EINVAL, "attach.argsz", "argsz is at least 12, and 16 with a PASID";
    ATTACH_FLAGS = EINVAL, "attach.flags", "no flag but VFIO_DEVICE_ATTACH_PASID is set";
    ATTACH_PASID_RANGE = ENOSPC, "attach.pasid-range", "a PASID is below 2^31";
    ATTACH_BUSY = EBUSY, "attach.busy", "the device is not attached both plainly and as PASID 0";
    DETACH_ARGSZ = EINVAL, "detach.argsz", "argsz is at least 8, and 12 with a PASID";
    ATTACH_NO_PASIDS = EOPNOTSUPP, "emulated.attach-pasid", "an emulated device is attached without a PASID";
    DETACH_NO_PASIDS = EOPNOTSUPP, "emulated.detach-pasid", "an emulated device is detached without a PASID";
    DETACH_FLAGS = EINVAL, "detach.flags", "no flag but VFIO_DEVICE_DETACH_PASID is set";

    // Information.
    GET_INFO_ARGSZ = EINVAL, "get-info.argsz", "argsz is at least 16";
    REGION_INFO_ARGSZ = EINVAL, "region-info.argsz", "argsz is at least 32";
    REGION_INFO_INDEX = EINVAL, "region-info.index", "the device has a region of that index";
    REGION_INFO_VGA = EINVAL, "region-info.vga", "the VGA region is one of a VGA device";
    IRQ_INFO_ARGSZ = EINVAL, "irq-info.argsz", "argsz is at least 16";
    IRQ_INFO_INDEX = EINVAL, "irq-info.index", "the interrupt index is below 5";

    // SET_IRQS.
    SET_IRQS_ARGSZ = EINVAL, "set-irqs.argsz", "argsz is at least 20";
    SET_IRQS_INDEX = EINVAL, "set-irqs.index", "the interrupt index is below 5";
    SET_IRQS_WRAPS = EINVAL, "set-irqs.wraps", "start + count is below 2^32 - 1";
    SET_IRQS_FLAGS = EINVAL, "set-irqs.flags", "no unknown flag is set";
    SET_IRQS_VECTORS = EINVAL, "set-irqs.vectors", "start is a vector that the index has, and so are all that count covers";
    SET_IRQS_DATA_TYPE = EINVAL, "set-irqs.data-type", "the data is of exactly one type";
    SET_IRQS_DATA_SHORT = EINVAL, "set-irqs.data-short", "argsz covers the data of all vectors";
    SET_IRQS_ACTION = ENOTTY, "set-irqs.action", "the action is exactly one, and one that the index and the data have";
    SET_IRQS_OTHER_KIND = EINVAL, "set-irqs.other-kind", "no other kind of interrupt is enabled";
    SET_IRQS_DISABLED = EINVAL, "set-irqs.disabled", "the kind of interrupt is enabled before it is triggered, masked, unmasked or disabled";
    SET_IRQS_LINE_RANGE = EINVAL, "set-irqs.line-range", "the line is vector 0, and the count is 1";
    SET_IRQS_NO_LINE = ENODEV, "set-irqs.no-line", "the interrupt pin is wired to a line";
    SET_IRQS_UNMASK_BUSY = EBUSY, "set-irqs.unmask-busy", "one eventfd unmasks the line at a time";
    SET_IRQS_FD_CLOSED = EBADF, "set-irqs.fd-closed", "the eventfd is an open descriptor";
    SET_IRQS_NOT_EVENTFD = EINVAL, "set-irqs.not-eventfd", "the descriptor is that of an eventfd";
    SET_IRQS_NO_VECTORS = ENOSPC, "set-irqs.no-vectors", "the host has interrupt vectors left";
    SET_IRQS_ZERO = ERANGE, "set-irqs.zero", "message-signalled interrupts are enabled with at least one vector";
    SET_IRQS_FIXED = EINVAL, "set-irqs.fixed", "vectors are added while others are enabled only with dynamic MSI-X";
    SET_IRQS_NO_TARGET = EINVAL, "set-irqs.no-target", "an eventfd is set before it is triggered or taken away";
    SET_IRQS_NO_COUNT = EINVAL, "set-irqs.no-count", "data for one vector is given";
    SET_IRQS_TARGET = EINVAL, "set-irqs.target", "the target is an eventfd, or -1 for none";

    SET_IRQS_EMULATED = EINVAL, "set-irqs.emulated", "the device has interrupts, which emulated ones here have not";

    // Reset.
    RESET_IMPOSSIBLE = EINVAL, "reset.impossible", "the function can be reset on its own";
    RESET_BUSY = EAGAIN, "reset.busy", "nothing else resets the function meanwhile, and its driver is not being unbound";
    RESET_FAILED = ENOTTY, "reset.failed", "the function comes back from its reset";
    HOT_RESET_INFO_ARGSZ = EINVAL, "hot-reset-info.argsz", "argsz is at least 12";
    HOT_RESET_INFO_SPACE = ENOSPC, "hot-reset-info.space", "there is room for every function of the bus";
    HOT_RESET_INFO_GROUPS = EPERM, "hot-reset-info.groups", "every function of the bus is in an iommu_group, if the device was had from its group";
    HOT_RESET_ARGSZ = EINVAL, "hot-reset.argsz", "argsz is at least 12";
    HOT_RESET_FLAGS = EINVAL, "hot-reset.flags", "flags is zero";
    HOT_RESET_COUNT = EINVAL, "hot-reset.count", "a device file that is bound to an iommufd passes no group descriptors";
    HOT_RESET_GROUPS = EINVAL, "hot-reset.groups", "a device file that a group gave out passes group descriptors";
    HOT_RESET_MANY = EINVAL, "hot-reset.many", "there are no more groups than functions of the bus";
    HOT_RESET_FD_CLOSED = EBADF, "hot-reset.fd-closed", "each descriptor of a group is open";
    HOT_RESET_NOT_GROUP = EINVAL, "hot-reset.not-group", "each descriptor is that of a group";
    HOT_RESET_FOREIGN = EINVAL, "hot-reset.foreign", "every function of the bus has a driver of VFIO";
    HOT_RESET_NOT_OWNED = EINVAL, "hot-reset.not-owned", "every function of the bus is bound to the same iommufd, or in a group whose file is shown";
    HOT_RESET_FAILED = ENOTTY, "hot-reset.failed", "the bus comes back from its reset";
    HOT_RESET_NONE = ENODEV, "hot-reset.none", "the function is behind a slot or bus that can be reset; on a root bus it is not";

    // DEVICE_FEATURE.
    FEATURE_ARGSZ = EINVAL, "feature.argsz", "argsz is at least 8";
    FEATURE_FLAGS = EINVAL, "feature.flags", "no unknown flag is set";
    FEATURE_GET_SET = EINVAL, "feature.get-set", "getting and setting go together in a probe only";
    FEATURE_DIRECTION = EINVAL, "feature.direction", "the feature can be got or set as the call asks";
    FEATURE_NO_ACTION = EINVAL, "feature.no-action", "the call gets, sets or probes";
    FEATURE_PAYLOAD = EINVAL, "feature.payload", "argsz covers the payload of the feature";
    FEATURE_FD_NEGATIVE = EINVAL, "feature.fd-negative", "the eventfd is not negative";
    FEATURE_FD_CLOSED = EBADF, "feature.fd-closed", "the eventfd is an open descriptor";
    FEATURE_NOT_EVENTFD = EINVAL, "feature.not-eventfd", "the descriptor is that of an eventfd";
    FEATURE_LOW_POWER = EINVAL, "feature.low-power", "low power is entered once before it is left";
    FEATURE_UNKNOWN = ENOTTY, "feature.unknown", "the device has the feature";
    FEATURE_PRECOPY = EINVAL, "feature.precopy", "the device can be migrated";

    // DEVICE_FEATURE_DMA_BUF.
    DMA_BUF_FIELDS = EINVAL, "dma-buf.fields", "there is a range, and flags is zero";
    DMA_BUF_REGION = ENODEV, "dma-buf.region", "the region is a BAR that is there";
    DMA_BUF_ALIGNMENT = EINVAL, "dma-buf.alignment", "each range is whole pages, and not empty";
    DMA_BUF_IO = EINVAL, "dma-buf.io", "the BAR is one in memory space";
    DMA_BUF_BOUNDS = EINVAL, "dma-buf.bounds", "each range is within the BAR, and all of them in 64 bits";
    DMA_BUF_DESCRIPTOR = EMFILE, "dma-buf.descriptor", "the caller has a descriptor left";
    DMA_BUF_ACCESS = EINVAL, "dma-buf.access", "a dma-buf is neither read, written nor mapped";
    DMA_BUF_POSITION = ESPIPE, "dma-buf.position", "a dma-buf has no positions to read or write at";
    DMA_BUF_SEEK = EINVAL, "dma-buf.seek", "the place in a dma-buf that is gone to is its start or its end";
    DMA_BUF_IOCTL = ENOTTY, "dma-buf.ioctl", "no command on a dma-buf is known";

    // read, write and mmap.
    REGION_INDEX = EINVAL, "region.index", "the offset is in a region of the device";
    REGION_VGA = EINVAL, "region.vga", "the VGA region is one of a VGA device";
    VGA_BOUNDS = EINVAL, "vga.bounds", "an access starts at a legacy address of VGA: 0xa0000 to 0xbffff, 0x3b0 to 0x3bb or 0x3c0 to 0x3df";
    CONFIG_BOUNDS = EFAULT, "config.bounds", "an access is within configuration space as a whole";
    BAR_ABSENT = EINVAL, "bar.absent", "the BAR is there and has an address";
    BAR_BOUNDS = EINVAL, "bar.bounds", "an access starts within the BAR";
    BAR_DECODING = EIO, "bar.decoding", "memory decoding is on, and the function is not in D3";
    ROM_WRITE = EINVAL, "rom.write", "the expansion ROM is not written to";
    MAP_NOT_READABLE = EACCES, "map.not-readable", "a mapping needs a file that was opened for reading";
    MAP_NOT_WRITABLE = EACCES, "map.not-writable", "a shared writable mapping needs a file that was opened for writing";
    MAP_EMPTY = EINVAL, "map.empty", "a mapping has a length";
    MAP_UNALIGNED = EINVAL, "map.unaligned", "the offset of a mapping is a multiple of the page size";
    MAP_EMULATED = EINVAL, "map.emulated", "a mapping is of a device that is not emulated";
    MAP_PRIVATE = EINVAL, "map.private", "a mapping of a region is shared";
    MAP_NOT_BAR = EINVAL, "map.not-bar", "only BARs are mapped";
    MAP_UNMAPPABLE = EINVAL, "map.unmappable", "the BAR is one in memory space that its pages hold alone";
    MAP_BOUNDS = EINVAL, "map.bounds", "a mapping ends within the BAR, rounded up to pages";

    // What the driver of an emulated device is answered.
    EMULATED_CLOSED = EINVAL, "software-dma.closed", "the device is open";

    // IOEVENTFD.
    IOEVENTFD_ARGSZ = EINVAL, "ioeventfd.argsz", "argsz is at least 28";
    IOEVENTFD_FLAGS = EINVAL, "ioeventfd.flags", "the flags are exactly one width";
    IOEVENTFD_FD = EINVAL, "ioeventfd.fd", "fd is an eventfd, or -1";
    IOEVENTFD_BAR = EINVAL, "ioeventfd.bar", "the register is in a BAR that is there";
    IOEVENTFD_BOUNDS = EINVAL, "ioeventfd.bounds", "the register is within its BAR";
    IOEVENTFD_TABLE = EINVAL, "ioeventfd.table", "the register is outside the MSI-X table";
    IOEVENTFD_UNKNOWN = ENODEV, "ioeventfd.unknown", "what is taken back was installed before";
    IOEVENTFD_EXISTS = EEXIST, "ioeventfd.exists", "the same write is installed once";
    IOEVENTFD_MOST = ENOSPC, "ioeventfd.most", "a device has at most 1000 of them";
    IOEVENTFD_FD_CLOSED = EBADF, "ioeventfd.fd-closed", "fd is an open descriptor";
    IOEVENTFD_NOT_EVENTFD = EINVAL, "ioeventfd.not-eventfd", "the descriptor is that of an eventfd";
}
