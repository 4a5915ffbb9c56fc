//! What is refused, on a host that is a folder. Taking a device and giving it back is shown on a kernel.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::driver::Plan;
use super::{Host, without_bind};

const ADDRESS: &str = "0000:00:04.0";
/// Where the device is in sysfs.
const DEVICE: &str = "sys/devices/pci0000:00/0000:00:04.0";

/// A host with an NVMe disk of two partitions behind an IOMMU, which nobody uses.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.file("proc/self/mountinfo", "22 1 0:20 / /proc rw,relatime - proc proc rw\n");
        folder.file("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        folder.link("sys/bus/pci/devices/0000:00:04.0", DEVICE);
        folder.file(&format!("{DEVICE}/driver_override"), "(null)\n");
        folder.link(&format!("{DEVICE}/driver"), "sys/bus/pci/drivers/nvme");
        folder.link(&format!("{DEVICE}/iommu_group"), "sys/kernel/iommu_groups/3");
        folder.file("sys/bus/pci/drivers/vfio-pci/bind", "");
        folder.file("sys/bus/pci/drivers/nvme/bind", "");
        let disk = format!("{DEVICE}/nvme/nvme0/nvme0n1");
        folder.disk("nvme0n1", &disk, "259:0");
        folder.disk("nvme0n1p1", &format!("{disk}/nvme0n1p1"), "259:1");
        folder.disk("nvme0n1p2", &format!("{disk}/nvme0n1p2"), "259:2");
        folder
    }

    fn host(&self) -> Host {
        Host(self.0.path().canonicalize().unwrap())
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let (path, target) = (self.0.path().join(path), self.0.path().join(target));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(&target).unwrap();
        symlink(target, path).unwrap();
    }

    fn disk(&self, name: &str, path: &str, number: &str) {
        self.file(&format!("{path}/dev"), &format!("{number}\n"));
        self.link(&format!("sys/class/block/{name}"), path);
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
            .unwrap();
    }

    fn refusal(&self) -> String {
        let error = Plan::make(&self.host(), ADDRESS.parse().unwrap()).unwrap_err();
        format!("{error:#}")
    }

    fn mounts(&self, line: &str) {
        self.file("proc/self/mountinfo", &format!("22 1 0:20 / /proc rw - proc proc rw\n{line}\n"));
    }
}

#[test]
fn a_device_that_nobody_uses_can_be_taken() {
    let folder = Folder::new();
    let plan = Plan::make(&folder.host(), ADDRESS.parse().unwrap()).unwrap();
    assert!(plan.is_some());
    folder.remove(&format!("{DEVICE}/driver"));
    assert!(Plan::make(&folder.host(), ADDRESS.parse().unwrap()).unwrap().is_some(), "without a driver too");
    folder.link(&format!("{DEVICE}/driver"), "sys/bus/pci/drivers/vfio-pci");
    assert!(Plan::make(&folder.host(), ADDRESS.parse().unwrap()).unwrap().is_none(), "it is taken already");
}

#[test]
fn a_device_with_a_mounted_file_system_is_refused_by_name() {
    let folder = Folder::new();
    folder.mounts("40 22 259:1 / /srv/data rw,relatime shared:5 - ext4 /dev/root rw");
    let expected = "0000:00:04.0 is in use on this host, and stays with its driver nvme: nvme0n1p1 is mounted on /srv/data \
                    (umount /srv/data)";
    assert_eq!(folder.refusal(), expected);
    // Of one disk among several the source is told, and the number is the file system's own.
    folder.mounts("40 22 0:40 /@ /mnt rw - btrfs /dev/nvme0n1 rw,space_cache");
    assert!(folder.refusal().contains("nvme0n1 is mounted on /mnt"), "{}", folder.refusal());
    folder.mounts("40 22 8:1 / /mnt rw - ext4 /dev/sda1 rw");
    assert!(Plan::make(&folder.host(), ADDRESS.parse().unwrap()).is_ok(), "another disk");
}

#[test]
fn a_device_with_swap_or_a_volume_is_refused() {
    let folder = Folder::new();
    folder.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p2 partition 1024 0 -2\n");
    folder.link(
        &format!("{DEVICE}/nvme/nvme0/nvme0n1/nvme0n1p1/holders/dm-0"),
        "sys/devices/virtual/block/dm-0",
    );
    let refusal = folder.refusal();
    assert!(refusal.contains("nvme0n1p1 is a part of dm-0"), "{refusal}");
    assert!(refusal.contains("nvme0n1p2 is swap (swapoff /dev/nvme0n1p2)"), "{refusal}");
}

#[test]
fn a_disk_with_several_paths_is_one_of_each_of_its_controllers() {
    let folder = Folder::new();
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    folder.link("sys/class/nvme-subsystem/nvme-subsys0", subsystem);
    folder.link(&format!("{subsystem}/nvme0"), &format!("{DEVICE}/nvme/nvme0"));
    folder.disk("nvme0n2", &format!("{subsystem}/nvme0n2"), "259:7");
    folder.mounts("40 22 259:7 / /mnt rw - xfs /dev/nvme0n2 rw");
    assert!(folder.refusal().contains("nvme0n2 is mounted on /mnt"), "{}", folder.refusal());
}

#[test]
fn a_network_card_that_is_up_is_refused() {
    let folder = Folder::new();
    folder.file(&format!("{DEVICE}/net/eth0/flags"), "0x1002\n");
    folder.link("sys/class/net/eth0", &format!("{DEVICE}/net/eth0"));
    assert!(Plan::make(&folder.host(), ADDRESS.parse().unwrap()).is_ok(), "it is down");
    folder.file(&format!("{DEVICE}/net/eth0/flags"), "0x1003\n");
    assert!(
        folder.refusal().ends_with("the network interface eth0 is up (ip link set eth0 down)"),
        "{}",
        folder.refusal()
    );
}

#[test]
fn a_folder_of_the_machines_host_is_refused() {
    let folder = Folder::new();
    folder.file(&format!("{DEVICE}/virtio5/mount_tag"), "host\0");
    folder.mounts("30 22 0:31 / /host rw - 9p host rw,access=client,trans=virtio");
    assert!(folder.refusal().contains("host is mounted on /host"), "{}", folder.refusal());
}

#[test]
fn a_bridge_is_refused() {
    let folder = Folder::new();
    folder.file(&format!("{DEVICE}/class"), "0x060400\n");
    assert!(folder.refusal().starts_with("0000:00:04.0 is a PCI bridge"), "{}", folder.refusal());
}

#[test]
fn what_the_kernel_lacks_is_named_with_what_to_do() {
    let folder = Folder::new();
    folder.remove(&format!("{DEVICE}/iommu_group"));
    let refusal = folder.refusal();
    assert!(refusal.contains("has no IOMMU, and this kernel has no mode for such devices"), "{refusal}");
    let parameter = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    folder.file(parameter, "N\n");
    let refusal = folder.refusal();
    assert!(refusal.contains("echo Y > ") && refusal.ends_with(parameter), "{refusal}");
    folder.file(parameter, "Y\n");
    assert!(Plan::make(&folder.host(), ADDRESS.parse().unwrap()).is_ok());
    folder.remove("sys/bus/pci/drivers/vfio-pci");
    assert!(folder.refusal().contains("modprobe vfio-pci"), "{}", folder.refusal());
    folder.remove("sys/bus/pci/devices/0000:00:04.0");
    assert!(folder.refusal().starts_with("there is no PCI device 0000:00:04.0"), "{}", folder.refusal());
}

#[test]
fn another_commands_arguments_are_left_alone() {
    let words = |text: &str| text.split(' ').map(Into::into).collect::<Vec<OsString>>();
    let with = words("--bind open 0000:00:04.0 --bind -- ioasis --bind -- --bind");
    let without: Vec<_> = without_bind(with.into_iter()).collect();
    assert_eq!(without, words("open 0000:00:04.0 -- ioasis --bind -- --bind"));
}
