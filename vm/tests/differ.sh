#!/bin/sh
# The same calls on this kernel and on a machine like it: scripts of what once differed, then calls drawn at random.
. /bin/lib.sh
machine=/tmp/machine.toml
devices=$(sed -n '/^\[\[device/,/^$/s/^address = "\(.*\)"/--device \1/p' /etc/devices.toml)
parameter() {
    case $(cat "/sys/module/$1/parameters/$2" 2>/dev/null) in
    Y) echo true ;;
    *) echo false ;;
    esac
}
{
    echo "unsafe_noiommu_mode = $(parameter vfio enable_unsafe_noiommu_mode)"
    if ls /sys/class/iommu 2>/dev/null | grep -q .; then
        # They are allowed where the IOMMU does not remap them.
        unsafe=$(parameter iommufd allow_unsafe_interrupts)
        echo "allow_unsafe_interrupts = $unsafe"
        [ "$unsafe" = true ] && echo 'iommu.interrupt_remapping = false' || echo 'iommu = "translating"'
    fi
    # Without VFIO's own container, IOMMUFD is the container; without groups there is none.
    if [ -e /sys/module/vfio_iommu_type1 ]; then
        echo "vfio_iommu_type1.allow_unsafe_interrupts = $(parameter vfio_iommu_type1 allow_unsafe_interrupts)"
    else
        echo 'kconfig.CONFIG_VFIO_CONTAINER = "n"'
    fi
    ls /dev/vfio | grep -qv devices || echo 'kconfig.CONFIG_VFIO_GROUP = "n"'
    cat /etc/devices.toml
} >$machine
differ() {
    ioasis --machine $machine differ $devices "$@"
}
# The scripts are for one device alone.
[ "$(echo "$devices" | wc -l)" != 1 ] || says "what once differed" "^no difference" differ /etc/differ/*
says "calls drawn at random" "^no difference" differ --seed "${SEED:-0}" --sequences "${SEQUENCES:-500}"
cat /tmp/err
finish
