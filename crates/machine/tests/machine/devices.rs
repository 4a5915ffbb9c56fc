//! Device models: how they are run, and what becomes of a bad one.

use std::os::fd::AsFd;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use machine::model::{Bar, BarKind, DoorbellWindow, Identity, Model, Reach, Register, Work};
use machine::{CustomDevice, Driver, Machine, MachineSpec};
use sys::Sys;
use uapi::vfio::*;

use crate::common::*;

/// A device with a doorbell: each value stored there is answered with a message once. Its register at 0 counts the
/// turns of work that found nothing; a read of the register at 8 panics; after a write to it there is always more to do.
struct Bell {
    seen: u32,
    idle: Arc<AtomicU32>,
    busy: bool,
    gone: Arc<AtomicU32>,
}

impl Bell {
    fn new(idle: &Arc<AtomicU32>) -> Box<Self> {
        Box::new(Bell { seen: 0, idle: Arc::clone(idle), busy: false, gone: Arc::default() })
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::SeqCst);
    }
}

impl Model for Bell {
    fn identity(&self) -> Identity {
        Identity { msi: Some(1), ..identity(8192) }
    }

    fn doorbells(&self) -> Option<DoorbellWindow> {
        Some(DoorbellWindow { bar: 0, offset: 4096, length: 4096 })
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        assert_ne!(at.offset, 8, "a register that nobody thought of");
        u64::from(self.idle.load(Ordering::SeqCst))
    }

    fn write(&mut self, at: Register, _: u64, _: &mut Reach<'_>) {
        self.busy |= at.offset == 8;
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        let value = reach.doorbells.load(0);
        if self.busy {
            return Work::More;
        }
        if value == self.seen {
            self.idle.fetch_add(1, Ordering::SeqCst);
            return Work::Idle;
        }
        self.seen = value;
        reach.interrupts.message(0);
        Work::More
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        self.seen = 0;
    }
}

fn bell(thread: bool) -> (Machine, Arc<AtomicU32>) {
    let idle = Arc::new(AtomicU32::new(0));
    (machine_with(Bell::new(&idle), thread), idle)
}

fn machine_with(model: Box<dyn Model>, thread: bool) -> Machine {
    let device = CustomDevice { address: EDU.parse().unwrap(), model, thread, driver: Driver::VfioPci };
    Machine::with_devices(MachineSpec::default(), vec![device]).unwrap()
}

/// Waits until the thread has found nothing to do for so long that it must be asleep.
fn until_asleep(idle: &AtomicU32) {
    let mut before = idle.load(Ordering::SeqCst);
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = idle.load(Ordering::SeqCst);
        if now == before && now > 0 {
            return;
        }
        before = now;
    }
}

fn ring(thread: bool) {
    let (machine, idle) = bell(thread);
    let device = Attached::new(&machine);
    let event = device.interrupt(&machine, VFIO_PCI_MSI_IRQ_INDEX);
    let bar = device.bar(&machine, 8192);
    device.set_bus_master(&machine, true);
    for value in 1..200 {
        if thread && value % 50 == 0 {
            until_asleep(&idle);
        }
        bar.write32(4096, value);
        let ready = machine.wait(&[event.as_fd()], Some(Duration::from_secs(10))).unwrap();
        assert_eq!((ready, count(&event)), (vec![true], 1), "doorbell {value}");
        assert_eq!(bar.read32(4096), value);
    }
}

#[test]
fn a_doorbell_wakes_a_sleeping_thread() {
    ring(true);
}

#[test]
fn a_doorbell_is_answered_inline() {
    ring(false);
}

#[test]
fn an_idle_thread_sleeps() {
    let (_machine, idle) = bell(true);
    until_asleep(&idle);
}

#[test]
fn a_model_that_panics_answers_no_more_and_takes_nothing_down() {
    for thread in [false, true] {
        let (machine, _) = bell(thread);
        let device = Attached::new(&machine);
        let bar = device.bar(&machine, 4096);
        assert_ne!(bar.read32(0), u32::MAX);
        assert_eq!(bar.read32(8), u32::MAX);
        assert_eq!(bar.read32(0), u32::MAX);
        bar.write32(0, 1);
        let line = machine.log().pop().unwrap();
        assert!(line.starts_with(&format!("{EDU}: the device model panicked")), "{line}");
        assert!(line.contains("a register that nobody thought of"), "{line}");
        drop((device, bar));
        assert_eq!(machine.usage().files, 0);
    }
}

/// What a program finds wrong with the storage is the program's panic, and the device goes on.
#[test]
fn a_panic_of_who_looks_at_the_storage_is_its_own() {
    let text = "[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"nvme\"\nsize = \"1MiB\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    let address = "0000:01:00.0".parse().unwrap();
    let looked = catch_unwind(|| machine.with_storage(address, |bytes| assert_eq!(bytes[0], 1)));
    assert!(looked.is_err());
    assert_eq!(machine.with_storage(address, <[u8]>::len), Some(1 << 20));
}

#[test]
fn a_busy_device_still_answers_register_accesses() {
    let (machine, _) = bell(true);
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    bar.write32(8, 1);
    for _ in 0..1000 {
        assert_ne!(bar.read32(0), u32::MAX);
    }
}

#[test]
fn the_last_handle_takes_the_devices_along() {
    for thread in [false, true] {
        let model = Bell::new(&Arc::default());
        let gone = Arc::clone(&model.gone);
        let machine = machine_with(model, thread);
        let file = open(&machine, NODE).unwrap();
        drop(machine);
        assert_eq!(gone.load(Ordering::SeqCst), 0, "a file is still open");
        drop(file);
        assert_eq!(gone.load(Ordering::SeqCst), 1);
    }
}

/// A function that does nothing.
struct Plain {
    secondary_bus: Option<u8>,
    bar: Option<Bar>,
}

impl Model for Plain {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = self.bar;
        Identity { bars, ..Bell::new(&Arc::default()).identity() }
    }

    fn secondary_bus(&self) -> Option<u8> {
        self.secondary_bus
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        7
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {}
}

#[test]
fn a_bridge_gets_no_driver() {
    let machine = machine_with(Box::new(Plain { secondary_bus: Some(9), bar: None }), false);
    assert!(!exists(&machine, NODE));
    let error = write(&machine, &format!("{DRIVER}/bind"), EDU).unwrap_err();
    assert_eq!(error.errno(), uapi::Errno::EINVAL);
}

#[test]
fn behind_a_small_bar_nothing_answers() {
    let bar = Some(Bar { size: 256, kind: BarKind::Memory64 });
    let machine = machine_with(Box::new(Plain { secondary_bus: None, bar }), false);
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    assert_eq!((bar.read32(252), bar.read32(256)), (7, u32::MAX));
    assert!(bar.try_read32(4096).is_err());
}

#[test]
fn two_devices_cannot_have_one_address() {
    let device = || {
        let model = Bell::new(&Arc::default());
        CustomDevice { address: EDU.parse().unwrap(), model, thread: false, driver: Driver::None }
    };
    let error =
        Machine::with_devices(MachineSpec::default(), vec![device(), device()]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("device.address: \"{EDU}\" is given to two devices"));
    let error = Machine::with_devices(edu_spec(), vec![device()]).map(drop).unwrap_err();
    assert_eq!(error.key_name(), Some("device.address"));
}

#[test]
fn devices_are_numbered_by_address() {
    let text = "[[device]]\naddress = \"0000:05:00.0\"\nmodel = \"edu\"\n[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"edu\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    assert!(exists(&machine, "/sys/bus/pci/devices/0000:01:00.0/vfio-dev/noiommu-vfio0"));
    assert!(exists(&machine, "/sys/bus/pci/devices/0000:05:00.0/vfio-dev/noiommu-vfio1"));
    assert_eq!(
        machine.read_dir(Path::new("/sys/bus/pci/devices")).unwrap(),
        ["0000:01:00.0", "0000:05:00.0"]
    );
}
