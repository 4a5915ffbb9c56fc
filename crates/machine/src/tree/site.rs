//! Where devices are in sysfs, and what it shows of mediated ones (kernel documentation,
//! `Documentation/driver-api/vfio-mediated-device.rst`).

use uapi::Errno;

use super::pci::up;
use super::{Entry, Tree};
use crate::mediated::DRIVER;
use crate::spec::{PciAddress, Uuid};

/// Where a device is in sysfs.
pub(crate) struct Site {
    /// Its directory, without `/sys`.
    pub(crate) folder: String,
    /// Its name, which is that of the directory.
    pub(crate) name: String,
    /// The name of its driver.
    pub(crate) driver: &'static str,
}

impl Site {
    /// That of a function whose directory this is.
    pub(crate) fn of_function(folder: String, address: PciAddress) -> Self {
        Site { folder, name: address.to_string(), driver: "vfio-pci" }
    }

    /// That of a mediated device: below the device that its driver has for a parent.
    pub(crate) fn of_mediated(uuid: Uuid) -> Self {
        Site {
            folder: format!("/devices/virtual/{DRIVER}/{DRIVER}/{uuid}"),
            name: uuid.to_string(),
            driver: DRIVER,
        }
    }
}

impl Tree {
    /// A mediated device, with its driver.
    pub(crate) fn add_mediated(&self, uuid: Uuid) -> Result<(), Errno> {
        let Site { folder, name, driver } = Site::of_mediated(uuid);
        let up = up(&folder);
        self.add(&format!("/sys{folder}/subsystem"), Entry::link(format!("{up}bus/mdev")))?;
        self.add(&format!("/sys{folder}/driver"), Entry::link(format!("{up}bus/mdev/drivers/{driver}")))?;
        self.add(
            &format!("/sys{folder}/uevent"),
            Entry::Text { mode: 0o644, text: format!("DRIVER={driver}\n") },
        )?;
        let link = Entry::link(format!("../../../..{folder}"));
        self.add(&format!("/sys/bus/mdev/drivers/{driver}/{name}"), link)?;
        self.add(&format!("/sys/bus/mdev/devices/{name}"), Entry::link(format!("../../..{folder}")))
    }
}
