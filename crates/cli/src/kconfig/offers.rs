//! What a kernel of a configuration offers, asked of a machine that is built so.

use std::fmt;
use std::path::Path;

use anyhow::{Error, Result};
use ioasis::{Device, Mode, Options, Sys};
use machine::kconfig::{Kconfig, Symbol};
use machine::{CAPABILITIES, DeviceSpec, Machine, MachineSpec, ModelSpec};

/// What there is of a device without an IOMMU whose driver is vfio-pci.
pub(super) struct Offers {
    /// Its nodes.
    nodes: Vec<String>,
    /// Whether it can be driven through IOMMUFD, which tells the physical addresses of its memory.
    iommufd: bool,
}

impl Offers {
    /// Those of a kernel with the driver and this configuration.
    pub(super) fn of(config: Kconfig) -> Result<Offers> {
        if !config.has(Symbol::VfioPci) {
            return Ok(Offers { nodes: Vec::new(), iommufd: false });
        }
        const ADDRESS: &str = "0000:01:00.0";
        let spec = MachineSpec {
            capabilities: CAPABILITIES.map(String::from).to_vec(),
            kconfig: config,
            devices: vec![DeviceSpec::new(ADDRESS.parse().map_err(Error::msg)?, ModelSpec::Edu).inline()],
            ..MachineSpec::default()
        };
        let machine = Machine::from_spec(spec)?;
        let below = |folder: &str| {
            let names = machine.read_dir(Path::new(folder)).unwrap_or_default();
            let names = names.into_iter().filter(|name| name.starts_with("noiommu-"));
            names.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
        };
        let options = Options::new().allow_noiommu(true).mode(Mode::IommufdNoiommu);
        let nodes = [below("/dev/vfio"), below("/dev/vfio/devices")].concat();
        Ok(Offers { nodes, iommufd: Device::open(&machine, ADDRESS.parse()?, &options).is_ok() })
    }
}

impl fmt::Display for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&self.nodes.join(", "))?;
        f.write_str(if self.iommufd { ", GET_PA" } else { "" })
    }
}
