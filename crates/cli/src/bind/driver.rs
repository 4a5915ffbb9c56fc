//! A device and the driver of the host that it is taken from (kernel document `ABI/testing/sysfs-bus-pci`).

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use ioasis::{Linux, PciAddress};
use sys::Suite;

use super::{Host, users};
use crate::output::complain;

const VFIO: &str = "vfio-pci";
/// How the class code of a bridge between PCI buses starts.
const BRIDGE: &str = "0x0604";
const NOIOMMU: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// A device that can be taken.
#[derive(Debug)]
pub(super) struct Plan {
    address: PciAddress,
    /// Its folder in sysfs.
    folder: PathBuf,
    /// The folder of drivers.
    drivers: PathBuf,
    /// The driver that has it.
    former: Option<String>,
    /// What `driver_override` holds.
    wish: String,
}

impl Plan {
    /// Sees whether a device can be taken, and changes nothing. `None` if vfio-pci has it already.
    pub(super) fn make(host: &Host, address: PciAddress) -> Result<Option<Self>> {
        let folder = host.path("sys/bus/pci/devices").join(address.to_string());
        ensure!(folder.exists(), "there is no PCI device {address}: no {}", folder.display());
        let former = driver(&folder);
        if former.as_deref() == Some(VFIO) {
            return Ok(None);
        }
        let class = fs::read_to_string(folder.join("class")).unwrap_or_default();
        ensure!(
            !class.starts_with(BRIDGE),
            "{address} is a PCI bridge, with other devices behind it; {VFIO} takes none"
        );
        let wish = folder.join("driver_override");
        let cannot = |error: std::io::Error| {
            let why = match error.kind() {
                ErrorKind::PermissionDenied => "only root may; run this by sudo".to_owned(),
                _ => error.to_string(),
            };
            Error::msg(format!("cannot take {address} from its driver: {}: {why}", wish.display()))
        };
        File::options().write(true).open(&wish).map_err(cannot)?;
        let drivers = host.path("sys/bus/pci/drivers");
        ensure!(
            drivers.join(VFIO).exists(),
            "the kernel has no driver {VFIO} for {address}: load its module (modprobe {VFIO}), or take a kernel that is \
             built with CONFIG_VFIO_PCI"
        );
        let users = users::find(host, &folder)?;
        ensure!(
            users.is_empty(),
            "{address} is in use on this host, and stays with its driver {}: {}",
            former.as_deref().unwrap_or("(none)"),
            users.join("; ")
        );
        if !folder.join("iommu_group").exists() {
            check_noiommu(host, address)?;
        }
        let wish = fs::read_to_string(&wish).map_err(cannot)?;
        Ok(Some(Plan { address, folder, drivers, former, wish }))
    }

    /// Binds the device to vfio-pci.
    pub(super) fn take(self) -> Result<Taken> {
        // Where the log cannot be read, the message goes without it.
        let mark = Linux.log_mark().ok();
        let taken = Taken { plan: self, held: true };
        let Plan { address, folder, drivers, former, .. } = &taken.plan;
        write(&folder.join("driver_override"), VFIO)?;
        if former.is_some() {
            write(&folder.join("driver/unbind"), &address.to_string())?;
        }
        // It says that all went well where the driver refused the device too, so that the link is read back.
        write(&drivers.with_file_name("drivers_probe"), &address.to_string())?;
        match driver(folder) {
            Some(driver) if driver == VFIO => Ok(taken),
            found => {
                let log = mark.and_then(|mark| Linux.log_since(mark).ok()).unwrap_or_default();
                let about = |line: &&String| line.contains(&address.to_string()) || line.contains("vfio");
                let log: Vec<String> = log.iter().filter(about).map(|line| format!("\n  {line}")).collect();
                bail!(
                    "{VFIO} did not take {address}: its driver is {}. The kernel's log says:{}",
                    found.as_deref().unwrap_or("none"),
                    if log.is_empty() { " nothing (see dmesg)".to_owned() } else { log.concat() }
                )
            }
        }
    }
}

/// Without an IOMMU vfio-pci takes a device only where its administrator has allowed it.
fn check_noiommu(host: &Host, address: PciAddress) -> Result<()> {
    let parameter = host.path(NOIOMMU);
    match fs::read_to_string(&parameter) {
        Ok(text) if text.trim() == "Y" => Ok(()),
        Ok(_) => bail!(
            "{address} has no IOMMU, and {VFIO} refuses such devices unless they are allowed to reach all of memory: echo Y \
             > {}",
            parameter.display()
        ),
        Err(error) => bail!(
            "{address} has no IOMMU, and this kernel has no mode for such devices ({}: {error}): it is built without \
             CONFIG_VFIO_NOIOMMU, or its module vfio is not loaded",
            parameter.display()
        ),
    }
}

/// A device that was taken, given back at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    plan: Plan,
    held: bool,
}

impl Taken {
    /// Gives the device back to the driver that it was taken from.
    pub(super) fn give_back(mut self) -> Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        self.held = false;
        let Plan { address, folder, drivers, former, wish } = &self.plan;
        let text = address.to_string();
        let restore = || -> Result<()> {
            if driver(folder).as_deref() == Some(VFIO) {
                write(&folder.join("driver/unbind"), &text)?;
            }
            // An empty line takes the wish back, which the kernel shows as "(null)".
            let wish = wish.trim_end();
            write(&folder.join("driver_override"), if wish == "(null)" { "\n" } else { wish })?;
            match former {
                Some(former) if driver(folder).as_ref() != Some(former) => {
                    write(&drivers.join(former).join("bind"), &text)?
                }
                _ => {}
            }
            let now = driver(folder);
            ensure!(now == *former, "its driver is {}", now.as_deref().unwrap_or("none"));
            Ok(())
        };
        restore().with_context(|| match former {
            Some(former) => format!(
                "{address} could not be given back to its driver {former} (try: echo {address} > {})",
                drivers.join(former).join("bind").display()
            ),
            None => format!("{address} could not be left without a driver, as it was before"),
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.held
            && let Err(error) = self.restore()
        {
            complain(&format!("error: {error:#}"));
        }
    }
}

/// The driver that has a device.
fn driver(folder: &Path) -> Option<String> {
    let link = fs::read_link(folder.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Writes an attribute of sysfs.
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {:?} to {}", text.trim_end(), path.display()))
}
