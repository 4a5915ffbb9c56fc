# What a program sees of the machine: names, links, kinds of files, attributes.
import errno
import os
import stat

address = "0000:42:00.0"
device = f"/sys/bus/pci/devices/{address}"
assert address in os.listdir("/sys/bus/pci/devices")
assert open(f"{device}/vendor").read() == "0x1234\n"
assert os.path.realpath(device) == f"/sys/devices/pci0000:42/{address}"
assert os.path.basename(os.readlink(f"{device}/driver")) == "vfio-pci"
assert os.path.realpath(f"{device}/iommu_group").startswith("/sys/kernel/iommu_groups/")
assert os.listdir(f"{device}/vfio-dev") == ["vfio0"] or os.listdir(f"{device}/vfio-dev") == ["noiommu-vfio0"]
node = "/dev/vfio/devices/" + os.listdir(f"{device}/vfio-dev")[0]
assert stat.S_ISCHR(os.stat(node).st_mode) and os.major(os.stat(node).st_rdev) == 511
assert os.access(node, os.R_OK | os.W_OK) and not os.path.exists("/dev/vfio/devices/vfio77")

# In every spelling.
os.chdir("/sys/bus/pci")
assert os.getcwd() == "/sys/bus/pci" and open(f"devices/{address}/device").read() == "0x11e8\n"
assert open(f"/sys/./class//../bus/pci/devices/{address}/vendor").read() == "0x1234\n"
directory = os.open("/dev/vfio", os.O_RDONLY | os.O_DIRECTORY)
file = os.open("../iommu", os.O_RDWR, dir_fd=directory)
assert stat.S_ISCHR(os.fstat(file).st_mode) and os.readlink(f"/proc/self/fd/{file}").endswith("/iommu")

# What is refused as the kernel refuses it.
for what, number in [(lambda: os.lseek(file, 0, 0), errno.ESPIPE), (lambda: os.open(node, os.O_RDWR | os.O_DIRECTORY), errno.ENOTDIR)]:
    try:
        what()
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError(f"{number} was expected")

# An attribute that does something, and the host beside it all.
assert open("/sys/module/iommufd/parameters/allow_unsafe_interrupts").read() == "N\n"
with open("/sys/module/iommufd/parameters/allow_unsafe_interrupts", "w") as parameter:
    parameter.write("Y")
assert open("/sys/module/iommufd/parameters/allow_unsafe_interrupts").read() == "Y\n"
assert os.path.exists("/dev/null") and "null" in os.listdir("/dev") and os.listdir("/proc/self/fd")
print("seen")
