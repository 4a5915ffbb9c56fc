//! A pair of I/O queues: commands go in by the batch, completions come out by polling or after an interrupt.

use std::fmt;
use std::time::{Duration, Instant};

use ioasis::{DmaBuffer, DmaOptions, PageSize, Sys};

use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::link::Link;
use crate::namespace::Namespace;
use crate::prp::{self, PrpError};
use crate::ring::{self, Ring};
use crate::spec::{Command, CompletionEntry, PAGE, admin, nvm};
use crate::status::Status;

/// How often a polled queue looks for completions before it looks at anything else.
const SPINS: u32 = 4096;
/// PC: the queue is physically contiguous (sections 5.3 and 5.4).
const CONTIGUOUS: u32 = 1;
/// IEN: the completion queue interrupts (section 5.3).
const INTERRUPTS: u32 = 2;

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

/// A pair of I/O queues. It is for one thread at a time; threads that work in parallel take a queue each.
///
/// Dropping it deletes the queues in the controller, with whatever commands are under way.
pub struct Queue<S: Sys> {
    ring: Ring<S>,
    slots: Vec<Slot<S>>,
    free: Vec<u16>,
    /// A page for the PRP list of each slot.
    lists: DmaBuffer<S>,
    max_transfer: usize,
    /// The commands that delete what was created in the controller, in the order of creation.
    undo: Vec<(u8, &'static str)>,
    lease: Lease<S>,
}

struct Slot<S: Sys> {
    tag: u64,
    /// Whether a command of this slot is under way.
    busy: bool,
    /// What it transfers to or from.
    buffer: Option<DmaBuffer<S>>,
}

impl<S: Sys> Queue<S> {
    pub(crate) fn create(lease: Lease<S>, depth: u16, max_transfer: usize) -> Result<Self> {
        let link = &lease.link;
        let space = link.device.address_space();
        let rings = ring_memory(link, depth)?;
        // One command less than the depth: a full ring would look empty.
        let slots = depth - 1;
        let lists = space.allocate(usize::from(slots) * PAGE, &DmaOptions::new())?;
        let ring = Ring::new(link.registers.clone(), link.capabilities.stride(), lease.id, depth, &rings);
        let mut queue = Queue {
            ring,
            slots: (0..slots).map(|_| Slot { tag: 0, busy: false, buffer: None }).collect(),
            free: (0..slots).rev().collect(),
            lists,
            max_transfer,
            undo: Vec::new(),
            lease,
        };
        queue.announce(depth)?;
        Ok(queue)
    }

    /// Creates the queues in the controller.
    fn announce(&mut self, depth: u16) -> Result<()> {
        let Lease { id, interrupt, link, .. } = &self.lease;
        let size = u32::from(depth - 1) << 16 | u32::from(*id);
        let create = |opcode, address, second: u32| Command {
            opcode,
            prp: [address, 0],
            cdw10: [size, second | CONTIGUOUS, 0, 0, 0, 0],
            ..Command::default()
        };
        let vector = interrupt.as_ref().map_or(0, |interrupt| interrupt.index() << 16 | INTERRUPTS);
        let completion = create(admin::CREATE_CQ, self.ring.completion_address(), vector);
        link.admin_command("Create I/O Completion Queue", completion)?;
        self.undo.push((admin::DELETE_CQ, "Delete I/O Completion Queue"));
        let submission = create(admin::CREATE_SQ, self.ring.submission_address(), u32::from(*id) << 16);
        link.admin_command("Create I/O Submission Queue", submission)?;
        self.undo.push((admin::DELETE_SQ, "Delete I/O Submission Queue"));
        Ok(())
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

    /// Puts a read or write into the queue; `tag` comes back with its completion. [`Queue::ring`] starts what
    /// was submitted.
    pub fn submit(&mut self, transfer: &Transfer<'_, S>, tag: u64) -> Result<()> {
        let &Transfer { operation, namespace, lba, blocks, buffer, offset } = transfer;
        let length = self.check(transfer)?;
        let slot = self.next_slot()?;
        let list_at = usize::from(slot) * PAGE;
        let prp = prp::describe(
            offset,
            length,
            |offset| buffer.address_at(offset).0.get(),
            self.lists.address_at(list_at).0.get(),
            |index, entry| self.lists.write_u64(list_at + 8 * index, entry),
        )
        .map_err(|error| {
            self.argument(match error {
                PrpError::TooLong => format!("{length} bytes do not fit one PRP list"),
                PrpError::Unaligned => {
                    format!("data at offset {offset:#x} of a buffer does not start at a multiple of 4")
                }
            })
        })?;
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
        let slot = self.next_slot()?;
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
        let slot = self.next_slot()?;
        let cdw10 = [lba as u32, (lba >> 32) as u32, blocks - 1, 0, 0, 0];
        let command = Command { opcode: nvm::WRITE_ZEROES, nsid: namespace.id, cdw10, ..Command::default() };
        self.start(slot, tag, None, command);
        Ok(())
    }

    /// Tells the controller of what was submitted.
    pub fn ring(&mut self) {
        self.ring.ring();
    }

    /// Hands out completions that are there; their number.
    pub fn poll(&mut self, mut each: impl FnMut(Completion)) -> usize {
        let mut count = 0;
        while let Some(entry) = self.ring.pop() {
            if let Some(completion) = self.end(entry) {
                each(completion);
                count += 1;
            }
        }
        self.ring.acknowledge();
        count
    }

    /// Starts what was submitted, waits until a command ends, and hands out what has ended: by interrupt if
    /// the queue has one, else by polling. Gives how many that are: 0 only if no command is under way.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if nothing ends within `timeout`, [`Error::Fatal`] or [`Error::Gone`] for a
    /// controller that will not answer any more. What is under way stays so, until the queue is dropped.
    pub fn wait(&mut self, timeout: Duration, mut each: impl FnMut(Completion)) -> Result<usize> {
        self.ring();
        let mut start = None;
        loop {
            let count = self.spin(&mut each);
            if count > 0 || self.under_way() == 0 {
                return Ok(count);
            }
            self.lease.link.check()?;
            let now = Instant::now();
            let left = timeout.saturating_sub(now - *start.get_or_insert(now));
            if left.is_zero() {
                return Err(self.unanswered(timeout));
            }
            match &self.lease.interrupt {
                // Woken at least once a second, to notice a controller that failed.
                Some(interrupt) => drop(interrupt.wait(Some(left.min(Duration::from_secs(1))))?),
                None => self.lease.link.give_turn(),
            }
        }
    }

    /// Polls for a while where that is how the queue learns of completions: a device on another processor
    /// answers within microseconds, sooner than the clock can be looked at often.
    fn spin(&mut self, mut each: impl FnMut(Completion)) -> usize {
        let rounds = if self.lease.interrupt.is_some() || self.under_way() == 0 { 1 } else { SPINS };
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

    pub(crate) fn unanswered(&self, within: Duration) -> Error {
        self.lease.link.timeout("the end of a command", within)
    }

    pub(crate) fn out_of_range(&self, namespace: &Namespace, lba: u64, count: u64) -> Error {
        Error::OutOfRange { device: self.lease.link.name(), lba, count, blocks: namespace.blocks }
    }

    pub(crate) fn failed(&self, command: String, status: Status) -> Error {
        Error::Command { device: self.lease.link.name(), command, status }
    }

    /// The slot of the next command.
    fn next_slot(&self) -> Result<u16> {
        self.free.last().copied().ok_or_else(|| {
            let most = self.slots.len();
            self.argument(format!("the queue is full: {most} commands are under way"))
        })
    }

    /// Puts a command into the queue, in [`Queue::next_slot`].
    fn start(&mut self, slot: u16, tag: u64, buffer: Option<DmaBuffer<S>>, mut command: Command) {
        self.free.pop();
        command.cid = slot;
        self.slots[usize::from(slot)] = Slot { tag, busy: true, buffer };
        self.ring.push(&command);
    }

    /// Ends a command; `None` for an answer to a command that is not under way, which a sound controller does
    /// not give.
    fn end(&mut self, entry: CompletionEntry) -> Option<Completion> {
        let slot = self.slots.get_mut(usize::from(entry.cid)).filter(|slot| slot.busy)?;
        slot.busy = false;
        slot.buffer = None;
        self.free.push(entry.cid);
        Some(Completion { tag: slot.tag, status: Status::from_field(entry.status >> 1) })
    }

    pub(crate) fn argument(&self, what: String) -> Error {
        Error::Argument { device: self.lease.link.name(), what }
    }
}

impl<S: Sys> Drop for Queue<S> {
    /// Deletes the queues in the controller, which ends what is under way; only then may the memory go.
    fn drop(&mut self) {
        let Lease { id, link, .. } = &self.lease;
        let cdw10 = [u32::from(*id), 0, 0, 0, 0, 0];
        let delete = |&(opcode, name): &(u8, &str)| {
            link.admin_command(name, Command { opcode, cdw10, ..Command::default() }).map(drop)
        };
        if self.undo.iter().rev().try_for_each(delete).is_ok() {
            return;
        }
        if link.device.set_bus_master(false).is_err() {
            // The controller neither answers nor can be kept from memory: what it may write to is never
            // reused.
            self.ring.leak();
            std::mem::forget(self.lists.clone());
            self.slots.iter().for_each(|slot| std::mem::forget(slot.buffer.clone()));
        }
        self.lease.lose();
    }
}

/// Memory for the rings of a queue: in base pages where each ring fits one, else in one piece taken from huge
/// pages.
fn ring_memory<S: Sys>(link: &Link<S>, depth: u16) -> Result<DmaBuffer<S>> {
    let (submission, completion) = ring::extents(depth);
    let options = if submission.max(completion) <= PAGE {
        DmaOptions::new()
    } else {
        DmaOptions::new().contiguous(true).page_size(PageSize::Huge2M)
    };
    Ok(link.device.address_space().allocate(submission + completion, &options)?)
}
