//! PCI devices and their driver in sysfs (kernel documentation, `Documentation/ABI/testing/sysfs-bus-pci`).

use std::fmt::Write;

use subsystem::IommuInfo;
use uapi::Errno;

use super::{DriverId, Entry, Live, Tree};
use crate::bus::{PciFunction, Rom, VirtualFunctions, sriov};
use crate::model::{Bar, BarKind};
use crate::spec::PciAddress;

const DRIVERS: &str = "/sys/bus/pci/drivers";

/// The way from a directory, whose path is without `/sys`, up to `/sys`.
pub(super) fn up(path: &str) -> String {
    "../".repeat(path.matches('/').count())
}

impl Tree {
    /// The bus and its drivers, by number.
    pub(super) fn add_pci(&self, drivers: &[String]) -> Result<(), Errno> {
        let command = |path: &str, live| self.add(path, Entry::Live { mode: 0o200, live });
        for (number, name) in drivers.iter().enumerate() {
            command(&format!("{DRIVERS}/{name}/bind"), Live::Bind(DriverId(number)))?;
            command(&format!("{DRIVERS}/{name}/unbind"), Live::Unbind(DriverId(number)))?;
        }
        command("/sys/bus/pci/drivers_probe", Live::Probe)?;
        command("/sys/bus/pci/rescan", Live::Rescan)?;
        self.add("/sys/bus/pci/devices", Entry::directory())
    }

    /// A device, without a driver. `iommu` serves it.
    pub(crate) fn add_device(&self, function: &PciFunction, iommu: Option<IommuInfo>) -> Result<(), Errno> {
        let (address, number, identity) = (function.address(), function.number(), function.identity());
        let path = self.topology.path(address);
        let attribute = |name: &str, entry| self.add(&format!("/sys{path}/{name}"), entry);
        attribute("vendor", Entry::text(format_args!("{:#06x}", identity.vendor)))?;
        attribute("device", Entry::text(format_args!("{:#06x}", identity.device)))?;
        attribute("subsystem_vendor", Entry::text(format_args!("{:#06x}", identity.subsystem_vendor)))?;
        attribute("subsystem_device", Entry::text(format_args!("{:#06x}", identity.subsystem)))?;
        attribute("class", Entry::text(format_args!("{:#08x}", identity.class)))?;
        attribute("revision", Entry::text(format_args!("{:#04x}", identity.revision)))?;
        attribute("resource", Entry::Text { mode: 0o444, text: resources(function) })?;
        if self.topology.is_port(address) {
            attribute("max_link_speed", Entry::text("2.5 GT/s PCIe"))?;
        }
        attribute("config", Entry::Live { mode: 0o644, live: Live::Config(number) })?;
        attribute("driver_override", Entry::Live { mode: 0o644, live: Live::DriverOverride(number) })?;
        if let Some(functions) = function.virtual_functions() {
            let VirtualFunctions { total, device, .. } = functions;
            attribute("sriov_totalvfs", Entry::text(total))?;
            attribute("sriov_numvfs", Entry::Live { mode: 0o644, live: Live::EnabledVfs(number) })?;
            attribute("sriov_offset", Entry::text(sriov::OFFSET))?;
            attribute("sriov_stride", Entry::text(sriov::STRIDE))?;
            attribute("sriov_vf_device", Entry::text(format_args!("{device:x}")))?;
        }
        attribute("remove", Entry::Live { mode: 0o220, live: Live::Remove(number) })?;
        attribute("subsystem", Entry::link(format!("{}bus/pci", up(&path))))?;
        if let Some(iommu) = iommu {
            self.add_behind_iommu(address, iommu)?;
        }
        self.add(&format!("/sys/bus/pci/devices/{address}"), Entry::link(format!("../../..{path}")))
    }

    /// A device is gone, without a driver; and with the last one its iommu_group, of which the number is told and whether it is gone.
    pub(crate) fn remove_device(&self, address: PciAddress, group: Option<(u32, bool)>) {
        self.remove(&format!("/sys/bus/pci/devices/{address}"));
        if let Some((group, gone)) = group {
            self.remove_behind_iommu(address, group, gone);
        }
        self.remove(&format!("/sys{}", self.topology.path(address)));
    }

    /// A virtual function and its physical one show each other.
    pub(crate) fn link_virtual(
        &self,
        physical: PciAddress,
        function: PciAddress,
        index: u8,
    ) -> Result<(), Errno> {
        let link = |from: PciAddress, name: &str, to: PciAddress| {
            let path = format!("/sys{}/{name}", self.topology.path(from));
            self.add(&path, Entry::link(format!("../{to}")))
        };
        link(physical, &format!("virtfn{index}"), function)?;
        link(function, "physfn", physical)
    }

    /// A file of a device is gone.
    pub(crate) fn remove_file(&self, address: PciAddress, name: &str) {
        self.remove(&format!("/sys{}/{name}", self.topology.path(address)));
    }

    /// A driver is bound to a device.
    pub(crate) fn link_driver(&self, address: PciAddress, name: &str) -> Result<(), Errno> {
        let path = self.topology.path(address);
        self.add(&format!("/sys{path}/driver"), Entry::link(format!("{}bus/pci/drivers/{name}", up(&path))))?;
        self.add(&format!("{DRIVERS}/{name}/{address}"), Entry::link(format!("../../../..{path}")))
    }

    /// It is unbound.
    pub(crate) fn unlink_driver(&self, address: PciAddress, name: &str) {
        self.remove(&format!("/sys{}/driver", self.topology.path(address)));
        self.remove(&format!("{DRIVERS}/{name}/{address}"));
    }
}

/// One line for each BAR, the ROM and six more that a plain function does not have: first and last address, and flags.
fn resources(function: &PciFunction) -> String {
    let mut text = String::new();
    for index in 0..13 {
        let (first, last, flags) = match function.identity().bars.get(index) {
            Some(Some(bar)) => {
                let first = function.bar_address(index);
                (first, first + bar.size - 1, resource_flags(*bar))
            }
            None if index == usize::from(Rom::REGION) => match function.rom() {
                Some(rom) => (rom.address, rom.address + rom.size - 1, ROM_FLAGS),
                None => (0, 0, 0),
            },
            _ => virtual_resource(function, index).unwrap_or((0, 0, 0)),
        };
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "{first:#018x} {last:#018x} {flags:#018x}");
    }
    text
}

/// One of the six last lines: where a BAR of all virtual functions is.
fn virtual_resource(function: &PciFunction, line: usize) -> Option<(u64, u64, u64)> {
    let functions = function.virtual_functions()?;
    let index = line.checked_sub(usize::from(Rom::REGION) + 1)?;
    let (bar, first) = functions.bars.get(index).copied().flatten()?;
    Some((first, first + u64::from(functions.total) * bar.size - 1, resource_flags(bar)))
}

/// Those of an expansion ROM: memory, read-only, prefetchable.
const ROM_FLAGS: u64 = 0x4_6200;

/// The kernel's `IORESOURCE_*` bits: kind, alignment by size, and the type bits of the BAR.
fn resource_flags(bar: Bar) -> u64 {
    match bar.kind {
        BarKind::Memory32 => 0x4_0200,
        BarKind::Memory64 => 0x14_0204,
        BarKind::Io => 0x4_0101,
    }
}
