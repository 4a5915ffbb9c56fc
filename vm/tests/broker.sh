#!/bin/sh
# No IOMMU, devices without a driver: taken by --bind and given back, and opened for an ordinary user.
. /bin/lib.sh

device=/sys/bus/pci/devices/$NVME
parameter=/sys/module/vfio/parameters/enable_unsafe_noiommu_mode

# untouched NAME: the controller is as it was before.
untouched() {
    says "$1: no driver" "^none\$" driver_of "$NVME"
    says "$1: no override" "^(null)\$" cat "$device/driver_override"
}

# status_is NAME NUMBER COMMAND…
status_is() {
    name=$1 number=$2
    shift 2
    "$@" >/tmp/out 2>/tmp/err
    status=$?
    [ "$status" = "$number" ] && pass "$name" || fail "$name" "the status is $status"
}

# stopped NAME SIGNAL NUMBER WORDS: a shell that does this after it has started is sent the signal, from outside of --bind.
stopped() {
    name=$1 signal=$2 number=$3
    rm -f /tmp/started
    ioasis --bind --allow-noiommu open "$NVME" --user 1000:1000 -- sh -c "$4" >/tmp/out 2>/tmp/err &
    while [ ! -e /tmp/started ]; do sleep 0.1; done
    kill "-$signal" $!
    wait $!
    status=$?
    [ "$status" = "$number" ] && pass "$name" || fail "$name" "the status is $status"
}

says "--bind: the image reads back" "$(cat /etc/image.sha256)" image_sum --bind --allow-noiommu
untouched "after a run"
status_is "--bind: the status is the command's" 7 \
    ioasis --bind --allow-noiommu open "$NVME" --user 1000:1000 -- sh -c "readlink $device/driver | grep -q vfio-pci && exit 7"
untouched "after an error"
status_is "--bind: a command that is killed" 137 \
    ioasis --bind --allow-noiommu open "$NVME" --user 1000:1000 -- sh -c 'kill -KILL $$'
untouched "after a kill"
stopped "--bind: TERM is passed on" TERM 143 'touch /tmp/started; exec sleep 1000'
untouched "after TERM"
stopped "--bind: Ctrl-C is passed on" INT 9 'trap "exit 9" INT; touch /tmp/started; while :; do sleep 0.1; done'
untouched "after Ctrl-C"
refused "--bind: a device that may not be taken goes back" "has no IOMMU: in mode iommufd-noiommu it reaches all" \
    ioasis --bind nvme identify "$NVME"
untouched "after a refusal"
echo N >$parameter
refused "--bind: the mode for devices without an IOMMU is off" "echo Y > $parameter" \
    ioasis --bind --allow-noiommu nvme identify "$NVME"
echo Y >$parameter
untouched "with the mode off"
refused "--bind: a mounted folder of the host" "in use on this host.*host is mounted on /host" \
    ioasis --bind --allow-noiommu nvme identify 0000:00:1e.0
refused "--bind: a bridge" "is a PCI bridge" ioasis --bind --allow-noiommu nvme identify 0000:00:07.0
refused "--bind: no such device" "there is no PCI device 0000:00:1d.7" \
    ioasis --bind --allow-noiommu nvme identify 0000:00:1d.7
refused "--bind: not root" "only root may; run this by sudo" as_user ioasis --bind --allow-noiommu nvme identify "$NVME"
untouched "after refusals"

bind vfio-pci "$NVME"
printf 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n' >/etc/passwd
opened="ioasis --allow-noiommu open $NVME --user user"
$opened -- cat /proc/self/status >/tmp/status
says "open: the user's id" "^Uid:	1000	1000	1000	1000\$" cat /tmp/status
says "open: the user's group" "^Gid:	1000	1000	1000	1000\$" cat /tmp/status
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
    says "open: nothing in $set" "^$set:	0000000000000000\$" cat /tmp/status
done
says "open: nothing can be gained" "^NoNewPrivs:	1\$" cat /tmp/status
says "open: the user before sudo" "^Uid:	1001	1001" \
    env SUDO_UID=1001 SUDO_GID=1001 ioasis --allow-noiommu open "$NVME" -- cat /proc/self/status
refused "open: root is told nobody" "name one by --user NAME" ioasis --allow-noiommu open "$NVME" -- true
refused "open: root is told root" "\"root\" is root" ioasis --allow-noiommu open "$NVME" --user root -- true
refused "open: only where it is allowed" "in mode iommufd-noiommu it reaches all of physical memory; allow it" \
    ioasis open "$NVME" --user user -- true
status_is "open: the status is the command's" 42 $opened -- sh -c 'exit 42'
says "open: the image reads back" "$(cat /etc/image.sha256)" sh -c "$opened -- ioasis --allow-noiommu nvme read $NVME --all -o - | sha256sum"
refused "open: the kernel tells the user no address" "IOMMU_IOAS_NOIOMMU_GET_PA on IOMMUFD context.*EPERM" \
    $opened -- sh -c "LISTEN_FDNAMES=vfio-device:iommufd:other exec ioasis --allow-noiommu nvme identify $NVME"
refused "open: another process is not meant" "this user may not open the node" \
    $opened -- sh -c "ioasis --allow-noiommu nvme identify $NVME; exit \$?"
refused "open: memory is counted" "raise the limit (ulimit -l)" \
    $opened --memlock 4k -- ioasis --allow-noiommu nvme identify "$NVME"

# The translator: seen while its command waits.
mkfifo /tmp/wait
chmod 666 /tmp/wait
$opened -- sh -c 'cat /tmp/wait' &
command=$!
translator() { for entry in /proc/[0-9]*; do grep -q translate "$entry/cmdline" 2>/dev/null && echo "$entry"; done; }
while [ -z "$(translator)" ] || ! grep -q '^CapEff:	0000000000020000$' "$(translator)/status" 2>/dev/null; do sleep 0.1; done
translator=$(translator)
cp "$translator/status" /tmp/status
says "translator: CAP_SYS_RAWIO alone" "^CapPrm:	0000000000020000\$" cat /tmp/status
says "translator: nothing to inherit or regain" "^CapBnd:	0000000000000000\$" cat /tmp/status
says "translator: the user's id" "^Uid:	1000	1000	1000	1000\$" cat /tmp/status
says "translator: cannot gain more" "^NoNewPrivs:	1\$" cat /tmp/status
refused "translator: the user cannot look into it" "Permission denied" as_user ls "$translator/fd"
echo >/tmp/wait
wait $command
while grep -q "^State:	[^Z]" "$translator/status" 2>/dev/null; do sleep 0.1; done
pass "translator: ends with its command"

ioasis --allow-noiommu bench get-pa --device "$NVME" >/tmp/direct 2>&1
$opened --memlock 1G -- ioasis --allow-noiommu bench get-pa --device "$NVME" >/tmp/asked 2>&1
says "GET_PA by the translator is measured" "^ 4 KiB  *[0-9]" cat /tmp/asked
echo "  GET_PA itself: $(grep '^ 4 KiB' /tmp/direct); by the translator: $(grep '^ 4 KiB' /tmp/asked)"
finish
