//! The educational device, register-compatible with QEMU's `edu` (QEMU documentation, "EDU device").
//!
//! | Offset | Width | Access | Register |
//! |---|---|---|---|
//! | 0x00 | 4 | r | identification, `0x010000ed` |
//! | 0x04 | 4 | rw | liveness: reads back inverted |
//! | 0x08 | 4 | rw | factorial: of what was written, modulo 2³² |
//! | 0x20 | 4 | rw | status: bit 0 factorial under way (read-only), bit 7 interrupt when it is done |
//! | 0x24 | 4 | r | interrupt status |
//! | 0x60 | 4 | w | interrupt raise: sets bits of the status |
//! | 0x64 | 4 | w | interrupt acknowledge: clears bits of the status |
//! | 0x80 | 4, 8 | rw | DMA source address |
//! | 0x88 | 4, 8 | rw | DMA destination address |
//! | 0x90 | 4, 8 | rw | DMA byte count |
//! | 0x98 | 4, 8 | rw | DMA command: bit 0 start, bit 1 direction (1 from the device), bit 2 interrupt when it is done |
//!
//! The device's own 4 KiB buffer is at device address `0x40000`. Anything else, and any other width, reads all ones and
//! ignores writes. While a transfer is under way its registers ignore writes.
//!
//! It differs from QEMU's in three points. An address beyond the DMA mask is not clamped: the [`DmaPort`] refuses it. A
//! transfer that leaves the device's buffer, on which older versions of QEMU abort the guest, moves nothing and completes
//! as any other. A factorial or transfer takes until the model's next turn to work, not a fixed time.
//!
//! [`DmaPort`]: crate::dma::DmaPort

use std::ops::Range;

use sys::Width;

use crate::dma::Doing;
use crate::model::{Bar, BarKind, Identity, Model, Reach, Register, Work};

const IDENTIFICATION: u32 = 0x0100_00ed;

const STATUS_INTERRUPT: u32 = 0x80;
const STATUS_BUSY: u32 = 0x01;

/// Bit of the interrupt status: a factorial is done.
const FACTORIAL_DONE: u32 = 0x001;
/// Bit of the interrupt status: a transfer is done.
const TRANSFER_DONE: u32 = 0x100;

const COMMAND_START: u64 = 1;
const COMMAND_FROM_DEVICE: u64 = 2;
const COMMAND_INTERRUPT: u64 = 4;

const BUFFER_ADDRESS: u64 = 0x40000;
const BUFFER_BYTES: usize = 4096;

/// The factorial of this and of anything above is 0 modulo 2³²: it has 32 factors of two.
const FACTORIAL_VANISHES: u32 = 34;

/// The model.
pub(crate) struct Edu {
    registers: Registers,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

#[derive(Default)]
struct Registers {
    liveness: u32,
    factorial: u32,
    /// A factorial is to be computed.
    busy: bool,
    /// `STATUS_INTERRUPT` is set.
    interrupt_when_done: bool,
    interrupts: u32,
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
}

impl Edu {
    pub(crate) fn new() -> Self {
        Edu { registers: Registers::default(), buffer: Box::new([0; BUFFER_BYTES]) }
    }

    fn raise(&mut self, bits: u32, reach: &Reach<'_>) {
        self.registers.interrupts |= bits;
        if self.registers.interrupts == 0 {
            return;
        }
        if reach.interrupts.msi_vectors() > 0 {
            reach.interrupts.message(0);
        } else {
            reach.interrupts.line(true);
        }
    }

    fn acknowledge(&mut self, bits: u32, reach: &Reach<'_>) {
        self.registers.interrupts &= !bits;
        if self.registers.interrupts == 0 {
            reach.interrupts.line(false);
        }
    }

    fn transfer(&mut self, reach: &mut Reach<'_>) {
        let Registers { source, destination, count, command, .. } = self.registers;
        let from_device = command & COMMAND_FROM_DEVICE != 0;
        let (memory, own) = if from_device { (destination, source) } else { (source, destination) };
        if let Some(bytes) = buffer_range(own, count).and_then(|range| self.buffer.get_mut(range)) {
            let what = if from_device { "DMA EDU to RAM" } else { "DMA RAM to EDU" };
            reach.dma.doing(Doing { what, queue: None, id: None });
            if from_device {
                // The device has no register to say so; the finding is recorded where the access was refused.
                let _refused = reach.dma.write(memory, bytes);
            } else {
                // What was refused has been read as all ones.
                let _refused = reach.dma.read(memory, bytes);
            }
        }
        self.registers.command &= !COMMAND_START;
        if command & COMMAND_INTERRUPT != 0 {
            self.raise(TRANSFER_DONE, reach);
        }
    }

    fn compute(&mut self, reach: &Reach<'_>) {
        self.registers.factorial = factorial(self.registers.factorial);
        self.registers.busy = false;
        if self.registers.interrupt_when_done {
            self.raise(FACTORIAL_DONE, reach);
        }
    }
}

impl Registers {
    fn transferring(&self) -> bool {
        self.command & COMMAND_START != 0
    }

    fn status(&self) -> u32 {
        let busy = if self.busy { STATUS_BUSY } else { 0 };
        let interrupt = if self.interrupt_when_done { STATUS_INTERRUPT } else { 0 };
        busy | interrupt
    }

    /// A register of the transfer; `None` where there is none.
    fn transfer_register(&mut self, offset: u64) -> Option<&mut u64> {
        match offset {
            0x80 => Some(&mut self.source),
            0x88 => Some(&mut self.destination),
            0x90 => Some(&mut self.count),
            0x98 => Some(&mut self.command),
            _ => None,
        }
    }
}

impl Model for Edu {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1234,
            device: 0x11e8,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 0x10,
            class: 0x00_ff00,
            bars: [Some(Bar { size: 1 << 20, kind: BarKind::Memory32 }), None, None, None, None, None],
            line: true,
            msi: Some(1),
            msix: None,
            express: None,
            dma_bits: 28,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        let registers = &mut self.registers;
        match (at.offset, at.width) {
            (0x00, Width::U32) => IDENTIFICATION.into(),
            (0x04, Width::U32) => registers.liveness.into(),
            (0x08, Width::U32) => registers.factorial.into(),
            (0x20, Width::U32) => registers.status().into(),
            (0x24, Width::U32) => registers.interrupts.into(),
            (0x80.., Width::U32 | Width::U64) => {
                registers.transfer_register(at.offset).map_or(u64::MAX, |it| *it)
            }
            _ => u64::MAX,
        }
    }

    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>) {
        // A 32-bit store to one of the wide registers sets its upper half to zero.
        let low = value as u32;
        let wide = if at.width == Width::U32 { low.into() } else { value };
        let registers = &mut self.registers;
        match (at.offset, at.width) {
            (0x04, Width::U32) => registers.liveness = !low,
            (0x08, Width::U32) if !registers.busy => {
                registers.factorial = low;
                registers.busy = true;
            }
            (0x20, Width::U32) => registers.interrupt_when_done = low & STATUS_INTERRUPT != 0,
            (0x60, Width::U32) => self.raise(low, reach),
            (0x64, Width::U32) => self.acknowledge(low, reach),
            // A command that starts nothing is not kept either.
            (0x98, Width::U32 | Width::U64) if wide & COMMAND_START == 0 => {}
            (0x80.., Width::U32 | Width::U64) if !registers.transferring() => {
                if let Some(register) = registers.transfer_register(at.offset) {
                    *register = wide;
                }
            }
            _ => {}
        }
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        if self.registers.busy {
            self.compute(reach);
        }
        if self.registers.transferring() {
            self.transfer(reach);
        }
        Work::Idle
    }

    fn reset(&mut self, reach: &mut Reach<'_>) {
        reach.interrupts.line(false);
        *self = Edu::new();
    }
}

fn factorial(of: u32) -> u32 {
    (1..=of.min(FACTORIAL_VANISHES)).fold(1, u32::wrapping_mul)
}

/// Device addresses as indices of the buffer, in which they may or may not be.
fn buffer_range(address: u64, count: u64) -> Option<Range<usize>> {
    let start = usize::try_from(address.checked_sub(BUFFER_ADDRESS)?).ok()?;
    let end = start.checked_add(usize::try_from(count).ok()?)?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use subsystem::IrqKind;

    use super::*;
    use crate::models::rig::Rig;

    struct Bench {
        rig: Rig,
        edu: Edu,
    }

    fn bench() -> Bench {
        Bench { rig: Rig::new(), edu: Edu::new() }
    }

    impl Bench {
        fn read(&mut self, offset: u64, width: Width) -> u64 {
            self.edu.read(Register { bar: 0, offset, width }, &mut self.rig.reach())
        }

        fn write(&mut self, offset: u64, value: u64, width: Width) {
            self.edu.write(Register { bar: 0, offset, width }, value, &mut self.rig.reach());
        }

        fn get(&mut self, offset: u64) -> u64 {
            self.read(offset, Width::U32)
        }

        fn set(&mut self, offset: u64, value: u64) {
            self.write(offset, value, Width::U32);
        }

        fn work(&mut self) {
            assert_eq!(self.edu.work(&mut self.rig.reach()), Work::Idle);
        }

        fn transfer(&mut self, source: u64, destination: u64, count: u64, command: u64) {
            for (register, value) in [(0x80, source), (0x88, destination), (0x90, count), (0x98, command)] {
                self.write(register, value, Width::U64);
            }
        }
    }

    #[test]
    fn it_identifies_itself_and_is_alive() {
        let mut bench = bench();
        assert_eq!(bench.get(0x00), 0x0100_00ed);
        bench.set(0x04, 0x1234_5678);
        assert_eq!(bench.get(0x04), 0xedcb_a987);
        bench.set(0x00, 1);
        assert_eq!(bench.get(0x00), 0x0100_00ed, "read-only");
    }

    #[test]
    fn what_is_no_register_reads_ones_and_so_does_another_width() {
        let mut bench = bench();
        for offset in [0x0c, 0x28, 0x60, 0x64, 0x84, 0xa0, 0x40000, 0xf_fffc] {
            assert_eq!(bench.get(offset) as u32, u32::MAX, "{offset:#x}");
        }
        for (offset, width) in [(0x00, Width::U64), (0x00, Width::U8), (0x04, Width::U16), (0x80, Width::U16)]
        {
            assert_eq!(bench.read(offset, width), u64::MAX, "{offset:#x} {width:?}");
            bench.write(offset, 7, width);
        }
        assert_eq!((bench.get(0x04), bench.get(0x80)), (0, 0));
    }

    #[test]
    fn a_factorial_takes_until_the_device_works() {
        for (of, expected) in
            [(0, 1), (1, 1), (5, 120), (12, 479_001_600), (13, 1_932_053_504), (34, 0), (u32::MAX, 0)]
        {
            let mut bench = bench();
            bench.set(0x08, of.into());
            assert_eq!(bench.get(0x20), 1, "busy");
            bench.set(0x08, 3);
            bench.work();
            assert_eq!((bench.get(0x08), bench.get(0x20)), (expected, 0), "{of}!");
            assert_eq!(bench.get(0x24), 0, "no interrupt was asked for");
        }
    }

    #[test]
    fn a_factorial_interrupts_if_asked_to() {
        let mut bench = bench();
        bench.set(0x20, 0xff);
        assert_eq!(bench.get(0x20), 0x80);
        bench.set(0x08, 4);
        assert_eq!(bench.get(0x20), 0x81);
        assert!(!bench.rig.line());
        bench.work();
        assert_eq!((bench.get(0x08), bench.get(0x24)), (24, 1));
        assert!(bench.rig.line());
        bench.set(0x64, 1);
        assert!(!bench.rig.line());
    }

    #[test]
    fn interrupts_are_raised_and_acknowledged_bit_by_bit() {
        let mut bench = bench();
        bench.set(0x60, 0);
        assert!(!bench.rig.line());
        bench.set(0x60, 0b110);
        assert_eq!(bench.get(0x24), 0b110);
        bench.set(0x64, 0b010);
        assert!(bench.rig.line());
        bench.set(0x64, 0b101);
        assert_eq!(bench.get(0x24), 0);
        assert!(!bench.rig.line());
    }

    #[test]
    fn with_msi_each_cause_is_a_message() {
        let mut bench = bench();
        bench.rig.enable_messages(IrqKind::Msi, 1);
        bench.set(0x60, 1);
        bench.set(0x60, 1);
        assert_eq!(bench.rig.take_messages(0), 2);
        bench.set(0x64, 1);
        assert_eq!((bench.rig.take_messages(0), bench.rig.line()), (0, false));
    }

    #[test]
    fn data_goes_to_the_buffer_and_back() {
        let mut bench = bench();
        bench.rig.store(0x1003, b"there and back");
        let (from, to) = (bench.rig.address(0x1003), bench.rig.address(0x2ff0));
        bench.transfer(from, 0x40ff2, 14, 1);
        assert_eq!(bench.read(0x98, Width::U64), 1, "under way");
        bench.write(0x90, 1, Width::U64);
        assert_eq!(bench.read(0x90, Width::U64), 14, "its registers do not change meanwhile");
        bench.work();
        assert_eq!((bench.get(0x98), bench.get(0x24)), (0, 0));
        bench.transfer(0x40ff2, to, 14, 1 | 2 | 4);
        bench.work();
        assert_eq!(bench.rig.load(0x2ff0, 14), b"there and back");
        assert_eq!((bench.get(0x98), bench.get(0x24)), (6, 0x100));
        assert!(bench.rig.line());
    }

    #[test]
    fn a_command_that_starts_nothing_is_not_kept() {
        let mut bench = bench();
        bench.transfer(1, 2, 3, 6);
        assert_eq!(bench.get(0x98), 0);
        bench.write(0x80, 0x1_2345_6789, Width::U64);
        bench.set(0x80, 5);
        assert_eq!(bench.read(0x80, Width::U64), 5, "a narrow store clears the upper half");
    }

    #[test]
    fn a_transfer_that_leaves_the_buffer_moves_nothing() {
        let mut bench = bench();
        bench.rig.store(0, &[7; 0x3000]);
        let memory = bench.rig.address(0);
        let places =
            [(0x3ffff, 1), (0x41000, 1), (0x40001, 0x1000), (0, 4), (u64::MAX, 2), (0x40000, u64::MAX)];
        for (own, count) in places {
            bench.transfer(memory, own, count, 1 | 4);
            bench.work();
            assert_eq!((bench.get(0x98), bench.get(0x24)), (4, 0x100), "{own:#x}: it completes nevertheless");
            bench.transfer(own, memory, count, 1 | 2);
            bench.work();
        }
        bench.transfer(0x40000, memory + 0x1000, 0x1000, 1 | 2);
        bench.work();
        assert_eq!(bench.rig.load(0x1000, 0x1000), [0; 0x1000], "the buffer is as it was");
        assert_eq!(bench.rig.load(0, 0x1000), [7; 0x1000], "and so is memory");
        assert_eq!(bench.rig.take_findings(), []);
    }

    #[test]
    fn forbidden_memory_is_a_finding_and_reads_as_ones() {
        let mut bench = bench();
        bench.transfer(0x5000, 0x40000, 8, 1);
        bench.work();
        bench.transfer(0x40000, 0x6000, 8, 3);
        bench.work();
        let findings: Vec<_> =
            bench.rig.take_findings().into_iter().map(|(doing, at)| (doing.unwrap().what, at)).collect();
        assert_eq!(findings, [("DMA RAM to EDU", 0x5000), ("DMA EDU to RAM", 0x6000)]);
        let memory = bench.rig.address(0);
        bench.transfer(0x40000, memory, 9, 3);
        bench.work();
        assert_eq!(bench.rig.load(0, 9), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    }

    #[test]
    fn a_reset_forgets_everything() {
        let mut bench = bench();
        bench.set(0x04, 1);
        bench.set(0x08, 5);
        bench.set(0x60, 1);
        bench.transfer(1, 2, 3, 5);
        bench.edu.reset(&mut bench.rig.reach());
        bench.work();
        assert!(!bench.rig.line());
        for offset in [0x04, 0x08, 0x20, 0x24, 0x80, 0x88, 0x90, 0x98] {
            assert_eq!(bench.get(offset), 0, "{offset:#x}");
        }
    }
}
