//! The educational device: it copies between memory and a page of its own.

use machine::{File, Machine};
use sys::{Mapping, Mmio, Sys};
use uapi::Command;
use uapi::vfio::{VFIO_PCI_CONFIG_REGION_INDEX, VfioRegionInfo};

use crate::buffer::PAGE;
use crate::watch::Step;

const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
/// Where its own page is.
const OWN: u64 = 0x40000;
const START: u64 = 1;
const FROM_DEVICE: u64 = 2;

/// Which way bytes go.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    FromMemory,
    ToMemory,
}

pub(crate) struct Edu<'a> {
    machine: &'a Machine,
    device: &'a File,
    registers: Mmio,
}

impl<'a> Edu<'a> {
    /// On an open device.
    pub(crate) fn new(machine: &'a Machine, device: &'a File) -> Self {
        let offset = region(machine, device, 0).offset;
        let registers = machine.map_region(device, Mapping::registers(offset, PAGE as usize)).unwrap();
        assert_eq!(registers.read32(0), 0x0100_00ed);
        Edu { machine, device, registers }
    }

    pub(crate) fn set_bus_master(&self, on: bool) {
        let command = region(self.machine, self.device, VFIO_PCI_CONFIG_REGION_INDEX).offset + 4;
        let value: u16 = if on { 0x0006 } else { 0x0002 };
        assert_eq!(self.machine.pwrite(self.device, &value.to_le_bytes(), command).unwrap(), 2);
    }

    /// Has a page copied.
    pub(crate) fn start(&self, way: Way, address: u64) {
        let (source, destination, direction) = match way {
            Way::FromMemory => (address, OWN, 0),
            Way::ToMemory => (OWN, address, FROM_DEVICE),
        };
        self.registers.write64(SOURCE, source);
        self.registers.write64(DESTINATION, destination);
        self.registers.write64(COUNT, PAGE);
        self.registers.write64(COMMAND, START | direction);
    }

    pub(crate) fn finish(&self, step: &Step) {
        step.now("waiting for a device");
        while self.registers.read64(COMMAND) & START != 0 {
            std::thread::yield_now();
        }
    }
}

fn region(machine: &Machine, device: &File, index: u32) -> VfioRegionInfo {
    let mut region = VfioRegionInfo { index, ..Command::new() };
    machine.ioctl(device, &mut region).unwrap();
    region
}
