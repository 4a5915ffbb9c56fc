#!/bin/sh
# The same calls on this kernel and on a machine like it: scripts of what once differed, then calls drawn at random.
. /bin/lib.sh
machine=/tmp/machine.toml
{
    if ls /sys/class/iommu 2>/dev/null | grep -q .; then
        echo 'iommu = "translating"'
        echo 'unsafe_noiommu_mode = false'
    fi
    # Without VFIO's own container, IOMMUFD is the container.
    [ -e /sys/module/vfio_iommu_type1 ] || echo 'kconfig.CONFIG_VFIO_CONTAINER = "n"'
    cat /etc/edu.toml
} >$machine
differ() {
    ioasis --machine $machine differ --device "$EDU" "$@"
}
says "what once differed" "^no difference" differ /etc/differ/*
says "calls drawn at random" "^no difference" differ --sequences 500
finish
