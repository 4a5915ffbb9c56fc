//! Device models that misbehave, wherever they are called from: the machine and its other devices go on.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machine::model::{DoorbellWindow, Express, Identity, Model, Reach, Register, Work};
use machine::{CustomDevice, DeviceSpec, Driver, Machine, MachineSpec, ModelSpec};
use rustix::event::{EventfdFlags, eventfd};
use sys::{Mmio, Sys};
use uapi::Command;
use uapi::vfio::*;

use crate::common::*;

const HONEST: &str = "0000:03:00.0";
const HONEST_NODE: &str = "/dev/vfio/devices/noiommu-vfio1";
/// Where the doorbells of the rogue are.
const DOORBELLS: usize = 4096;

/// Where a model is called from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Read,
    Write,
    Work,
    Reset,
    Drop,
}

const CALLS: [Entry; 4] = [Entry::Read, Entry::Write, Entry::Work, Entry::Reset];

type Deed = Arc<dyn Fn(&mut Reach<'_>) + Send + Sync>;

/// Does its deed when it is called from there, once it is armed.
struct Rogue {
    from: Entry,
    deed: Deed,
    armed: Arc<AtomicBool>,
    /// It finds more to do each time.
    endless: bool,
}

impl Rogue {
    fn called(&mut self, from: Entry, reach: &mut Reach<'_>) {
        /// Tells that the deed is done, also if it is to panic.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        if self.from == from && self.armed.load(Ordering::SeqCst) {
            let _done = Done(&self.armed);
            (self.deed)(reach);
        }
    }
}

impl Model for Rogue {
    fn identity(&self) -> Identity {
        Identity { msi: Some(1), express: Some(Express { function_reset: true }), ..identity(8192) }
    }

    fn doorbells(&self) -> Option<DoorbellWindow> {
        Some(DoorbellWindow { bar: 0, offset: DOORBELLS as u64, length: 4096 })
    }

    fn read(&mut self, _: Register, reach: &mut Reach<'_>) -> u64 {
        self.called(Entry::Read, reach);
        7
    }

    fn write(&mut self, _: Register, _: u64, reach: &mut Reach<'_>) {
        self.called(Entry::Write, reach);
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        self.called(Entry::Work, reach);
        if self.endless { Work::More } else { Work::Idle }
    }

    fn reset(&mut self, reach: &mut Reach<'_>) {
        self.called(Entry::Reset, reach);
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        assert!(self.from != Entry::Drop, "a model that fails to go");
    }
}

/// A machine with a rogue, and an honest device that somebody uses.
struct Scene {
    machine: Machine,
    rogue: Attached,
    registers: Mmio,
    armed: Arc<AtomicBool>,
    honest: Attached,
}

impl Scene {
    fn new(thread: bool, from: Entry, endless: bool, deed: Deed) -> Self {
        let armed = Arc::new(AtomicBool::new(false));
        let model = Box::new(Rogue { from, deed, armed: Arc::clone(&armed), endless });
        let rogue = CustomDevice { address: EDU.parse().unwrap(), model, thread, driver: Driver::VfioPci };
        let honest = DeviceSpec { thread, ..DeviceSpec::new(HONEST.parse().unwrap(), ModelSpec::Edu) };
        let spec = MachineSpec { devices: vec![honest], ..MachineSpec::default() };
        let machine = Machine::with_devices(spec, vec![rogue]).unwrap();
        let rogue = Attached::new(&machine);
        rogue.set_bus_master(&machine, true);
        let registers = rogue.bar(&machine, 8192);
        let honest = Attached::by_node(&machine, HONEST_NODE);
        honest.set_bus_master(&machine, true);
        Scene { machine, rogue, registers, armed, honest }
    }

    /// Has the rogue called from there, and returns when it has done its deed.
    fn provoke(&self, from: Entry) {
        self.armed.store(true, Ordering::SeqCst);
        match from {
            Entry::Read => drop(self.registers.read32(0)),
            Entry::Write => self.registers.write32(0, 1),
            Entry::Work => self.registers.write32(DOORBELLS, 1),
            Entry::Reset => self.reset(),
            Entry::Drop => {}
        }
        self.until_done();
    }

    fn until_done(&self) {
        while self.armed.load(Ordering::SeqCst) {
            self.machine.wait(&[], Some(Duration::ZERO)).unwrap();
        }
    }

    fn reset(&self) {
        // SAFETY: the command takes no argument.
        unsafe { self.machine.ioctl_raw(self.rogue.device.as_fd(), VFIO_DEVICE_RESET, std::ptr::null_mut()) }
            .unwrap();
    }

    /// The honest device answers, moves memory, and interrupts.
    fn check_honest(&self) {
        let Scene { machine, honest, .. } = self;
        let bar = honest.bar(machine, 4096);
        assert_eq!(bar.read32(0), 0x0100_00ed);
        let event = honest.interrupt(machine, VFIO_PCI_MSI_IRQ_INDEX);
        let (memory, address) = honest.memory(machine, 4096);
        // SAFETY: within the memory.
        unsafe { sys::shared::write(memory.start(), b"moved") };
        for (register, value) in [(0x80, address), (0x88, 0x40000), (0x90, 8), (0x98, 0b101)] {
            bar.write64(register, value);
        }
        self.finish(&bar, &event);
        for (register, value) in [(0x80, 0x40000), (0x88, address + 8), (0x98, 0b111)] {
            bar.write64(register, value);
        }
        self.finish(&bar, &event);
        let mut bytes = [0; 5];
        // SAFETY: within the memory.
        unsafe { sys::shared::read(memory.start().add(8), &mut bytes) };
        assert_eq!(&bytes, b"moved");
    }

    fn finish(&self, bar: &Mmio, event: &std::os::fd::OwnedFd) {
        let ready = self.machine.wait(&[event.as_fd()], Some(Duration::from_secs(20))).unwrap();
        assert_eq!((ready, count(event)), (vec![true], 1));
        bar.write32(0x64, 0x100);
    }

    /// Whatever the rogue did, its device can be reset, closed, taken away and brought back.
    fn leave(self) {
        self.reset();
        self.check_honest();
        let Scene { machine, rogue, registers, honest, .. } = self;
        drop((rogue, registers));
        write(&machine, &format!("{DRIVER}/unbind"), EDU).unwrap();
        write(&machine, &format!("{DRIVER}/bind"), EDU).unwrap();
        drop((Attached::new(&machine), honest));
        assert_eq!(machine.usage().files, 0);
    }
}

/// Each way to call a model, with a device on a thread and inline.
fn everywhere(deed: impl Fn(&mut Reach<'_>) + Send + Sync + 'static, check: impl Fn(&Scene)) {
    let deed: Deed = Arc::new(deed);
    for (thread, from) in [false, true].into_iter().flat_map(|thread| CALLS.map(|from| (thread, from))) {
        let scene = Scene::new(thread, from, false, Arc::clone(&deed));
        scene.provoke(from);
        check(&scene);
        scene.check_honest();
        scene.leave();
    }
}

#[test]
fn one_that_panics_takes_nothing_along() {
    everywhere(
        |_| panic!("nobody thought of this"),
        |scene| {
            assert_eq!(scene.registers.read32(0), u32::MAX);
            let log = scene.machine.log();
            let told = log.iter().find(|line| line.contains("nobody thought of this")).unwrap();
            assert!(
                told.starts_with(&format!("{EDU}: the device model panicked and answers no more")),
                "{told}"
            );
        },
    );
}

/// All of memory and of the other device, at every width, as far as there are addresses.
#[test]
fn one_that_accesses_everything_gets_nothing() {
    /// Where the machine has put the BAR of the honest device.
    const HONEST_BAR: u64 = 0xe010_0000;
    let reach_for = |reach: &mut Reach<'_>, address: u64| {
        let mut bytes = vec![0xaa; 128 << 10];
        for length in [0, 1, 4096, bytes.len()] {
            let _refused = reach.dma.write(address, &bytes[..length]);
            let _refused = reach.dma.read(address, &mut bytes[..length]);
        }
        let _refused = (reach.dma.write_u32_release(address, 1), reach.dma.read_u32(address));
        let _refused = (reach.dma.write_u64_release(address, 1), reach.dma.read_u64(address));
    };
    everywhere(
        move |reach| {
            for shift in (0..64).step_by(3) {
                for address in [1 << shift, (1 << shift) - 1, u64::MAX << shift] {
                    reach_for(reach, address);
                }
            }
            reach_for(reach, HONEST_BAR);
        },
        |scene| {
            let findings = scene.machine.findings();
            assert!(!findings.is_empty());
            assert!(findings.iter().all(|finding| *finding.device == *EDU));
            let Scene { machine, honest, .. } = scene;
            let mut bar = [0; 4];
            machine.pread(&honest.device, &mut bar, honest.config_offset(machine) + 0x10).unwrap();
            assert_eq!(u64::from(u32::from_le_bytes(bar)), HONEST_BAR);
            assert_eq!(honest.bar(machine, 4096).read32(4), 0, "its registers are as they were");
        },
    );
}

#[test]
fn one_that_interrupts_by_what_it_does_not_have_interrupts_nobody() {
    everywhere(
        |reach| {
            (0..=u16::MAX).for_each(|vector| reach.interrupts.message(vector));
            reach.interrupts.line(true);
        },
        |scene| {
            let Scene { machine, rogue, .. } = scene;
            let mut status = [0; 2];
            machine.pread(&rogue.device, &mut status, rogue.config_offset(machine) + 6).unwrap();
            assert_eq!(u16::from_le_bytes(status) & 8, 0, "it has no line that could be up");
            let event = rogue.interrupt(machine, VFIO_PCI_MSI_IRQ_INDEX);
            machine.wait(&[], Some(Duration::ZERO)).unwrap();
            assert_eq!(count(&event), 0, "nothing was enabled then");
        },
    );
}

#[test]
fn one_that_writes_behind_its_doorbells_writes_nowhere() {
    everywhere(
        |reach| {
            for offset in [4096, 1 << 32, u64::MAX - 3, u64::MAX] {
                reach.doorbells.store(offset, 1);
                assert_eq!(reach.doorbells.load(offset), 0);
            }
        },
        |scene| {
            assert_eq!(scene.registers.read32(0), 7, "it has not panicked");
            assert_eq!(scene.honest.bar(&scene.machine, 4096).read32(4), 0);
        },
    );
}

/// Inline it would keep every call, were its turns not counted.
#[test]
fn one_that_never_comes_to_an_end_keeps_nobody() {
    for thread in [false, true] {
        let scene = Scene::new(thread, Entry::Work, true, Arc::new(|_| ()));
        scene.provoke(Entry::Work);
        let quiet = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let ready = scene.machine.wait(&[quiet.as_fd()], Some(Duration::from_millis(1))).unwrap();
        assert_eq!(ready, [false]);
        scene.check_honest();
        scene.leave();
    }
}

/// An eventfd that writes a register, and that the device signals at each such write.
#[test]
fn one_that_calls_itself_by_an_eventfd_keeps_nobody() {
    struct Echo;

    impl Model for Echo {
        fn identity(&self) -> Identity {
            let rogue =
                Rogue { from: Entry::Read, deed: Arc::new(|_| ()), armed: Arc::default(), endless: false };
            rogue.identity()
        }

        fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
            7
        }

        fn write(&mut self, _: Register, _: u64, reach: &mut Reach<'_>) {
            reach.interrupts.message(0);
        }

        fn work(&mut self, _: &mut Reach<'_>) -> Work {
            Work::Idle
        }

        fn reset(&mut self, _: &mut Reach<'_>) {}
    }

    for thread in [false, true] {
        let address = EDU.parse().unwrap();
        let device = CustomDevice { address, model: Box::new(Echo), thread, driver: Driver::VfioPci };
        let machine = Machine::with_devices(MachineSpec::default(), vec![device]).unwrap();
        let device = Attached::new(&machine);
        device.set_bus_master(&machine, true);
        let event = device.interrupt(&machine, VFIO_PCI_MSI_IRQ_INDEX);
        ioeventfd(&machine, &device, event.as_raw_fd());
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        for _ in 0..3 {
            assert_eq!(device.bar(&machine, 4096).read32(0), 7);
        }
        drop(device);
        assert_eq!(machine.usage().files, 0);
    }
}

#[test]
fn one_that_panics_when_an_eventfd_writes_its_register_takes_nothing_along() {
    for thread in [false, true] {
        let scene = Scene::new(thread, Entry::Write, false, Arc::new(|_| panic!("of a write")));
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        ioeventfd(&scene.machine, &scene.rogue, event.as_raw_fd());
        scene.armed.store(true, Ordering::SeqCst);
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        scene.until_done();
        scene.check_honest();
        scene.leave();
    }
}

/// Register 0 is written when the eventfd is signalled.
fn ioeventfd(machine: &Machine, device: &Attached, fd: i32) {
    let offset = device.region(machine, 0).offset;
    let mut argument =
        VfioDeviceIoeventfd { flags: VFIO_DEVICE_IOEVENTFD_32, offset, data: 1, fd, ..Command::new() };
    machine.ioctl(&device.device, &mut argument).unwrap();
}

#[test]
fn one_that_panics_as_it_goes_takes_nothing_along() {
    for thread in [false, true] {
        let Scene { machine, rogue, registers, honest, .. } =
            Scene::new(thread, Entry::Drop, false, Arc::new(|_| ()));
        drop((rogue, registers, honest));
        drop(machine);
    }
}
