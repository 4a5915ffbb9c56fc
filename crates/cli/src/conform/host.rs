//! Whether the host can be asked at all. Whatever is missing is named before anything is changed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use ioasis::{Linux, PciAddress, Sys};

/// Checks the caller, the devices and the kernel. Nothing is unbound from a driver of the host: the devices have to be
/// bound to vfio-pci already.
pub(super) fn check(devices: &[PciAddress]) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "devices of the host are opened and taken from their driver, and module parameters set: it has to run as root"
    );
    for address in devices {
        check_bound(*address)?;
    }
    ensure!(
        exists(Path::new("/dev/iommu")),
        "this kernel has no /dev/iommu, which the suite is about: it is older than Linux 6.2, built without IOMMUFD, or \
         the module is not loaded (modprobe iommufd)"
    );
    for address in devices {
        check_device_file(*address)?;
    }
    Ok(())
}

fn check_bound(address: PciAddress) -> Result<()> {
    let folder = folder(address);
    ensure!(exists(&folder), "there is no PCI device {address}: no {}", folder.display());
    let bind = if exists(Path::new("/sys/bus/pci/drivers/vfio-pci")) {
        format!("bind it to vfio-pci first (driverctl set-override {address} vfio-pci)")
    } else {
        "load vfio-pci (modprobe vfio-pci; the kernel is to be built with VFIO_PCI) and bind it to that"
            .to_owned()
    };
    match Linux.read_link(&folder.join("driver")) {
        Ok(driver) if driver.ends_with("vfio-pci") => Ok(()),
        Ok(driver) => {
            let driver = driver.file_name().unwrap_or_default().display();
            bail!("{address} is in use by the driver {driver}; if nobody needs it, {bind}")
        }
        Err(_) => bail!("{address} has no driver; {bind}"),
    }
}

/// Each device has a device file, or the kernel is without them.
fn check_device_file(address: PciAddress) -> Result<()> {
    let folder = folder(address).join("vfio-dev");
    let names = Linux.read_dir(&folder).unwrap_or_default();
    ensure!(
        names.iter().any(|name| exists(&folder.join(name).join("dev"))),
        "{address} has no device file in /dev/vfio/devices: the kernel is built without VFIO_DEVICE_CDEV, or the device is \
         without an IOMMU and the kernel is older than Linux 7.3 or built without VFIO_NOIOMMU"
    );
    Ok(())
}

fn folder(address: PciAddress) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address.to_string())
}

fn exists(path: &Path) -> bool {
    Linux.stat(path).is_ok()
}
