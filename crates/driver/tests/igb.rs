//! The driver library drives the `igb` device of an embedded machine, as the kernel's own VFIO self-tests drive the hardware:
//! frames that come back copy memory.

use std::time::Duration;

use ioasis::machine::{DeviceSpec, LayoutKind, Machine, MachineSpec, MemorySpec, ModelSpec};
use ioasis::{Bar, Device, DmaBuffer, DmaOptions, Interrupt, Options};

const ADDRESS: &str = "0000:01:00.0";

/// Registers, by the names of the datasheet.
const CTRL: usize = 0x0000;
const MDIC: usize = 0x0020;
const RCTL: usize = 0x0100;
const TCTL: usize = 0x0400;
const GPIE: usize = 0x1514;
const EIMS: usize = 0x1524;
const EIAC: usize = 0x152c;
const EIAM: usize = 0x1530;
const IVAR0: usize = 0x1700;
const RECEIVE: usize = 0xc000;
const TRANSMIT: usize = 0xe000;
const TAIL: usize = 0x18;

/// How many descriptors each ring has.
const RING: u32 = 16;

/// The driver: an engine that copies up to 1 KiB at a time.
struct Engine {
    device: Device<Machine>,
    registers: Bar,
    transmit: DmaBuffer<Machine>,
    receive: DmaBuffer<Machine>,
    done: Interrupt<Machine>,
    next: u32,
}

impl Engine {
    fn new(machine: &Machine) -> Self {
        let options = Options::new().allow_noiommu(true);
        let device = Device::open(machine, ADDRESS.parse().unwrap(), &options).unwrap();
        let registers = device.bar(0).unwrap();
        let ring = || device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
        let (transmit, receive) = (ring(), ring());
        let done = device.interrupts().msix(1).unwrap().remove(0);
        device.set_bus_master(true).unwrap();
        let engine = Engine { device, registers, transmit, receive, done, next: 0 };
        engine.set_up();
        engine
    }

    fn set_up(&self) {
        let registers = &self.registers;
        registers.write32(CTRL, 1 << 26);
        registers.write32(MDIC, 1 << 14 | 1 << 21 | 0b01 << 26); // the PHY loops back
        registers.write32(CTRL, 1 << 6); // the link is up
        for (queue, ring) in [(TRANSMIT, &self.transmit), (RECEIVE, &self.receive)] {
            let base = ring.address_at(0).0.get();
            registers.write32(queue, base as u32);
            registers.write32(queue + 4, (base >> 32) as u32);
            registers.write32(queue + 8, RING * 16);
            registers.write32(queue + 0x28, 1 << 25);
        }
        registers.write32(RCTL, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 26);
        registers.write32(TCTL, 1 << 1);
        registers.write32(GPIE, 1 << 4 | 1 << 30);
        registers.write32(EIAC, 1);
        registers.write32(EIAM, 1);
        registers.write32(IVAR0, 1 << 7);
        registers.write32(EIMS, 1);
    }

    /// Has a frame sent from one address that is to come back to another.
    fn start(&mut self, from: u64, to: u64, length: usize) -> usize {
        let at = (self.next * 16) as usize;
        let command = length as u64 | 0x3 << 20 | 1 << 24 | 1 << 25 | 1 << 29;
        self.transmit.write_at(at, &[from.to_le_bytes(), command.to_le_bytes()].concat());
        self.receive.write_at(at, &[to.to_le_bytes(), [0; 8]].concat());
        self.next = (self.next + 1) % RING;
        self.registers.write32(RECEIVE + TAIL, self.next);
        self.registers.write32(TRANSMIT + TAIL, self.next);
        at
    }

    /// Whether the frame of a descriptor has come back.
    fn is_back(&self, at: usize) -> bool {
        let mut status = [0; 4];
        self.receive.read_at(at + 8, &mut status);
        status[0] & 1 != 0
    }
}

fn machine(layout: LayoutKind, thread: bool) -> Machine {
    let igb = DeviceSpec { thread, ..DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Igb) };
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    Machine::from_spec(MachineSpec { devices: vec![igb], memory, ..MachineSpec::default() }).unwrap()
}

#[test]
fn memory_is_copied_with_an_interrupt_for_each_frame() {
    for layout in [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered] {
        for thread in [false, true] {
            let machine = machine(layout, thread);
            let mut engine = Engine::new(&machine);
            let memory = engine.device.address_space().allocate(1 << 16, &DmaOptions::new()).unwrap();
            let bytes: Vec<u8> = (0..1u32 << 15).map(|at| ((at * 31) >> 3) as u8).collect();
            memory.write_at(0, &bytes);
            for at in (0..bytes.len()).step_by(1024) {
                let (from, to) = (memory.address_at(at).0.get(), memory.address_at((1 << 15) + at).0.get());
                let descriptor = engine.start(from, to, 1024);
                assert_eq!(engine.done.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
                assert!(engine.is_back(descriptor));
                engine.registers.write32(EIMS, 1);
            }
            let mut copied = vec![0; bytes.len()];
            memory.read_at(1 << 15, &mut copied);
            assert!(copied == bytes, "{layout:?}, thread: {thread}");
            assert_eq!(machine.findings(), []);
        }
    }
}

#[test]
fn a_stray_descriptor_is_a_finding_and_a_reset_of_the_function_mends_the_engine() {
    let machine = machine(LayoutKind::Scattered, false);
    let mut engine = Engine::new(&machine);
    let memory = engine.device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let (from, to) = (memory.address_at(0).0.get(), memory.address_at(2048).0.get());
    let freed = engine.device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let stray = freed.address_at(0).0.get();
    drop(freed);
    let descriptor = engine.start(from, stray, 64);
    assert!(!engine.is_back(descriptor));
    let [finding] = &machine.findings()[..] else { panic!("{:?}", machine.findings()) };
    let text = finding.to_string();
    assert!(text.contains(ADDRESS) && text.contains("receive") && text.contains("unmapped"), "{text}");
    let descriptor = engine.start(from, to, 64);
    assert!(!engine.is_back(descriptor), "the engine stands still");
    engine.device.reset().unwrap();
    engine.device.set_bus_master(true).unwrap();
    engine.next = 0;
    engine.set_up();
    memory.write_at(0, &[0x5a; 64]);
    let descriptor = engine.start(from, to, 64);
    assert!(engine.is_back(descriptor));
    let mut copied = [0; 64];
    memory.read_at(2048, &mut copied);
    assert_eq!(copied, [0x5a; 64]);
}
