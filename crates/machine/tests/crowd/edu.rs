//! The educational device: it copies between memory and a page of its own.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use machine::{File, Machine};
use rustix::event::{EventfdFlags, eventfd};
use sys::{Mapping, Mmio, Sys, Tailed};
use uapi::Command;
use uapi::vfio::*;

use crate::buffer::PAGE;
use crate::common::count;
use crate::watch::Step;

const ACKNOWLEDGE: usize = 0x64;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
/// Where its own page is.
const OWN: u64 = 0x40000;
const START: u64 = 1;
const FROM_DEVICE: u64 = 2;
const INTERRUPT: u64 = 4;
/// What the interrupt says: a copy is made.
const COPIED: u32 = 0x100;

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
    /// The interrupt that tells when it is done, if any, and what that signals.
    interrupt: Option<(u32, OwnedFd)>,
}

impl<'a> Edu<'a> {
    /// On an open device.
    pub(crate) fn new(machine: &'a Machine, device: &'a File) -> Self {
        let offset = region(machine, device, 0).offset;
        let registers = machine.map_region(device, Mapping::registers(offset, PAGE as usize)).unwrap();
        assert_eq!(registers.read32(0), 0x0100_00ed);
        Edu { machine, device, registers, interrupt: None }
    }

    pub(crate) fn set_bus_master(&self, on: bool) {
        let command = region(self.machine, self.device, VFIO_PCI_CONFIG_REGION_INDEX).offset + 4;
        let value: u16 = if on { 0x0006 } else { 0x0002 };
        assert_eq!(self.machine.pwrite(self.device, &value.to_le_bytes(), command).unwrap(), 2);
    }

    /// It is to say when it is done, by an interrupt of this index.
    pub(crate) fn listen(&mut self, index: u32) {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set_irqs(index, flags, &event.as_raw_fd().to_ne_bytes());
        self.interrupt = Some((index, event));
    }

    fn set_irqs(&self, index: u32, flags: u32, data: &[u8]) {
        let argsz = (size_of::<VfioIrqSet>() + data.len()) as u32;
        let mut set = Tailed::new(VfioIrqSet { argsz, flags, index, start: 0, count: 1 }, data.len());
        set.tail_mut().copy_from_slice(data);
        self.machine.ioctl_tailed(self.device, &mut set).unwrap();
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
        let interrupt = if self.interrupt.is_some() { INTERRUPT } else { 0 };
        self.registers.write64(COMMAND, START | direction | interrupt);
    }

    pub(crate) fn finish(&self, step: &Step) {
        if let Some((index, event)) = &self.interrupt {
            step.now("waiting for an interrupt");
            assert_eq!(self.machine.wait(&[event.as_fd()], None).unwrap(), [true]);
            assert_eq!(count(event), 1);
            self.registers.write32(ACKNOWLEDGE, COPIED);
            if *index == VFIO_PCI_INTX_IRQ_INDEX {
                self.set_irqs(*index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, &[]);
            }
        }
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
