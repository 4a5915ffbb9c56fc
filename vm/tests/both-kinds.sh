#!/bin/sh
# The rows that take a device behind an IOMMU and one without, in one system. (The others are asked elsewhere; the interrupts of
# a device that is not behind the IOMMU are not remapped here, and then it gets none: docs/kernel-findings.md.)
. /bin/lib.sh
says "no row fails" "^ mixed *[1-9]" ioasis conform --device $(cd /sys/bus/pci/drivers/vfio-pci && echo 0*) --filter mixed
finish
