#!/bin/sh
# Debian's own kernel: older than IOMMUFD, without the no-IOMMU mode of VFIO. No IOMMU; the kernel's driver has the NVMe
# controllers at first.
. /bin/lib.sh

mkdir /mnt
mount -t ext4 -o ro /dev/nvme0n1 /mnt
refused "a device in use by the host" "the device is bound to nvme, which is no driver of VFIO; bind it to vfio-pci" \
    ioasis --allow-noiommu nvme identify "$NVME"
says "is left to it" "^nvme\$" driver_of "$NVME"
says "with its file system" "no-iommu\|machine.md" ls /mnt
umount /mnt

bind none "$NVME" "$SPARE" "$EDU"
drives uio "polled, without an interrupt" "polled, without an interrupt" --allow-noiommu
refused "a kernel without VFIO_NOIOMMU" \
    "iommufd-noiommu: the device is bound to no driver; bind it to vfio-pci, which takes only devices with an IOMMU here" \
    ioasis --allow-noiommu --mode iommufd-noiommu nvme identify "$NVME"
rmmod vfio_pci
refused "no vfio-pci" "load vfio-pci (modprobe vfio-pci" \
    ioasis --allow-noiommu --mode group nvme identify "$NVME"
bind uio_pci_generic "$NVME" "$SPARE" "$EDU"
drives uio "polled, without an interrupt" "with INTx" --allow-noiommu
chown 1000 "/sys/bus/pci/devices/$NVME/config" "/sys/bus/pci/devices/$NVME/resource0" /dev/uio*
refused "pagemap without CAP_SYS_ADMIN" "frame number 0, as to those without CAP_SYS_ADMIN" \
    as_user ioasis --allow-noiommu nvme identify "$NVME"
finish
