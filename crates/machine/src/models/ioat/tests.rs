use subsystem::IrqKind;
use sys::Width;

use super::*;
use crate::models::rig::Rig;

/// Where things are in the rig's memory.
const CHAIN: u64 = 0;
const COMPLETION: u64 = 0x1000;
const SOURCE: u64 = 0x10000;
const TARGET: u64 = 0x20000;

/// What nothing may reach.
const STRAY: u64 = 0x6000;

/// Puts something wrong before the channel.
type Spoil<'a> = &'a dyn Fn(&mut Bench);

struct Bench {
    rig: Rig,
    ioat: Ioat,
}

impl Bench {
    /// A channel that may interrupt, and whose completions go to memory.
    fn new() -> Self {
        let mut bench = Bench { rig: Rig::new(), ioat: Ioat::new() };
        bench.rig.enable_messages(IrqKind::MsiX, VECTORS.into());
        let completion = bench.rig.address(COMPLETION);
        bench.write(INTRCTRL, INTRCTRL_VECTORS);
        bench.write(CHANCMP, completion);
        bench
    }

    fn write_at(&mut self, offset: u64, width: Width, value: u64) {
        self.ioat.write(Register { bar: 0, offset, width }, value, &mut self.rig.reach());
    }

    fn read_at(&mut self, offset: u64, width: Width) -> u64 {
        let value = self.ioat.read(Register { bar: 0, offset, width }, &mut self.rig.reach());
        // Bits above the width do not count.
        value & ones(width.bytes() as u64)
    }

    fn write(&mut self, field: Field, value: u64) {
        self.write_at(field.at, width(field), value);
    }

    fn read(&mut self, field: Field) -> u64 {
        self.read_at(field.at, width(field))
    }

    /// The state that CHANSTS tells.
    fn state(&mut self) -> u64 {
        self.read(CHANSTS) & 7
    }

    /// Puts a descriptor into the chain that leads to the one after it.
    fn put(&mut self, index: u64, size: u32, control: u32, source: u64, destination: u64) {
        let next = self.descriptor(index + 1);
        let words = [u64::from(size) | u64::from(control) << 32, source, destination, next];
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        self.rig.store(CHAIN + index * DESCRIPTOR, &bytes);
    }

    fn descriptor(&self, index: u64) -> u64 {
        self.rig.address(CHAIN + index * DESCRIPTOR)
    }

    /// Starts the chain at its first descriptor, of which there are `count`, and lets the channel work them off.
    fn start(&mut self, count: u64) {
        let chain = self.descriptor(0);
        self.write(CHAINADDR, chain);
        self.count(count);
    }

    fn count(&mut self, count: u64) {
        self.write(DMACOUNT, count);
        while self.ioat.work(&mut self.rig.reach()) == Work::More {}
    }

    fn findings(&self) -> Vec<(&'static str, u64)> {
        let findings = self.rig.take_findings().into_iter();
        findings.map(|(doing, at)| (doing.unwrap().what, at)).collect()
    }
}

fn width(field: Field) -> Width {
    match field.bytes {
        1 => Width::U8,
        2 => Width::U16,
        4 => Width::U32,
        _ => Width::U64,
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7) as u8).collect()
}

#[test]
fn a_chain_is_worked_off_as_far_as_descriptors_are_counted() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.rig.store(SOURCE, &pattern(3 * LONGEST));
    for index in 0..3 {
        let at = index * LONGEST as u64;
        bench.put(index, LONGEST as u32, 0, from + at, to + at);
    }
    bench.start(2);
    assert_eq!(bench.rig.load(TARGET, 2 * LONGEST), pattern(2 * LONGEST));
    assert_eq!(bench.rig.load(TARGET + 2 * LONGEST as u64, 1), [0], "the third is not counted yet");
    assert_eq!(bench.read(CHANSTS), bench.descriptor(1) | CHANSTS_DONE);
    bench.count(3);
    assert_eq!(bench.rig.load(TARGET, 3 * LONGEST), pattern(3 * LONGEST), "the count is a running total");
    assert_eq!(bench.read(CDAR), bench.descriptor(3));
    assert_eq!((bench.rig.take_messages(0), bench.findings()), (0, vec![]), "nobody asked for interrupts");
}

#[test]
fn a_descriptor_that_leads_to_itself_is_executed_as_often_as_it_is_counted() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.put(0, 8, DESCRIPTOR_INTERRUPT, from, to);
    bench.rig.store(CHAIN + 24, &bench.descriptor(0).to_le_bytes());
    bench.start(u64::from(u16::MAX));
    assert_eq!((bench.state(), bench.rig.take_messages(0)), (CHANSTS_DONE, 1));
    bench.write(CHANCTRL, CHANCTRL_INT_DISABLE);
    bench.count(0);
    assert_eq!(
        (bench.state(), bench.rig.take_messages(0)),
        (CHANSTS_DONE, 1),
        "one more: the total wraps around"
    );
    bench.start(0);
    assert_eq!(bench.read(DMACOUNT), 0, "a new chain counts anew");
}

#[test]
fn memory_is_filled_with_a_pattern_of_eight_bytes() {
    let mut bench = Bench::new();
    let to = bench.rig.address(TARGET);
    bench.put(0, 19, u32::from(FILL) << 24, u64::from_le_bytes(*b"ABCDEFGH"), to);
    bench.start(1);
    assert_eq!(bench.rig.load(TARGET, 20), b"ABCDEFGHABCDEFGHABC\0");
}

#[test]
fn completions_are_written_and_interrupts_sent_where_a_descriptor_asks_for_them() {
    let mut bench = Bench::new();
    bench.put(0, 0, DESCRIPTOR_NULL | DESCRIPTOR_COMPLETION | DESCRIPTOR_INTERRUPT, STRAY, STRAY);
    bench.put(1, 0, DESCRIPTOR_NULL | DESCRIPTOR_INTERRUPT, STRAY, STRAY);
    bench.start(1);
    let completed = (bench.descriptor(0) | CHANSTS_DONE).to_le_bytes();
    assert_eq!(bench.rig.load(COMPLETION, 8), completed);
    assert_eq!((bench.rig.take_messages(0), bench.read(CHANCTRL)), (1, CHANCTRL_INT_DISABLE));
    bench.count(2);
    assert_eq!(bench.rig.take_messages(0), 0, "not until software asks for the next");
    assert_eq!(bench.rig.load(COMPLETION, 8), completed, "nor a completion");
    for (intrctrl, messages) in [(0, 0), (INTRCTRL_VECTORS, 1)] {
        bench.write(INTRCTRL, intrctrl);
        bench.write(CHANCTRL, CHANCTRL_INT_DISABLE);
        bench.start(1);
        assert_eq!(bench.rig.take_messages(0), messages);
    }
    assert_eq!(bench.findings(), []);
}

#[test]
fn a_suspended_channel_waits_for_the_next_count_and_a_reset_one_is_halted() {
    let mut bench = Bench::new();
    assert_eq!(bench.state(), CHANSTS_HALTED);
    bench.put(0, 0, DESCRIPTOR_NULL, 0, 0);
    bench.put(1, 0, DESCRIPTOR_NULL, 0, 0);
    bench.write(CHANCMD, CHANCMD_SUSPEND);
    assert_eq!(bench.state(), CHANSTS_HALTED, "there is nothing to suspend");
    let chain = bench.descriptor(0);
    bench.write(CHAINADDR, chain);
    bench.write(DMACOUNT, 1);
    assert_eq!(bench.state(), CHANSTS_ACTIVE);
    bench.write(CHANCMD, CHANCMD_SUSPEND);
    assert_eq!(bench.ioat.work(&mut bench.rig.reach()), Work::Idle);
    assert_eq!((bench.state(), bench.read(CDAR)), (CHANSTS_SUSPENDED, bench.descriptor(0)));
    bench.count(2);
    assert_eq!(bench.read(CHANSTS), bench.descriptor(1) | CHANSTS_DONE);
    bench.write(CHANCMD, CHANCMD_SUSPEND);
    assert_eq!(bench.state(), CHANSTS_SUSPENDED, "one that is done can be suspended, too");
    bench.write(CHANCMD, CHANCMD_RESET);
    assert_eq!((bench.read(CHANCMD), bench.read(CHANSTS)), (0, CHANSTS_HALTED));
    assert_eq!((bench.read(CHAINADDR), bench.read(CHANCMP), bench.read(DMACOUNT)), (0, 0, 0));
}

#[test]
fn each_fault_halts_the_channel_until_it_is_cleared() {
    let stray = [("copy", STRAY, TARGET, error::READ), ("copy", SOURCE, STRAY, error::WRITE)];
    for (what, from, to, expected) in stray {
        let mut bench = Bench::new();
        let place = |at| if at == STRAY { STRAY } else { bench.rig.address(at) };
        let (from, to) = (place(from), place(to));
        bench.put(0, 8, DESCRIPTOR_INTERRUPT | DESCRIPTOR_COMPLETION, from, to);
        bench.start(1);
        assert_eq!(bench.findings(), [(what, STRAY)]);
        assert_eq!((bench.state(), bench.read(CHANERR)), (CHANSTS_HALTED, expected));
        assert_eq!(
            (bench.rig.take_messages(0), bench.rig.load(COMPLETION, 1)),
            (0, vec![0]),
            "it was not done"
        );

        let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
        bench.put(0, 8, 0, from, to);
        bench.start(1);
        assert_eq!(bench.state(), CHANSTS_HALTED, "the error is still there");
        bench.write(CHANERR, !expected);
        assert_eq!(bench.read(CHANERR), expected);
        bench.write(CHANERR, expected);
        bench.start(1);
        assert_eq!((bench.state(), bench.read(CHANERR), bench.findings()), (CHANSTS_DONE, 0, vec![]));
    }
}

#[test]
fn what_is_no_descriptor_is_told_apart() {
    let copy = |size, control| {
        move |bench: &mut Bench| {
            let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
            bench.put(0, size, control, from, to);
        }
    };
    let next = |address: u64| {
        move |bench: &mut Bench| {
            bench.put(0, 0, DESCRIPTOR_NULL, 0, 0);
            bench.rig.store(CHAIN + 24, &address.to_le_bytes());
        }
    };
    let completion = |bench: &mut Bench| {
        bench.write(CHANCMP, STRAY);
        bench.put(0, 0, DESCRIPTOR_NULL | DESCRIPTOR_COMPLETION, 0, 0);
    };
    let cases: [(Spoil<'_>, u64, u64); 7] = [
        (&copy(0, 0), 1, error::LENGTH),
        (&copy(LONGEST as u32 + 1, 0), 1, error::LENGTH),
        (&copy(u32::MAX, 0), 1, error::LENGTH),
        (&copy(8, 2 << 24), 1, error::CONTROL),
        (&next(STRAY), 2, error::NEXT_ADDRESS),
        (&next(STRAY + 32), 2, error::NEXT_ALIGNMENT),
        (&completion, 1, error::COMPLETION_ADDRESS),
    ];
    for (spoil, count, expected) in cases {
        let mut bench = Bench::new();
        spoil(&mut bench);
        bench.start(count);
        assert_eq!((bench.state(), bench.read(CHANERR)), (CHANSTS_HALTED, expected));
    }
    for chain in [STRAY, STRAY + 32] {
        let mut bench = Bench::new();
        bench.write(CHAINADDR, chain);
        bench.count(1);
        assert_eq!((bench.state(), bench.read(CHANERR)), (CHANSTS_HALTED, error::CHAIN_ADDRESS));
    }
    let mut bench = Bench::new();
    bench.write(CHANCMD, CHANCMD_RESET | CHANCMD_SUSPEND);
    assert_eq!(bench.read(CHANERR), error::COMMAND);
}

#[test]
fn an_error_is_told_by_completion_and_interrupt_if_asked_for() {
    let mut bench = Bench::new();
    bench.put(0, 0, 0, 0, 0);
    bench.write(CHANCTRL, CHANCTRL_ERR_COMPLETION | CHANCTRL_ERR_INT);
    bench.start(1);
    assert_eq!(bench.rig.load(COMPLETION, 8), CHANSTS_HALTED.to_le_bytes());
    assert_eq!(bench.rig.take_messages(0), 1);
    bench.write(CHANERR, error::LENGTH);
    bench.write(CHANCMP, STRAY);
    bench.start(1);
    assert_eq!(bench.read(CHANERR), error::LENGTH | error::COMPLETION_ADDRESS);
}

#[test]
fn registers_are_reached_in_every_width() {
    let mut bench = Bench::new();
    assert_eq!(bench.read_at(0, Width::U32), 1 | TRANSFER_BITS << 8 | INTRCTRL_VECTORS << 24);
    assert_eq!(bench.read_at(VER.at, Width::U64), VERSION, "what is no register reads 0");
    assert_eq!(bench.read_at(DMACAP.at, Width::U8), DMACAP_FILL);
    bench.write_at(CHAINADDR.at, Width::U32, 0x1234_5680);
    bench.write_at(CHAINADDR.at + 4, Width::U32, 0x9abc_def0);
    assert_eq!(bench.read(CHAINADDR), 0x9abc_def0_1234_5680);
    assert_eq!(bench.read_at(CHAINADDR.at + 3, Width::U8), 0x12);
    bench.write_at(CHANCTRL.at, Width::U64, 7 << 48 | CHANCTRL_ERR_INT);
    assert_eq!((bench.read(CHANCTRL), bench.read(DMACOUNT)), (CHANCTRL_ERR_INT, 7), "several at once");
    bench.write_at(0x1000, Width::U32, u64::MAX);
    bench.write(VER, 0);
    assert_eq!((bench.read_at(0x1000, Width::U32), bench.read(VER)), (0, VERSION));
}
