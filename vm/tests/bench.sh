#!/bin/sh
# The same calls on both sides, the kernel and an embedded machine, into one file.
. /bin/lib.sh

cat >/tmp/machine.toml <<END
[memory]
layout = "contiguous"
size = "4GiB"

[[device]]
address = "$EDU"
model = "edu"
END
for what in map unmap get-pa ioctl interrupt; do
    echo "  $what" >&2
    ioasis --allow-noiommu bench "$what" --device "$EDU" --json || exit
    ioasis --machine /tmp/machine.toml bench "$what" --json || exit
done >/tmp/bench.json
