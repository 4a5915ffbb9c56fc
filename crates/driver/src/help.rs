//! What to do about a refused call.
#![forbid(unsafe_code)]

use uapi::Errno;

/// Without an IOMMU, the caller could reach all of memory.
const RAWIO: &str = "without an IOMMU, be root, or grant the program CAP_SYS_RAWIO (setcap cap_sys_rawio+ep)";

/// Behind an IOMMU, somebody else reaches memory through the group, or could.
const OWNED: &str = "a device of its iommu_group is bound to a driver of the host (unbind it, or bind it to vfio-pci) or is another \
                     program's; or the IOMMU does not keep interrupts of devices apart, and allow_unsafe_interrupts of the \
                     module iommufd is N";

const NO_RESET: &str = "this function has no reset of its own: go on without one";

/// What to do about a refused call, where the call and its errno tell enough.
pub(crate) fn help(refusal: &sys::Error) -> Option<&'static str> {
    let object = refusal.object();
    Some(match (refusal.call(), refusal.errno()) {
        ("open", Errno::EPERM) if object.contains("noiommu-") => RAWIO,
        ("open" | "pwrite", Errno::EPERM) if object.ends_with("/enable") => {
            "to enable a device by sysfs needs CAP_SYS_ADMIN; binding it to uio_pci_generic enables it too"
        }
        ("open", Errno::EPERM) if object.starts_with("/sys/bus/pci/") => {
            "the kernel is locked down (secure boot) and leaves no PCI device to programs by sysfs: use VFIO"
        }
        ("open", Errno::EACCES | Errno::EPERM) => {
            "this user may not open the node: change its owner or mode (udev), or be root"
        }
        ("flock", Errno::EBUSY) => "another program has the device",
        ("open" | "VFIO_DEVICE_BIND_IOMMUFD", Errno::EBUSY) => {
            "another program has the device, or its group is open"
        }
        ("open", Errno::ENODEV | Errno::ENXIO) => "the device has been taken from vfio-pci or has gone",
        ("VFIO_DEVICE_BIND_IOMMUFD", Errno::EINVAL) => {
            "the device is bound already, here or by another program, or the second descriptor is no /dev/iommu"
        }
        ("VFIO_DEVICE_BIND_IOMMUFD" | "VFIO_GROUP_SET_CONTAINER", Errno::EPERM) => OWNED,
        ("VFIO_GROUP_GET_DEVICE_FD", Errno::EPERM) if !object.contains("noiommu-") => OWNED,
        ("VFIO_DEVICE_BIND_IOMMUFD", Errno::ENOTTY) => {
            "the descriptor is no device node, or the kernel is older than 6.6"
        }
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno::EPERM) if object == crate::translate::NAME => {
            "only the process that took the device over may ask; a fork of it may not"
        }
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno::EPIPE | Errno::ECONNRESET) => {
            "the privileged process that tells physical addresses has ended: start this one anew by `ioasis open`"
        }
        ("VFIO_SET_IOMMU", Errno::EPERM) => {
            "without an IOMMU, be root, or grant the program CAP_SYS_RAWIO (setcap cap_sys_rawio+ep); with one that does not \
             keep interrupts of devices apart, allow_unsafe_interrupts of the module vfio_iommu_type1 has to be Y"
        }
        ("VFIO_GROUP_GET_DEVICE_FD" | "IOMMU_IOAS_NOIOMMU_GET_PA", Errno::EPERM) => RAWIO,
        ("VFIO_IOMMU_MAP_DMA", Errno::ENOSPC) => {
            "the container holds as many mappings as it may: map larger pieces, or raise dma_entry_limit of the module \
             vfio_iommu_type1"
        }
        ("IOMMU_IOAS_MAP" | "VFIO_IOMMU_MAP_DMA", Errno::ENOMEM) => {
            "pinned memory counts against RLIMIT_MEMLOCK: raise the limit (ulimit -l), or hold CAP_IPC_LOCK"
        }
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno::ENOTTY) => "the kernel is older than 7.3",
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno::EOPNOTSUPP) => {
            "the kernel is built without IOMMUFD_NOIOMMU, or a device with an IOMMU shares the address space"
        }
        ("mmap", Errno::ENOMEM) if object.contains("2048 KiB pages") => {
            "too few huge pages are reserved: write a larger number to /proc/sys/vm/nr_hugepages"
        }
        ("mmap", Errno::EINVAL) if object.contains("/resource") => {
            "the BAR does not start at a page, or a driver of the host holds it: use VFIO"
        }
        ("VFIO_DEVICE_RESET", Errno::EINVAL | Errno::ENOTTY) => NO_RESET,
        ("open", Errno::ENOENT) if object.ends_with("/reset") => NO_RESET,
        _ => return None,
    })
}
