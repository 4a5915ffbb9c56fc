#!/bin/sh
# Debian's own kernel with an IOMMU: the kernel's driver has the NVMe controllers, and gets them back.
. /bin/lib.sh

mkdir /mnt
before=$(sha256sum </dev/nvme0n1)
mount -t ext4 -o ro /dev/nvme0n1 /mnt
refused "--bind: a mounted file system" \
    "$NVME is in use on this host, and stays with its driver nvme: nvme0n1 is mounted on /mnt (umount /mnt)" \
    ioasis --bind nvme identify "$NVME"
says "the driver is left" "^nvme\$" driver_of "$NVME"
says "the file system too" "machine.md" ls /mnt
umount /mnt
says "--bind: the image reads back" "$(cat /etc/image.sha256)" image_sum --bind
says "the driver has the controller again" "^nvme\$" driver_of "$NVME"
says "and no other one is wished for" "^(null)\$" cat "/sys/bus/pci/devices/$NVME/driver_override"
while [ ! -b /dev/nvme0n1 ]; do sleep 0.1; done
says "the disk is there as before" "$before" sh -c 'sha256sum </dev/nvme0n1'
refused "open: the kernel is older than IOMMUFD" "iommufd: there is no /dev/iommu: the kernel is built without IOMMUFD" \
    ioasis --bind open "$NVME" --user 1000:1000 -- true
says "the driver has it again" "^nvme\$" driver_of "$NVME"
finish
