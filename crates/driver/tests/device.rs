//! Configuration space, I/O ports and MSI-X, on a device that has them all.
#![forbid(unsafe_code)]

mod common;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{address, open};
use ioasis::machine::LayoutKind;
use ioasis::machine::model::{Bar, BarKind, Express, Identity, Model, MsixSpec, Reach, Register, Work};
use ioasis::machine::{CustomDevice, Driver, Machine, MachineSpec};
use ioasis::{Error, InterruptKind, MsixCapability, Sys};
use rustix::event::{PollFd, PollFlags, poll};

const BELL: u64 = 0x10;

/// BAR 0 is memory, and a write at `BELL` sends the interrupt of that number; BAR 4 is I/O ports that keep what is
/// written.
struct Everything {
    ports: [AtomicU32; 4],
}

impl Model for Everything {
    fn identity(&self) -> Identity {
        let memory = Bar { size: 0x4000, kind: BarKind::Memory64 };
        let ports = Bar { size: 16, kind: BarKind::Io };
        let msix = MsixSpec {
            vectors: 5,
            table_bar: 0,
            table_offset: 0x2000,
            pending_bar: 0,
            pending_offset: 0x3000,
        };
        Identity {
            vendor: 0x1234,
            device: 0x5678,
            subsystem_vendor: 0x4321,
            subsystem: 0x8765,
            revision: 3,
            class: 0x02_0000,
            bars: [Some(memory), None, None, None, Some(ports), None],
            line: false,
            msi: Some(4),
            msix: Some(msix),
            express: Some(Express { function_reset: true }),
            dma_bits: 64,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        match (at.bar, self.ports.get(at.offset as usize / 4)) {
            (4, Some(port)) => u64::from(port.load(Ordering::Relaxed) >> (at.offset % 4 * 8)),
            _ => u64::MAX,
        }
    }

    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>) {
        match (at.bar, at.offset) {
            (0, BELL) => reach.interrupts.message(value as u16),
            (4, offset) => self.ports[offset as usize / 4].store(value as u32, Ordering::Relaxed),
            _ => {}
        }
    }

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        *self = Everything { ports: Default::default() };
    }
}

fn machine() -> Machine {
    let model = Box::new(Everything { ports: Default::default() });
    let address = address().to_string().parse().unwrap();
    let device = CustomDevice { address, model, thread: false, driver: Driver::VfioPci };
    Machine::with_devices(MachineSpec::default(), vec![device]).unwrap()
}

#[test]
fn capabilities_are_read_as_they_are() {
    let device = open(&machine());
    let config = device.config();
    assert_eq!(config.subsystem().unwrap(), (0x4321, 0x8765));
    let capabilities = config.capabilities().unwrap();
    assert!(capabilities.iter().all(|capability| (0x40..0x100).contains(&capability.offset)));

    let msix = config.msix().unwrap().unwrap();
    let offset = config.find(0x11).unwrap().unwrap();
    assert_eq!(
        msix,
        MsixCapability {
            offset,
            enabled: false,
            masked: false,
            vectors: 5,
            table: (0, 0x2000),
            pending: (0, 0x3000)
        }
    );
    assert_eq!(config.msi().unwrap().unwrap().vectors, 4);
    let express = config.express().unwrap().unwrap();
    assert_eq!((express.device_type, express.function_reset), (0, true));
    assert_eq!(config.find(0xfe).unwrap(), None);
}

#[test]
fn each_vector_of_msix_has_its_eventfd() {
    let device = open(&machine());
    let vectors = device.interrupts().msix(5).unwrap();
    assert!(device.config().msix().unwrap().unwrap().enabled);
    device.set_bus_master(true).unwrap();
    let bell = device.bar(0).unwrap();
    for vector in [3, 0, 3] {
        bell.write32(BELL as usize, vector);
    }
    let counts: Vec<_> = vectors.iter().map(|vector| vector.try_take().unwrap()).collect();
    assert_eq!(counts, [Some(1), None, None, Some(2), None]);
    assert!(vectors.iter().all(|vector| vector.kind() == InterruptKind::Msix));
    assert_eq!(vectors[3].index(), 3);

    bell.write32(BELL as usize, 4);
    let mut foreign = [PollFd::from_borrowed_fd(vectors[4].as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut foreign, Some(&Default::default())).unwrap(), 1, "any runtime can wait for it");
    assert_eq!(vectors[4].wait(Some(Duration::ZERO)).unwrap(), Some(1));

    let error = device.interrupts().msix(6).unwrap_err();
    assert!(matches!(error, Error::TooFewInterrupts { asked: 6, offered: 5, .. }), "{error}");
}

#[test]
fn registers_that_cannot_be_mapped_are_reached_by_calls() {
    let machine = machine();
    let device = open(&machine);
    let ports = device.bar(4).unwrap();
    assert_eq!(ports.length(), 16);
    ports.write32(8, 0xaabb_ccdd);
    assert_eq!((ports.read32(8), ports.read16(10), ports.read8(9)), (0xaabb_ccdd, 0xaabb, 0xcc));
    assert!(ports.try_read32(16).is_err());
    assert!(matches!(device.bar(1), Err(Error::Missing { .. })), "the upper half of BAR 0");
}

#[test]
fn a_reset_empties_the_registers() {
    let device = open(&machine());
    device.set_bus_master(true).unwrap();
    let ports = device.bar(4).unwrap();
    ports.write32(0, 7);
    device.reset().unwrap();
    let ports_again = device.bar(4).unwrap();
    assert_eq!((ports_again.read32(0), ports.length()), (0, 16));
}

#[test]
fn a_device_without_a_reset_says_so() {
    let edu = common::machine(LayoutKind::Contiguous);
    let error = open(&edu).reset().unwrap_err();
    assert_eq!(error.refusal().unwrap().call(), "VFIO_DEVICE_RESET");
    assert!(error.to_string().contains("cannot reset 0000:01:00.0"), "{error}");
    assert!(edu.name().contains("machine"), "{}", edu.name());
}
