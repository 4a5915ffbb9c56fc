//! Machines with an `edu` device.

use ioasis::machine::LayoutKind;
use ioasis::machine::{DeviceSpec, Iommu, Machine, MachineSpec, MemorySpec, ModelSpec};
use ioasis::{Device, Options, PciAddress};

/// Where the device is.
pub(crate) fn address() -> PciAddress {
    "0000:01:00.0".parse().unwrap()
}

/// A machine with the device, run inline, and memory in this layout.
pub(crate) fn machine(layout: LayoutKind) -> Machine {
    machine_with(layout, Iommu::None)
}

/// The same with an IOMMU or without.
pub(crate) fn machine_with(layout: LayoutKind, iommu: Iommu) -> Machine {
    let edu = DeviceSpec::new("0000:01:00.0".parse().unwrap(), ModelSpec::Edu).inline();
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    Machine::from_spec(MachineSpec { iommu, devices: vec![edu], memory, ..MachineSpec::default() }).unwrap()
}

/// The device of a machine, opened.
pub(crate) fn open(machine: &Machine) -> Device<Machine> {
    Device::open(machine, address(), &Options::new().allow_noiommu(true)).unwrap()
}
