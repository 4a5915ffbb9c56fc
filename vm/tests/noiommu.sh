#!/bin/sh
# No IOMMU, vfio-pci with groups and character devices.
. /bin/lib.sh

drives iommufd-noiommu "with MSI-X" "with MSI" --allow-noiommu
says "better modes are passed over" "passed over  *iommufd: the device has no IOMMU" \
    ioasis --allow-noiommu nvme identify "$NVME"
drives group-noiommu "with MSI-X" "with MSI" --allow-noiommu

node=/dev/vfio/devices/$(ls "/sys/bus/pci/devices/$NVME/vfio-dev")
group=$(basename "$(readlink "/sys/bus/pci/devices/$NVME/iommu_group")")
refused "no such device" "there is no PCI device 0000:00:1d.7; looked for:" \
    ioasis --allow-noiommu nvme identify 0000:00:1d.7
refused "a device of another driver" "bound to pcieport, which is no driver of VFIO; bind it to vfio-pci" \
    ioasis --allow-noiommu nvme identify 0000:00:07.0
says "which keeps it" "^pcieport\$" driver_of 0000:00:07.0
refused "a device without an IOMMU has no mode group" "group: the device has no IOMMU" \
    ioasis --mode group nvme identify "$NVME"
refused "not root" "this user may not open the node" as_user ioasis --allow-noiommu nvme identify "$NVME"
chown 1000 "$node" /dev/iommu
refused "the node, but not the capability" "CAP_SYS_RAWIO" as_user ioasis --allow-noiommu nvme identify "$NVME"
exec 9<>"/dev/vfio/noiommu-$group"
refused "another program has the group" "another program has the device, or its group is open" \
    ioasis --allow-noiommu nvme identify "$NVME"
exec 9>&-

bind none "$NVME" "$SPARE" "$EDU"
refused "a device of no driver" "the device is bound to no driver; bind it to vfio-pci" \
    ioasis --allow-noiommu --mode iommufd-noiommu nvme identify "$NVME"
drives uio "polled, without an interrupt" "polled, without an interrupt" --allow-noiommu
echo 0 >/proc/sys/vm/nr_hugepages
refused "uio without huge pages" "too few huge pages are reserved: write a larger number to /proc/sys/vm/nr_hugepages" \
    ioasis --allow-noiommu nvme identify "$NVME"
finish
