#!/bin/sh
# Each row of the suite is asked of this kernel, with every device that vfio-pci has, and of an embedded machine; where both
# were asked they agree. What only one of them can be asked is not compared: `ioasis conform --compare` lists it.
. /bin/lib.sh
cat >/tmp/machine.toml <<'END'
[memory]
size = "2GiB"
layout = "scattered"

[[device]]
address = "0000:00:03.0"
model = "edu"

[[device]]
address = "0000:00:04.0"
model = "nvme"
size = "1MiB"
END
devices=$(cd /sys/bus/pci/drivers/vfio-pci && echo 0*)
if ioasis conform --device $devices --json >/tmp/kernel.json; then
    pass "no row fails"
else
    # Once more, in words.
    says "no row fails" "^ all " ioasis conform --device $devices
fi
says "no row fails on a machine" '"mode"' ioasis --machine /tmp/machine.toml conform --json
mv /tmp/out /tmp/machine.json
says "both agree" "in 0 of them both were asked\|^no difference" ioasis conform --compare /tmp/machine.json /tmp/kernel.json
finish
