//! Machines with an `edu` device, and its driver as far as the tests need it.

use std::time::Duration;

use ioasis::machine::ram::LayoutKind;
use ioasis::machine::{DeviceSpec, Machine, MachineSpec, MemorySpec, ModelSpec};
use ioasis::{Bar, Device, DeviceAddr, Interrupt, Options, PciAddress};

/// The device's own buffer, 4096 bytes at this address of its own.
const DEVICE_BUFFER: u64 = 0x4_0000;

/// Which way bytes go.
#[derive(Clone, Copy)]
pub enum Way {
    ToDevice = 1,
    FromDevice = 1 | 2,
}

/// Where the device is.
pub fn address() -> PciAddress {
    "0000:01:00.0".parse().unwrap()
}

/// A machine with the device, run inline, and memory in this layout.
pub fn machine(layout: LayoutKind) -> Machine {
    let edu = DeviceSpec::new("0000:01:00.0".parse().unwrap(), ModelSpec::Edu).inline();
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    Machine::from_spec(MachineSpec { devices: vec![edu], memory, ..MachineSpec::default() }).unwrap()
}

/// The device of a machine, opened.
pub fn open(machine: &Machine) -> Device<Machine> {
    Device::open(machine, address(), &Options::new().allow_noiommu(true)).unwrap()
}

/// Copies bytes between memory and the device's buffer, with an interrupt at the end.
pub fn copy(registers: &Bar, done: &Interrupt<Machine>, memory: DeviceAddr, count: u64, way: Way) {
    start_copy(registers, memory, count, way, true);
    assert_eq!(done.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
    registers.write32(0x64, registers.read32(0x24));
}

/// The same without waiting for the end.
pub fn start_copy(registers: &Bar, memory: DeviceAddr, count: u64, way: Way, interrupt: bool) {
    let (source, destination) = match way {
        Way::ToDevice => (memory.get(), DEVICE_BUFFER),
        Way::FromDevice => (DEVICE_BUFFER, memory.get()),
    };
    registers.write64(0x80, source);
    registers.write64(0x88, destination);
    registers.write64(0x90, count);
    registers.write32(0x98, way as u32 | if interrupt { 4 } else { 0 });
}
