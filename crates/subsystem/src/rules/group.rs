//! The rules of groups, and of the containers that they join.

use super::rules;

rules! {
    // Opening a group.
    GROUP_UNKNOWN = ENXIO, "group.unknown", "a group is registered under the number of the node";
    GROUP_GONE = ENODEV, "group.gone", "a device of the group is still registered";
    GROUP_CAPABILITY = EPERM, "group.capability", "opening a group without an IOMMU needs CAP_SYS_RAWIO";
    GROUP_DEVICE_BOUND = EBUSY, "group.device-bound", "no device of a group that is opened is bound through its own node";
    GROUP_OPEN = EBUSY, "group.open", "a group is open once; a device file that it gave out through a native container keeps it open";

    // Files of groups and containers.
    FILE_READ = EINVAL, "group.read", "groups and containers are not read from";
    FILE_WRITE = EINVAL, "group.write", "groups and containers are not written to";
    FILE_MAP = ENODEV, "group.map", "groups and containers are not mapped";
    GROUP_COMMAND = ENOTTY, "group.unknown-command", "the command is one of a group";

    // GROUP_GET_STATUS.
    STATUS_ARGSZ = EINVAL, "group-status.argsz", "argsz is at least 8";

    // GROUP_SET_CONTAINER and GROUP_UNSET_CONTAINER.
    SET_CONTAINER_FD_CLOSED = EBADF, "set-container.fd-closed", "the descriptor is open";
    SET_CONTAINER_JOINED = EINVAL, "set-container.joined", "the group has joined nothing yet";
    SET_CONTAINER_OTHER = EBADFD, "set-container.other", "the descriptor is that of a container or an iommufd";
    SET_CONTAINER_CAPABILITY = EPERM, "set-container.capability", "a group without an IOMMU joins a container with CAP_SYS_RAWIO";
    SET_CONTAINER_OWNED = EPERM, "set-container.owned", "nobody else has the DMA of a group that joins a container, drivers of the host included";
    SET_CONTAINER_MIXED = EPERM, "set-container.mixed", "all groups of a container are behind an IOMMU, or none is";
    SET_CONTAINER_IOAS = EINVAL, "set-container.ioas", "an iommufd that a group without an IOMMU joins has no IOAS for container ioctls";
    SET_CONTAINER_NOIOMMU = EINVAL, "set-container.noiommu", "an iommufd that a group behind an IOMMU joins was never joined by one without";
    UNSET_CONTAINER_NONE = EINVAL, "unset-container.none", "the group has joined a container";
    UNSET_CONTAINER_BUSY = EBUSY, "unset-container.busy", "every device file that the group gave out through its container is closed";

    // GROUP_GET_DEVICE_FD.
    DEVICE_FD_NAME = EINVAL, "get-device-fd.name", "the name and its options are shorter than a page";
    DEVICE_FD_UNKNOWN = ENODEV, "get-device-fd.unknown", "the group has a device of that name, followed by nothing or a space";
    DEVICE_FD_OPTION = EINVAL, "get-device-fd.option", "after the name there is nothing but spaces and one vf_token=UUID";
    DEVICE_FD_UUID = EINVAL, "get-device-fd.uuid", "a token is a UUID in its usual form";
    DEVICE_FD_DESCRIPTOR = EMFILE, "get-device-fd.descriptor", "the caller has room for another descriptor";
    DEVICE_FD_NOT_JOINED = EINVAL, "get-device-fd.not-joined", "the group has joined a container or an iommufd";
    DEVICE_FD_NO_BACKEND = EINVAL, "get-device-fd.no-backend", "SET_IOMMU has chosen what backs the container";
    DEVICE_FD_CAPABILITY = EPERM, "get-device-fd.capability", "a device without an IOMMU is opened with CAP_SYS_RAWIO";
    DEVICE_FD_IOAS = EPERM, "get-device-fd.ioas", "an iommufd that gives out a device without an IOMMU has no IOAS for container ioctls";

    // Container ioctls.
    SET_IOMMU_NO_GROUP = EINVAL, "set-iommu.no-group", "a group has joined the container";
    SET_IOMMU_SET = EINVAL, "set-iommu.set", "what backs the container is chosen once";
    SET_IOMMU_UNKNOWN = ENODEV, "set-iommu.unknown", "the kind is one that can back the groups of the container";
    SET_IOMMU_CAPABILITY = EPERM, "set-iommu.capability", "who goes without an IOMMU has CAP_SYS_RAWIO";
    CONTAINER_UNSET = EINVAL, "container.unset", "SET_IOMMU has chosen what backs the container";
    CONTAINER_NOIOMMU = ENOTTY, "container.noiommu", "a container without an IOMMU maps nothing and tells nothing";
}
