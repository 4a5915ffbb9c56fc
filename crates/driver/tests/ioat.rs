//! The driver library drives the `ioat` device of an embedded machine, as the kernel's own VFIO self-tests drive the hardware: one
//! descriptor that leads to itself is executed as often as it is counted.

use std::time::Duration;

use ioasis::machine::{DeviceSpec, LayoutKind, Machine, MachineSpec, MemorySpec, ModelSpec};
use ioasis::{Bar, Device, DmaBuffer, DmaOptions, Interrupt, Options};

const ADDRESS: &str = "0000:01:00.0";

/// Registers, by the names of the datasheet.
const XFERCAP: usize = 0x01;
const INTRCTRL: usize = 0x03;
const VER: usize = 0x08;
const CHANCTRL: usize = 0x80;
const CHANCMD: usize = 0x84;
const DMACOUNT: usize = 0x86;
const CHANSTS: usize = 0x88;
const CHAINADDR: usize = 0x90;
const CHANERR: usize = 0xa8;
/// In configuration space.
const DMAUNCERRSTS: u16 = 0x148;
const CHANERR_INT: u16 = 0x180;

const DONE: u64 = 1;
const SUSPENDED: u64 = 2;
const HALTED: u64 = 3;

/// The driver.
struct Engine {
    device: Device<Machine>,
    registers: Bar,
    descriptor: DmaBuffer<Machine>,
    done: Interrupt<Machine>,
}

impl Engine {
    fn new(machine: &Machine) -> Self {
        let options = Options::new().allow_noiommu(true);
        let device = Device::open(machine, ADDRESS.parse().unwrap(), &options).unwrap();
        let registers = device.bar(0).unwrap();
        let descriptor = device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
        let done = device.interrupts().msix(1).unwrap().remove(0);
        device.set_bus_master(true).unwrap();
        assert_eq!((registers.read8(VER), registers.read8(XFERCAP)), (0x33, 14));
        let engine = Engine { device, registers, descriptor, done };
        engine.reset();
        engine.registers.write8(INTRCTRL, 1 << 3);
        engine
    }

    /// Clears what errors there are, and resets the channel.
    fn reset(&self) {
        for register in [DMAUNCERRSTS, CHANERR_INT] {
            let config = self.device.config();
            assert_eq!(config.read_u32(register).unwrap(), 0);
            config.write_u32(register, u32::MAX).unwrap();
        }
        self.registers.write32(CHANERR, self.registers.read32(CHANERR));
        self.registers.write8(CHANCMD, 0x20);
        assert_eq!((self.registers.read8(CHANCMD), self.state()), (0, HALTED));
    }

    fn state(&self) -> u64 {
        self.registers.read64(CHANSTS) & 7
    }

    /// Has memory copied `count` times; the state that the channel comes to.
    fn copy(&self, from: u64, to: u64, length: u32, interrupt: bool, count: u16) -> u64 {
        let at = self.descriptor.address_at(0).0.get();
        let words = [u64::from(length) | u64::from(interrupt) << 32, from, to, at];
        self.descriptor.write_at(0, &words.map(u64::to_le_bytes).concat());
        self.registers.write64(CHAINADDR, at);
        self.registers.write16(CHANCTRL, 1 | 1 << 3);
        self.registers.write16(DMACOUNT, count);
        loop {
            match self.state() {
                DONE => break,
                HALTED => return HALTED,
                _ => std::thread::yield_now(),
            }
        }
        self.registers.write8(CHANCMD, 0x04);
        self.state()
    }
}

fn machine(layout: LayoutKind, thread: bool) -> Machine {
    let ioat = DeviceSpec { thread, ..DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Ioat) };
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    Machine::from_spec(MachineSpec { devices: vec![ioat], memory, ..MachineSpec::default() }).unwrap()
}

#[test]
fn memory_is_copied_and_an_interrupt_comes_where_it_is_asked_for() {
    for layout in [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered] {
        for thread in [false, true] {
            let machine = machine(layout, thread);
            let engine = Engine::new(&machine);
            let memory = engine.device.address_space().allocate(1 << 14, &DmaOptions::new()).unwrap();
            let (from, to) = (memory.address_at(0).0.get(), memory.address_at(1 << 13).0.get());
            for round in 1..4 {
                let bytes: Vec<u8> = (0..4096).map(|at| ((at * 31) >> 3) as u8 ^ round).collect();
                memory.write_at(0, &bytes);
                assert_eq!(engine.copy(from, to, 4096, round == 2, u16::from(round) * 100), SUSPENDED);
                let mut copied = vec![0; bytes.len()];
                memory.read_at(1 << 13, &mut copied);
                assert!(copied == bytes, "{layout:?}, thread: {thread}");
                let interrupts = (round == 2).then_some(1);
                assert_eq!(engine.done.wait(Some(Duration::ZERO)).unwrap(), interrupts, "round {round}");
            }
            assert_eq!(machine.findings(), []);
        }
    }
}

#[test]
fn a_stray_copy_is_a_finding_and_the_channel_works_again_after_its_reset() {
    let machine = machine(LayoutKind::Scattered, true);
    let engine = Engine::new(&machine);
    let memory = engine.device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let (from, to) = (memory.address_at(0).0.get(), memory.address_at(2048).0.get());
    let freed = engine.device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let stray = freed.address_at(0).0.get();
    drop(freed);
    for (from, to, error) in [(stray, to, 0x100), (from, stray, 0x200)] {
        assert_eq!(engine.copy(from, to, 64, true, 1), HALTED);
        assert_eq!(engine.registers.read32(CHANERR), error);
        engine.reset();
    }
    let findings: Vec<String> = machine.findings().iter().map(ToString::to_string).collect();
    assert!(findings.len() == 2 && findings.iter().all(|it| it.contains("copy")), "{findings:?}");
    assert_eq!(engine.copy(from, to, 64, true, 1), SUSPENDED);
    assert_eq!(engine.done.wait(Some(Duration::ZERO)).unwrap(), Some(1));
}
