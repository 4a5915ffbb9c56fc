#!/bin/sh
# No IOMMU, and no groups.
. /bin/lib.sh

drives iommufd-noiommu "with MSI-X" "with MSI" --allow-noiommu
refused "no groups" "group-noiommu: the device is in no group: the kernel is built without VFIO_GROUP" \
    ioasis --allow-noiommu --mode group-noiommu nvme identify "$NVME"
finish
