//! Devices with threads of their own, and programs with several.

use std::sync::atomic::{AtomicBool, Ordering};

use machine::model::{DoorbellWindow, Identity, Model, Reach, Register, Work};
use machine::{CustomDevice, Driver, Machine, MachineSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::{Sys, Tailed};
use uapi::Command;
use uapi::vfio::*;

use crate::common::*;

/// A device with a doorbell and a line: a new value raises it, a write to the register at 0 lowers it.
struct Buzzer {
    seen: u32,
}

impl Model for Buzzer {
    fn identity(&self) -> Identity {
        Identity { line: true, ..identity(8192) }
    }

    fn doorbells(&self) -> Option<DoorbellWindow> {
        Some(DoorbellWindow { bar: 0, offset: 4096, length: 4096 })
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        0
    }

    fn write(&mut self, _: Register, _: u64, reach: &mut Reach<'_>) {
        reach.interrupts.line(false);
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        let value = reach.doorbells.load(0);
        if value == self.seen {
            return Work::Idle;
        }
        self.seen = value;
        reach.interrupts.line(true);
        Work::More
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        self.seen = 0;
    }
}

fn buzzer() -> Machine {
    let model = Box::new(Buzzer { seen: 0 });
    let device = CustomDevice { address: EDU.parse().unwrap(), model, thread: true, driver: Driver::VfioPci };
    Machine::with_devices(MachineSpec::default(), vec![device]).unwrap()
}

fn unmask(machine: &Machine, device: &Attached) {
    let mut set = Tailed::new(
        VfioIrqSet {
            flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
            index: VFIO_PCI_INTX_IRQ_INDEX,
            count: 1,
            ..Command::new()
        },
        0,
    );
    machine.ioctl_tailed(&device.device, &mut set).unwrap();
}

/// A rise of the line is told at once, wherever the thread is on its way to sleep, and though the program makes no call
/// of the machine while it waits.
#[test]
fn a_line_that_rises_on_a_thread_needs_no_call() {
    let machine = buzzer();
    let device = Attached::new(&machine);
    let event = device.interrupt(&machine, VFIO_PCI_INTX_IRQ_INDEX);
    let bar = device.bar(&machine, 8192);
    for round in 1..200 {
        bar.write32(4096, round);
        let ten_seconds = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&ten_seconds)).unwrap();
        assert_eq!(count(&event), 1, "round {round}");
        bar.write32(0, 0);
        unmask(&machine, &device);
    }
}

/// Opening, mapping and dropping from several threads at a time.
#[test]
fn threads_share_a_machine() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    device.set_bus_master(&machine, true);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(bar.read32(0), 0x0100_00ed);
                let copy = machine.try_clone(&device.device).unwrap();
                assert!(device.region(&machine, 0).size > 0);
                drop(copy);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let (memory, _) = device.memory(&machine, 4 * 4096);
                    drop(memory);
                    let other = open(&machine, "/dev/iommu").unwrap();
                    drop(other);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(machine.usage().files, 2);
    drop((bar, device));
    assert_eq!(machine.usage().files, 0);
}
