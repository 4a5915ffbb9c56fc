//! The driver that a machine file gives to a device.

use serde::Deserialize;

/// The driver that a device has when the machine starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Driver {
    /// `vfio-pci`
    #[default]
    VfioPci,
    /// None.
    None,
    /// A driver of the host, by name. It leaves the device alone, but while it has it, memory is the host's to give: no
    /// device of its iommu_group can be had by programs, unless it is a driver that does no DMA (`pci-stub`, `pcieport`).
    Host(String),
}

/// The name of the driver of VFIO.
pub(crate) const VFIO_PCI: &str = "vfio-pci";

impl Driver {
    /// Its name, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Driver::VfioPci => Some(VFIO_PCI),
            Driver::None => None,
            Driver::Host(name) => Some(name),
        }
    }
}

impl TryFrom<String> for Driver {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        match name.as_str() {
            VFIO_PCI => Ok(Driver::VfioPci),
            "none" => Ok(Driver::None),
            // It names a folder of sysfs.
            "" | "." | ".." => Err(format!("{name:?} is not the name of a driver")),
            _ if !name.bytes().all(fits) => Err(format!("{name:?} is not the name of a driver")),
            _ => Ok(Driver::Host(name)),
        }
    }
}
