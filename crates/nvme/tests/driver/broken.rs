//! Controllers that do not work: each gives an error within its timeout.

use std::time::{Duration, Instant};

use ioasis::Command;
use machine::LayoutKind;
use machine::model::{Bar, BarKind, Identity, Model, MsixSpec, Reach, Register, Work};
use machine::{CustomDevice, Driver, Machine, MachineSpec};
use nvme::{Completions, Controller, Error, Operation, Stream};

use crate::common::*;

/// How a controller is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// It never becomes ready.
    NeverReady,
    /// It reports a fatal error when it is enabled.
    Fatal,
    /// Its model panics when it is enabled.
    Panic,
    /// It becomes ready, and answers no command.
    Silent,
    /// It runs another command set.
    Alien,
    /// All its registers read as ones.
    Absent,
}

/// The registers of a controller that never executes a command.
struct Dummy {
    defect: Defect,
    configuration: u32,
}

impl Model for Dummy {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: 16384, kind: BarKind::Memory64 });
        Identity {
            vendor: 0x1234,
            device: 0x5678,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: 0x01_08_02,
            bars,
            line: false,
            msi: None,
            msix: Some(MsixSpec {
                vectors: 4,
                table_bar: 0,
                table_offset: 0x2000,
                pending_bar: 0,
                pending_offset: 0x3000,
            }),
            express: None,
            dma_bits: 64,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        let enabled = self.configuration & 1 != 0;
        match (at.offset, self.defect) {
            (_, Defect::Absent) => u64::MAX,
            // 64 entries, 500 ms to become ready, the NVM command set.
            (0x00, Defect::Alien) => 63 | 1 << 24,
            (0x00, _) => 63 | 1 << 24 | 1 << 37,
            (0x1c, Defect::NeverReady) => 0,
            (0x1c, Defect::Fatal) => u64::from(enabled) << 1,
            (0x1c, _) => u64::from(enabled) | u64::from(self.configuration >> 14 & 1) << 3,
            _ => 0,
        }
    }

    fn write(&mut self, at: Register, value: u64, _: &mut Reach<'_>) {
        if at.offset == 0x14 {
            assert!(self.defect != Defect::Panic || value & 1 == 0, "a controller that breaks");
            self.configuration = value as u32;
        }
    }

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        self.configuration = 0;
    }
}

/// The error of bringing such a controller up, and how long that took with everything taken down again.
fn attempt(defect: Defect, thread: bool) -> (Error, Duration) {
    let model = Box::new(Dummy { defect, configuration: 0 });
    let device = CustomDevice { address: ADDRESS.parse().unwrap(), model, thread, driver: Driver::VfioPci };
    let machine = Machine::with_devices(MachineSpec::default(), vec![device]).unwrap();
    let before = machine.usage();
    let start = Instant::now();
    let error = Controller::new(open(&machine, ADDRESS), 1).err().unwrap();
    assert_eq!(machine.usage(), before, "{defect:?}");
    assert_eq!(machine.findings(), [], "{defect:?}");
    (error, start.elapsed())
}

#[test]
fn a_controller_that_does_not_come_up_gives_an_error() {
    for thread in [false, true] {
        for (defect, message) in [
            (
                Defect::NeverReady,
                "becoming ready did not happen within 500ms; controller status register 0x0",
            ),
            (Defect::Fatal, "the controller has failed (CSTS.CFS is set, CSTS is 0x2); reset it to go on"),
            (Defect::Panic, "the controller is gone: its registers read as all ones"),
            (
                Defect::Alien,
                "the controller cannot be used: it does not run the NVM command set with 4 KiB pages",
            ),
            (Defect::Absent, "the controller is gone: its registers read as all ones"),
        ] {
            let (error, took) = attempt(defect, thread);
            assert_eq!(error.to_string(), format!("{ADDRESS}: {message}"));
            assert!(took < Duration::from_secs(30), "{defect:?} took {took:?}");
        }
    }
}

#[test]
fn a_controller_that_answers_nothing_is_given_up() {
    let (error, took) = attempt(Defect::Silent, true);
    let message =
        "the completion of an admin command did not happen within 10s; controller status register 0x1";
    assert_eq!(error.to_string(), format!("{ADDRESS}: {message}"));
    assert!(took < Duration::from_secs(40), "{took:?}");
}

/// Memory decoding is switched off under the driver: registers are gone from one access to the next.
#[test]
fn a_controller_that_goes_away_gives_errors_and_no_panic() {
    for thread in [false, true] {
        for completions in [Completions::Polled, Completions::Interrupt] {
            let machine = machine(LayoutKind::Scattered, thread);
            let before = machine.usage();
            let (controller, namespace) = bring_up(&machine, 1);
            let mut queue = controller.queue(8, completions).unwrap();
            let memory = buffer(&controller, 4096);
            transfer(&mut queue, Operation::Read, &namespace, 0, (&memory, 0), 8).unwrap();
            controller.device().config().set_command(Command::empty()).unwrap();

            queue.submit_flush(&namespace, 1).unwrap();
            let error = queue.wait(PATIENCE, |_| ()).unwrap_err();
            assert!(matches!(error, Error::Gone { .. }), "{error}");
            assert!(matches!(controller.namespaces(), Err(Error::Gone { .. })));
            assert!(matches!(controller.queue(8, Completions::Polled), Err(Error::Gone { .. })));
            drop((queue, controller, memory));
            assert_eq!(machine.usage(), before);
            assert_eq!(machine.findings(), []);
        }
    }
}

/// Bus mastering is switched off under the driver: the controller lives, and its memory is out of its reach.
#[test]
fn a_command_that_never_ends_times_out() {
    let machine = machine(LayoutKind::Scattered, true);
    let (controller, namespace) = bring_up(&machine, 1);
    let mut queue = controller.queue(8, Completions::Polled).unwrap();
    controller.device().set_bus_master(false).unwrap();
    queue.submit_flush(&namespace, 1).unwrap();
    let error = queue.wait(Duration::from_millis(50), |_| ()).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. } | Error::Fatal { .. }), "{error}");
    assert!(Stream::new(&controller, &mut queue, namespace).is_err());
}
