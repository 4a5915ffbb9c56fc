#!/bin/sh
# Debian's own kernel: older than IOMMUFD. An IOMMU.
. /bin/lib.sh

drives group "with MSI-X" "with MSI"
says "a kernel without IOMMUFD" "passed over  *iommufd: there is no /dev/iommu: the kernel is built without IOMMUFD" \
    ioasis nvme identify "$NVME"
finish
