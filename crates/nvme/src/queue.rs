//! A pair of I/O queues: commands go in by the batch, completions come out by polling or after an interrupt.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ioasis::{DmaBuffer, DmaOptions, Interrupt, PageSize, Sys};

use crate::controller::{Namespace, Shared};
use crate::error::{Error, Result};
use crate::prp::{self, PrpError};
use crate::ring::Ring;
use crate::spec::{Command, CompletionEntry, PAGE, admin, nvm, register};
use crate::status::Status;

/// How often a polled queue looks for completions before it looks at anything else.
const SPINS: u32 = 4096;
/// PC: the queue is physically contiguous (sections 5.3 and 5.4).
const CONTIGUOUS: u32 = 1;

/// How a queue tells that commands have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completions {
    /// It does not: the completion queue is polled.
    Polled,
    /// By an MSI-X vector of its own.
    Interrupt,
}

/// What a command of the NVM command set does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads blocks into memory.
    Read,
    /// Writes blocks from memory.
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "Read",
            Operation::Write => "Write",
        })
    }
}

/// A transfer of whole blocks between a namespace and a buffer.
pub struct Transfer<'a, S: Sys> {
    /// Which way.
    pub operation: Operation,
    /// The namespace.
    pub namespace: &'a Namespace,
    /// The first block.
    pub lba: u64,
    /// How many blocks.
    pub blocks: u32,
    /// The memory. The queue holds it until the command has ended.
    pub buffer: &'a DmaBuffer<S>,
    /// Where in the buffer, in bytes: a multiple of 4.
    pub offset: usize,
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the submitter called the command.
    pub tag: u64,
    /// How it failed, if it did.
    pub status: Option<Status>,
}

/// A pair of I/O queues.
pub struct Queue<S: Sys> {
    // Fields drop in order; `Drop` has deleted the queues in the controller by then.
    ring: Option<Ring<S>>,
    slots: Vec<Slot<S>>,
    free: Vec<u16>,
    /// A page for the PRP list of each slot.
    lists: Option<DmaBuffer<S>>,
    interrupt: Option<Interrupt<S>>,
    max_transfer: usize,
    id: u16,
    shared: Arc<Shared<S>>,
}

struct Slot<S: Sys> {
    tag: u64,
    /// Whether a command of this slot is under way.
    busy: bool,
    /// What it transfers to or from.
    buffer: Option<DmaBuffer<S>>,
}

impl<S: Sys> Queue<S> {
    pub(crate) fn create(
        shared: &Arc<Shared<S>>,
        id: u16,
        depth: u16,
        interrupt: Option<(u16, Interrupt<S>)>,
        max_transfer: usize,
    ) -> Result<Self> {
        let submission = Memory::new(shared, usize::from(depth) * 64)?;
        let completion = Memory::new(shared, usize::from(depth) * 16)?;
        // One command less than the depth: a full ring would look empty.
        let slots = usize::from(depth) - 1;
        let lists = shared.device().address_space().allocate(slots * PAGE, &DmaOptions::new())?;

        let size = u32::from(depth - 1) << 16 | u32::from(id);
        let vector = interrupt.as_ref().map_or(0, |(vector, _)| u32::from(*vector) << 16 | 2);
        let create = |opcode, memory: &Memory<S>, second: u32| Command {
            opcode,
            prp: [memory.address, 0],
            cdw10: [size, second | CONTIGUOUS, 0, 0, 0, 0],
            ..Command::default()
        };
        shared.admin_command("Create I/O Completion Queue", create(admin::CREATE_CQ, &completion, vector))?;
        let command = create(admin::CREATE_SQ, &submission, u32::from(id) << 16);
        if let Err(error) = shared.admin_command("Create I/O Submission Queue", command) {
            // The completion queue goes the way it came; the first error is the one to tell.
            let _ = delete(shared, admin::DELETE_CQ, id);
            return Err(error);
        }
        let stride = shared.capabilities.stride();
        let ring = Ring::new(shared.bar.clone(), stride, id, depth, submission.buffer, completion.buffer);
        Ok(Queue {
            ring: Some(ring),
            slots: (0..slots).map(|_| Slot { tag: 0, busy: false, buffer: None }).collect(),
            free: (0..slots as u16).rev().collect(),
            lists: Some(lists),
            interrupt: interrupt.map(|(_, interrupt)| interrupt),
            max_transfer,
            id,
            shared: Arc::clone(shared),
        })
    }

    /// How many more commands can be submitted before one has to end.
    #[must_use]
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// How many commands are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The most bytes that one command transfers.
    #[must_use]
    pub fn max_transfer(&self) -> usize {
        self.max_transfer
    }

    /// Puts a read or write into the queue; `tag` comes back with its completion. [`Queue::ring`] starts what was submitted.
    pub fn submit(&mut self, transfer: &Transfer<'_, S>, tag: u64) -> Result<()> {
        let &Transfer { operation, namespace, lba, blocks, buffer, offset } = transfer;
        let length = self.check(transfer)?;
        let slot = self.take_slot()?;
        let list_at = usize::from(slot) * PAGE;
        let Some(lists) = &self.lists else { unreachable!("the lists live as long as the queue") };
        let described = prp::describe(
            offset,
            length,
            |offset| buffer.address_at(offset).0.get(),
            lists.address_at(list_at).0.get(),
            |index, entry| lists.write_u64(list_at + 8 * index, entry),
        );
        let prp = match described {
            Ok(prp) => prp,
            Err(error) => {
                self.free.push(slot);
                return Err(self.argument(match error {
                    PrpError::TooLong => format!("{length} bytes do not fit one PRP list"),
                    PrpError::Unaligned => {
                        format!(
                            "the data starts at offset {offset:#x} of its buffer, which is no multiple of 4"
                        )
                    }
                }));
            }
        };
        let opcode = match operation {
            Operation::Read => nvm::READ,
            Operation::Write => nvm::WRITE,
        };
        let cdw10 = [lba as u32, (lba >> 32) as u32, blocks - 1, 0, 0, 0];
        let command = Command { opcode, nsid: namespace.id, prp, cdw10, ..Command::default() };
        self.start(slot, tag, Some(buffer.clone()), command);
        Ok(())
    }

    /// Puts a flush into the queue: when it has ended, everything that had ended before is durable.
    pub fn submit_flush(&mut self, namespace: &Namespace, tag: u64) -> Result<()> {
        let slot = self.take_slot()?;
        self.start(slot, tag, None, Command { opcode: nvm::FLUSH, nsid: namespace.id, ..Command::default() });
        Ok(())
    }

    /// Puts a write of zeroes into the queue, at most 65,536 blocks.
    pub fn submit_write_zeroes(
        &mut self,
        namespace: &Namespace,
        lba: u64,
        blocks: u32,
        tag: u64,
    ) -> Result<()> {
        self.check_range(namespace, lba, blocks)?;
        let slot = self.take_slot()?;
        let cdw10 = [lba as u32, (lba >> 32) as u32, blocks - 1, 0, 0, 0];
        let command = Command { opcode: nvm::WRITE_ZEROES, nsid: namespace.id, cdw10, ..Command::default() };
        self.start(slot, tag, None, command);
        Ok(())
    }

    /// Tells the controller of what was submitted.
    pub fn ring(&mut self) {
        self.ring_mut().ring();
    }

    /// Hands out completions that are there; their number.
    pub fn poll(&mut self, mut each: impl FnMut(Completion)) -> usize {
        let mut count = 0;
        while let Some(entry) = self.ring_mut().pop() {
            if let Some(completion) = self.end(entry) {
                each(completion);
                count += 1;
            }
        }
        self.ring_mut().acknowledge();
        count
    }

    /// Waits until a command ends, and hands out what has ended: by interrupt if the queue has one, else by polling.
    ///
    /// Nothing within `timeout` is an error, and so is a controller that has failed.
    pub fn wait(&mut self, timeout: Duration, mut each: impl FnMut(Completion)) -> Result<usize> {
        let end = Instant::now() + timeout;
        loop {
            let count = self.spin(&mut each);
            if count > 0 {
                return Ok(count);
            }
            self.shared.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (device, what) = (self.shared.name(), "the end of a command");
                let csts = self.shared.bar.read32(register::CSTS);
                return Err(Error::Timeout { device, what, within: timeout, csts });
            }
            match &self.interrupt {
                // Woken at least once a second, to notice a controller that failed.
                Some(interrupt) => drop(interrupt.wait(Some(left.min(Duration::from_secs(1))))?),
                None => self.shared.give_turn(),
            }
        }
    }

    /// Polls for a while where that is how the queue learns of completions: a device on another processor answers within
    /// microseconds, sooner than the clock can be looked at often.
    fn spin(&mut self, mut each: impl FnMut(Completion)) -> usize {
        let rounds = if self.interrupt.is_some() { 1 } else { SPINS };
        for _ in 0..rounds {
            let count = self.poll(&mut each);
            if count > 0 {
                return count;
            }
            std::hint::spin_loop();
        }
        0
    }

    fn check(&self, transfer: &Transfer<'_, S>) -> Result<usize> {
        let &Transfer { namespace, lba, blocks, buffer, offset, .. } = transfer;
        self.check_range(namespace, lba, blocks)?;
        let length = blocks as usize * namespace.block_size;
        if length > self.max_transfer {
            let most = self.max_transfer;
            return Err(
                self.argument(format!("a transfer of {length} bytes was asked for; {most} are possible"))
            );
        }
        if offset.checked_add(length).is_none_or(|end| end > buffer.len()) {
            let size = buffer.len();
            return Err(self.argument(format!(
                "{length} bytes at offset {offset:#x} reach past the end of the buffer of {size} bytes"
            )));
        }
        Ok(length)
    }

    fn check_range(&self, namespace: &Namespace, lba: u64, blocks: u32) -> Result<()> {
        let count = u64::from(blocks);
        if blocks == 0 || blocks > 65_536 {
            return Err(self.argument(format!("{blocks} blocks were asked for; 1 to 65536 are possible")));
        }
        if lba.checked_add(count).is_none_or(|end| end > namespace.blocks) {
            return Err(self.out_of_range(namespace, lba, count));
        }
        Ok(())
    }

    pub(crate) fn out_of_range(&self, namespace: &Namespace, lba: u64, count: u64) -> Error {
        Error::OutOfRange { device: self.shared.name(), lba, count, blocks: namespace.blocks }
    }

    pub(crate) fn failed(&self, command: String, status: Status) -> Error {
        Error::Command { device: self.shared.name(), command, status }
    }

    fn take_slot(&mut self) -> Result<u16> {
        self.free.pop().ok_or_else(|| {
            let most = self.slots.len();
            self.argument(format!("the queue is full: {most} commands are under way"))
        })
    }

    fn start(&mut self, slot: u16, tag: u64, buffer: Option<DmaBuffer<S>>, mut command: Command) {
        command.cid = slot;
        self.slots[usize::from(slot)] = Slot { tag, busy: true, buffer };
        self.ring_mut().push(&command);
    }

    /// Ends a command; `None` for an answer to a command that is not under way, which a sound controller does not give.
    fn end(&mut self, entry: CompletionEntry) -> Option<Completion> {
        let slot = self.slots.get_mut(usize::from(entry.cid)).filter(|slot| slot.busy)?;
        slot.busy = false;
        slot.buffer = None;
        self.free.push(entry.cid);
        Some(Completion { tag: slot.tag, status: Status::from_field(entry.status >> 1) })
    }

    fn ring_mut(&mut self) -> &mut Ring<S> {
        match &mut self.ring {
            Some(ring) => ring,
            None => unreachable!("the ring lives as long as the queue"),
        }
    }

    fn argument(&self, what: String) -> Error {
        Error::Argument { device: self.shared.name(), what }
    }
}

impl<S: Sys> Drop for Queue<S> {
    /// Deletes the queues in the controller, which ends what is under way; only then may the memory go.
    fn drop(&mut self) {
        let deleted = delete(&self.shared, admin::DELETE_SQ, self.id)
            .and_then(|_| delete(&self.shared, admin::DELETE_CQ, self.id));
        if deleted.is_err() && self.shared.device().set_bus_master(false).is_err() {
            // The controller neither answers nor can be kept from memory: what it may still write to is never reused.
            std::mem::forget((self.ring.take(), self.lists.take()));
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

fn delete<S: Sys>(shared: &Shared<S>, opcode: u8, id: u16) -> Result<CompletionEntry> {
    let name = if opcode == admin::DELETE_SQ {
        "Delete I/O Submission Queue"
    } else {
        "Delete I/O Completion Queue"
    };
    let cdw10 = [u32::from(id), 0, 0, 0, 0, 0];
    shared.admin_command(name, Command { opcode, cdw10, ..Command::default() })
}

/// Memory of one queue.
struct Memory<S: Sys> {
    buffer: DmaBuffer<S>,
    address: u64,
}

impl<S: Sys> Memory<S> {
    /// Contiguous memory: base pages serve a queue of one page, a longer one is taken from a huge page.
    fn new(shared: &Shared<S>, length: usize) -> Result<Self> {
        let space = shared.device().address_space();
        let page_size = if length > PAGE { PageSize::Huge2M } else { PageSize::Base };
        let options = DmaOptions::new().contiguous(true).page_size(page_size);
        let buffer = space.allocate(length, &options)?;
        Ok(Memory { address: buffer.address_at(0).0.get(), buffer })
    }
}
