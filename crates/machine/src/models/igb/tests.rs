use subsystem::IrqKind;

use super::*;
use crate::models::rig::Rig;

/// How many descriptors each ring has.
const RING: u32 = 8;
/// Where things are in the rig's memory.
const TX: u64 = 0;
const RX: u64 = 0x1000;
const SOURCE: u64 = 0x2000;
const TARGET: u64 = 0x4000;

struct Bench {
    rig: Rig,
    igb: Igb,
}

impl Bench {
    /// A controller that is set up to copy by loopback of the PHY.
    fn new() -> Self {
        let mut bench = Bench { rig: Rig::new(), igb: Igb::new() };
        bench.rig.enable_messages(IrqKind::MsiX, VECTORS.into());
        bench.set_up();
        bench
    }

    fn set_up(&mut self) {
        let (tx, rx) = (self.rig.address(TX), self.rig.address(RX));
        self.write(MDIC, u32::from(PHY_LOOPBACK) | 1 << 21 | 0b01 << 26);
        self.write(CTRL, CTRL_SLU);
        for (queue, base) in [(0x3800, tx), (RECEIVE, rx)] {
            self.write(queue + BASE_LOW, base as u32);
            self.write(queue + BASE_HIGH, (base >> 32) as u32);
            self.write(queue + LENGTH, RING * DESCRIPTOR as u32);
            self.write(queue + QUEUE_CONTROL, QUEUE_ENABLE);
        }
        self.write(RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_BAM | RCTL_SECRC);
        self.write(TCTL, TCTL_EN);
        self.write(GPIE, GPIE_EIAME | 1 << 4);
        self.write(IVAR0, IVAR_VALID);
        self.write(EIMS, 1);
    }

    fn write(&mut self, offset: u64, value: u32) {
        let at = Register { bar: 0, offset, width: Width::U32 };
        self.igb.write(at, value.into(), &mut self.rig.reach());
    }

    fn read(&mut self, offset: u64) -> u32 {
        let at = Register { bar: 0, offset, width: Width::U32 };
        self.igb.read(at, &mut self.rig.reach()) as u32
    }

    /// Fills descriptor `index` of both rings, and lets the device go up to there.
    fn copy(&mut self, index: u32, from: u64, to: u64, length: usize, command: u32) {
        let at = u64::from(index % RING) * DESCRIPTOR;
        let command = length as u32 | TX_TYPE_DATA | TX_DEXT | command;
        let transmit = [from.to_le_bytes(), u64::from(command).to_le_bytes()].concat();
        self.rig.store(TX + at, &transmit);
        self.rig.store(RX + at, &[to.to_le_bytes(), [0; 8]].concat());
        self.write(RECEIVE + TAIL, (index + 1) % RING);
        self.write(TRANSMIT + TAIL, (index + 1) % RING);
        while self.igb.work(&mut self.rig.reach()) == Work::More {}
    }

    /// What was written back for a frame: status and length.
    fn received(&self, index: u32) -> (u32, u32) {
        let bytes = self.rig.load(RX + u64::from(index % RING) * DESCRIPTOR + 8, 8);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7) as u8).collect()
}

#[test]
fn frames_are_copied_around_the_ring() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    for index in 0..3 * RING {
        let bytes: Vec<u8> = pattern(1024).into_iter().map(|byte| byte ^ index as u8).collect();
        bench.rig.store(SOURCE, &bytes);
        bench.copy(index, from, to, 1024, TX_EOP | TX_IFCS);
        assert_eq!(bench.rig.load(TARGET, 1024), bytes);
        assert_eq!(bench.received(index), (DONE | RX_EOP, 1024));
    }
    assert_eq!(bench.rig.take_findings(), []);
    assert_eq!(bench.read(0x3810), 0, "the head, where it was before");
}

#[test]
fn a_frame_of_several_descriptors_and_buffers() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.write(RECEIVE + SRRCTL, 1);
    bench.rig.store(SOURCE, &pattern(1500));
    bench.copy(0, from, to, 1000, 0);
    bench.copy(1, from + 1000, to + 1024, 500, TX_EOP | TX_IFCS | TX_RS);
    assert_eq!(bench.rig.load(TARGET, 1500), pattern(1500));
    assert_eq!([bench.received(0), bench.received(1)], [(DONE, 1024), (DONE | RX_EOP, 476)]);
    assert_eq!(bench.rig.load(TX + DESCRIPTOR + 12, 4), [1, 0, 0, 0], "the status that was asked for");
}

#[test]
fn short_frames_are_padded_and_have_a_checksum_if_it_is_not_stripped() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.write(RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE);
    bench.rig.store(SOURCE, &pattern(14));
    bench.copy(0, from, to, 14, TX_EOP | TX_IFCS);
    let mut frame = pattern(14);
    frame.resize(SHORTEST, 0);
    assert_eq!(bench.received(0), (DONE | RX_EOP, 64));
    assert_eq!(bench.rig.load(TARGET, 64), [&frame[..], &checksum(&frame).to_le_bytes()].concat());
    assert_eq!(checksum(b"123456789"), 0xcbf4_3926, "the check value of this polynomial");
}

#[test]
fn what_is_not_looped_back_or_not_wanted_arrives_nowhere() {
    for spoil in [
        |bench: &mut Bench| bench.write(MDIC, 1 << 21 | 0b01 << 26),
        |bench: &mut Bench| bench.write(RCTL, RCTL_EN | RCTL_MPE),
        |bench: &mut Bench| bench.write(RECEIVE + QUEUE_CONTROL, 0),
    ] {
        let mut bench = Bench::new();
        spoil(&mut bench);
        let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
        bench.copy(0, from, to, 64, TX_EOP | TX_IFCS | TX_RS);
        assert_eq!(bench.received(0), (0, 0));
        assert_eq!(bench.read(TRANSMIT + HEAD), 1, "it is sent all the same");
    }
}

#[test]
fn messages_are_masked_and_cleared_by_themselves_where_that_is_asked_for() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.write(EIAC, 1);
    bench.write(EIAM, 1);
    bench.copy(0, from, to, 64, TX_EOP | TX_IFCS);
    assert_eq!(bench.rig.take_messages(0), 1);
    assert_eq!((bench.read(EICR), bench.read(EIMS)), (0, 0));
    bench.copy(1, from, to, 64, TX_EOP | TX_IFCS);
    assert_eq!((bench.rig.take_messages(0), bench.read(EICR)), (0, 1), "masked");
    bench.write(EIMS, 1);
    assert_eq!(bench.rig.take_messages(0), 1, "what has waited is sent");
    bench.write(EIMS, 1 << 3);
    bench.write(EICS, 1 << 3);
    assert_eq!(bench.rig.take_messages(3), 1, "software may raise it too");
    bench.write(EIMC, 1 << 3);
    bench.write(EICS, 1 << 3);
    assert_eq!(bench.rig.take_messages(3), 0);
}

#[test]
fn a_stray_descriptor_is_a_finding_and_stops_the_engine() {
    let mut bench = Bench::new();
    let (from, to) = (bench.rig.address(SOURCE), bench.rig.address(TARGET));
    bench.copy(0, from, 0x6000, 64, TX_EOP | TX_IFCS);
    let findings: Vec<_> =
        bench.rig.take_findings().into_iter().map(|(doing, at)| (doing.unwrap().what, at)).collect();
    assert_eq!(findings, [("receive", 0x6000)]);
    bench.copy(1, from, to, 64, TX_EOP | TX_IFCS);
    assert_eq!(bench.received(1), (0, 0), "it stands still");
    bench.write(CTRL, CTRL_RST);
    bench.set_up();
    bench.copy(0, from, to, 64, TX_EOP | TX_IFCS);
    assert_eq!(bench.received(0), (0, 0), "a reset of the MAC alone does not help");
    bench.igb.reset(&mut bench.rig.reach());
    bench.set_up();
    bench.copy(0, from, to, 64, TX_EOP | TX_IFCS);
    assert_eq!(bench.received(0), (DONE | RX_EOP, 64));
}

#[test]
fn registers_answer_as_drivers_wait_for() {
    let mut bench = Bench::new();
    bench.write(CTRL, CTRL_RST);
    assert_eq!(bench.read(CTRL) & CTRL_RST, 0, "done at once");
    assert_eq!(bench.read(EECD) & EECD_AUTO_RD, EECD_AUTO_RD);
    assert_eq!(bench.read(STATUS), 0);
    bench.write(CTRL, CTRL_SLU);
    assert_eq!(bench.read(STATUS), STATUS_LINK);
    bench.write(MDIC, 0x1234 | 5 << 16 | 1 << 21 | 0b01 << 26);
    bench.write(MDIC, 5 << 16 | 1 << 21 | MDIC_READ);
    assert_eq!(bench.read(MDIC), 0x1234 | 5 << 16 | 1 << 21 | MDIC_READ | MDIC_READY);
    bench.write(RECEIVE + QUEUE_CONTROL, QUEUE_ENABLE);
    assert_eq!(bench.read(0x2828), QUEUE_ENABLE);
}
