#!/bin/sh
# An IOMMU, vfio-pci with groups and character devices.
. /bin/lib.sh

drives iommufd "with MSI-X" "with MSI"
drives group "with MSI-X" "with MSI"
refused "a device with an IOMMU has no mode without" "iommufd-noiommu: the device has an IOMMU" \
    ioasis --allow-noiommu --mode iommufd-noiommu nvme identify "$NVME"
bind none "$NVME"
refused "physical addresses mean nothing behind an IOMMU" "uio: there is an IOMMU between the device and memory" \
    ioasis --allow-noiommu nvme identify "$NVME"
finish
