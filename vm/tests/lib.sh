# What the scripts of this folder check with. Each check prints a line; `finish` ends the script.
NVME=0000:00:04.0  # over the image whose sha256 is in /etc/image.sha256
SPARE=0000:01:00.0 # an NVMe controller that may be written to
EDU=0000:00:03.0
passed=0 failed=0

pass() {
    echo "  ok    $1"
    passed=$((passed + 1))
}

# fail NAME WHY: with what the command printed.
fail() {
    echo "  FAIL  $1: $2"
    sed 's/^/        | /' /tmp/out /tmp/err
    failed=$((failed + 1))
}

# says NAME WORDS COMMAND…: it succeeds, and its standard output matches WORDS.
says() {
    name=$1 words=$2
    shift 2
    if ! "$@" >/tmp/out 2>/tmp/err; then
        fail "$name" "$* failed"
    elif ! grep -q -e "$words" /tmp/out; then
        fail "$name" "$* did not say: $words"
    else
        pass "$name"
    fi
}

# refused NAME WORDS COMMAND…: it fails, and its standard error matches WORDS.
refused() {
    name=$1 words=$2
    shift 2
    if "$@" >/tmp/out 2>/tmp/err; then
        fail "$name" "$* succeeded"
    elif ! grep -q -e "$words" /tmp/err; then
        fail "$name" "$* did not say: $words"
    else
        pass "$name"
    fi
}

finish() {
    echo "  $passed passed, $failed failed"
    [ "$passed" -gt 0 ] && [ "$failed" = 0 ]
    exit
}

# driver_of ADDRESS: the driver that has the device.
driver_of() {
    link=$(readlink "/sys/bus/pci/devices/$1/driver") && basename "$link" || echo none
}

# bind DRIVER ADDRESS…; the driver none leaves them alone.
bind() {
    driver=$1
    shift
    for address; do
        device=/sys/bus/pci/devices/$address
        [ ! -e "$device/driver" ] || echo "$address" >"$device/driver/unbind"
        echo "$driver" >"$device/driver_override"
        [ "$driver" = none ] || echo "$address" >/sys/bus/pci/drivers_probe
        says "$address is bound to $driver" "^$driver\$" driver_of "$address"
    done
}

image_sum() {
    ioasis "$@" nvme read "$NVME" --all -o - | sha256sum
}

# drives MODE NVME-INTERRUPTS EDU-INTERRUPTS OPTION…: in a mode the image reads back as it is, and the demo moves data both
# ways; in modes without an IOMMU only where that is allowed.
drives() {
    mode=$1 nvme=$2 edu=$3
    shift 3
    says "$mode: nvme identify names the mode" "^ mode  *$mode\$" ioasis --mode "$mode" "$@" nvme identify "$NVME"
    says "$mode: the image reads back" "$(cat /etc/image.sha256)" image_sum --mode "$mode" "$@"
    says "$mode: the demo" "every byte was right" \
        ioasis --mode "$mode" "$@" demo --nvme "$SPARE" --edu "$EDU" --overwrite
    cp /tmp/out /tmp/demo
    says "$mode: nvme $nvme" "^NVMe: .* by DMA, $nvme\$" cat /tmp/demo
    says "$mode: edu $edu" "^edu: .* by DMA, $edu:" cat /tmp/demo
    [ -z "$*" ] || refused "$mode: only where it is allowed" "in mode $mode it reaches all of physical memory; allow it" \
        ioasis --mode "$mode" nvme identify "$NVME"
}

# as_user COMMAND…: as an ordinary user.
as_user() {
    mkdir -p /etc
    echo "user:x:1000:1000::/tmp:/bin/sh" >/etc/passwd
    su user -s /bin/sh -c "$*"
}
