//! A controller as a driver meets it, driven through its registers, its doorbells and memory alone.

mod admin;
mod controller;
mod events;
mod io;
mod prp;
mod queues;
mod random;

use sys::Width;

use super::{Namespace, Nvme};
use crate::model::{Model, Register, Work};
use crate::models::rig::Rig;

const CAP: u64 = 0x00;
const INTMS: u64 = 0x0c;
const INTMC: u64 = 0x10;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;

/// CC: enabled, 64-byte and 16-byte entries.
const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;

const READY: u32 = 1;
const FATAL: u32 = 2;

const ADMIN_ENTRIES: u32 = 32;

// Where in the rig's memory everything is.
const LIST: u64 = 0x8_0000;
const QUEUES: u64 = 0x10_0000;
const DATA: u64 = 0x80_0000;

/// A submission queue entry: dwords.
#[derive(Clone, Copy, Debug, Default)]
struct Entry([u32; 16]);

impl Entry {
    fn new(opcode: u8) -> Self {
        Entry::default().dword(0, opcode.into())
    }

    fn dword(mut self, index: usize, value: u32) -> Self {
        self.0[index] = value;
        self
    }

    fn namespace(self, id: u32) -> Self {
        self.dword(1, id)
    }

    fn prp(self, first: u64, second: u64) -> Self {
        let halves = |value: u64| (value as u32, (value >> 32) as u32);
        let ((a, b), (c, d)) = (halves(first), halves(second));
        self.dword(6, a).dword(7, b).dword(8, c).dword(9, d)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|dword| dword.to_le_bytes()).collect()
    }
}

/// A completion as the host finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Completed {
    result: u32,
    queue: u16,
    head: u16,
    command: u16,
    status: u16,
}

/// A host's view of a queue pair.
#[derive(Clone, Copy, Debug)]
struct Pair {
    id: u16,
    submission: u64,
    completion: u64,
    entries: u32,
    tail: u32,
    head: u32,
    phase: u16,
    next_command: u16,
}

impl Pair {
    fn new(id: u16, entries: u32) -> Self {
        let submission = QUEUES + u64::from(id) * 0x2_0000;
        let completion = submission + 0x1_0000;
        Pair { id, submission, completion, entries, tail: 0, head: 0, phase: 1, next_command: 0 }
    }
}

/// A host with a controller.
struct Host {
    rig: Rig,
    nvme: Nvme,
    admin: Pair,
}

impl Host {
    /// With a namespace of memory, of `blocks` blocks; not enabled.
    fn disabled(blocks: u64) -> Self {
        Host::with(Namespace::memory(blocks * 512).unwrap())
    }

    fn with(namespace: Namespace) -> Self {
        Host { rig: Rig::new(), nvme: Nvme::new(namespace, "TEST 1"), admin: Pair::new(0, ADMIN_ENTRIES) }
    }

    /// The same, enabled.
    fn enabled(blocks: u64) -> Self {
        let mut host = Host::disabled(blocks);
        host.enable();
        host
    }

    fn enable(&mut self) {
        self.admin = Pair::new(0, ADMIN_ENTRIES);
        self.rig.store(self.admin.completion, &[0; 16 * ADMIN_ENTRIES as usize]);
        self.write(AQA, (ADMIN_ENTRIES - 1) | (ADMIN_ENTRIES - 1) << 16);
        self.write_wide(ASQ, self.rig.address(self.admin.submission));
        self.write_wide(ACQ, self.rig.address(self.admin.completion));
        self.write(CC, ENABLE);
        assert_eq!(self.read(CSTS), READY);
    }

    fn read(&mut self, offset: u64) -> u32 {
        self.nvme.read(Register { bar: 0, offset, width: Width::U32 }, &mut self.rig.reach()) as u32
    }

    fn write(&mut self, offset: u64, value: u32) {
        let at = Register { bar: 0, offset, width: Width::U32 };
        self.nvme.write(at, value.into(), &mut self.rig.reach());
    }

    fn write_wide(&mut self, offset: u64, value: u64) {
        let at = Register { bar: 0, offset, width: Width::U64 };
        self.nvme.write(at, value, &mut self.rig.reach());
    }

    /// Lets the controller work until it is idle.
    fn run(&mut self) {
        for _ in 0..10_000 {
            if self.nvme.work(&mut self.rig.reach()) == Work::Idle {
                return;
            }
        }
        panic!("the controller does not come to rest");
    }

    /// Puts a command into a queue, without ringing; returns its identifier.
    fn push(&self, pair: &mut Pair, entry: Entry) -> u16 {
        let id = pair.next_command;
        pair.next_command += 1;
        let entry = entry.dword(0, entry.0[0] | u32::from(id) << 16);
        self.rig.store(pair.submission + u64::from(pair.tail) * 64, &entry.bytes());
        pair.tail = (pair.tail + 1) % pair.entries;
        id
    }

    fn ring_tail(&self, pair: &Pair) {
        self.rig.doorbells().store(u64::from(pair.id) * 8, pair.tail);
    }

    fn ring_head(&self, pair: &Pair) {
        self.rig.doorbells().store(u64::from(pair.id) * 8 + 4, pair.head);
    }

    /// The next completion, if there is one; it is not acknowledged.
    fn peek(&self, pair: &mut Pair) -> Option<Completed> {
        let bytes = self.rig.load(pair.completion + u64::from(pair.head) * 16, 16);
        let dword = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let word = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        if word(14) & 1 != pair.phase {
            return None;
        }
        pair.head += 1;
        if pair.head == pair.entries {
            pair.head = 0;
            pair.phase ^= 1;
        }
        Some(Completed {
            result: dword(0),
            head: word(8),
            queue: word(10),
            command: word(12),
            status: word(14) & !1,
        })
    }

    fn take(&self, pair: &mut Pair) -> Option<Completed> {
        let completed = self.peek(pair);
        self.ring_head(pair);
        completed
    }

    /// Executes one command and returns its completion.
    fn execute(&mut self, pair: &mut Pair, entry: Entry) -> Completed {
        let id = self.push(pair, entry);
        self.ring_tail(pair);
        self.run();
        let completed = self.take(pair).expect("a completion");
        assert_eq!((completed.queue, completed.command), (pair.id, id));
        assert_eq!(u32::from(completed.head), pair.tail);
        completed
    }

    /// Executes an admin command and returns dword 0 of its completion.
    fn admin(&mut self, entry: Entry) -> Result<u32, Error> {
        let mut pair = self.admin;
        let completed = self.execute(&mut pair, entry);
        self.admin = pair;
        completed.outcome()
    }

    /// Creates a pair of I/O queues; completions interrupt with the vector of the same number, if `interrupts`.
    fn create_pair(&mut self, id: u16, entries: u32, interrupts: bool) -> Pair {
        let pair = Pair::new(id, entries);
        self.rig.store(pair.completion, &vec![0; 16 * entries as usize]);
        let vector = if interrupts { u32::from(id) << 16 | 2 } else { 0 };
        let size = u32::from(id) | (entries - 1) << 16;
        let completion = Entry::new(0x05).dword(10, size).dword(11, vector | 1);
        self.admin(completion.prp(self.rig.address(pair.completion), 0)).unwrap();
        let submission = Entry::new(0x01).dword(10, size).dword(11, u32::from(id) << 16 | 1);
        self.admin(submission.prp(self.rig.address(pair.submission), 0)).unwrap();
        pair
    }

    fn io(&mut self, pair: &mut Pair, entry: Entry) -> Result<u32, Error> {
        self.execute(pair, entry).outcome()
    }

    /// A read or write of `blocks` from block `first` on.
    fn transfer(opcode: u8, first: u64, blocks: u32, [prp1, prp2]: [u64; 2]) -> Entry {
        let entry = Entry::new(opcode).namespace(1).prp(prp1, prp2);
        entry.dword(10, first as u32).dword(11, (first >> 32) as u32).dword(12, blocks - 1)
    }
}

/// The status of a command that failed: type and code, without "more" and "do not retry".
#[derive(Clone, Copy, PartialEq, Eq)]
struct Error(u16);

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "type {} code {:#04x}", self.0 >> 8, self.0 & 0xff)
    }
}

impl Completed {
    fn outcome(self) -> Result<u32, Error> {
        match self.status >> 1 & 0x7ff {
            0 => Ok(self.result),
            error => Err(Error(error)),
        }
    }
}

// By the numbers of the specification, so that a wrong constant of the model shows.
const INVALID_OPCODE: Error = Error(0x001);
const INVALID_FIELD: Error = Error(0x002);
const COMMAND_ID_CONFLICT: Error = Error(0x003);
const DATA_TRANSFER_ERROR: Error = Error(0x004);
const ABORT_REQUESTED: Error = Error(0x007);
const INVALID_NAMESPACE: Error = Error(0x00b);
const COMMAND_SEQUENCE_ERROR: Error = Error(0x00c);
const PRP_OFFSET_INVALID: Error = Error(0x013);
const WRITE_PROTECTED: Error = Error(0x020);
const LBA_OUT_OF_RANGE: Error = Error(0x080);
const COMPLETION_QUEUE_INVALID: Error = Error(0x100);
const INVALID_QUEUE_IDENTIFIER: Error = Error(0x101);
const INVALID_QUEUE_SIZE: Error = Error(0x102);
const ASYNC_EVENT_LIMIT: Error = Error(0x105);
const INVALID_INTERRUPT_VECTOR: Error = Error(0x108);
const INVALID_LOG_PAGE: Error = Error(0x109);
const INVALID_QUEUE_DELETION: Error = Error(0x10c);
const FEATURE_NOT_SAVEABLE: Error = Error(0x10d);
const FEATURE_NOT_NAMESPACE_SPECIFIC: Error = Error(0x10f);
const WRITE_FAULT: Error = Error(0x280);
const UNRECOVERED_READ_ERROR: Error = Error(0x281);
