//! Submission and completion queues (NVMe 1.4, section 4.1): rings in host memory.

use super::command::{COMPLETION_BYTES, Completion, SUBMISSION_BYTES};
use crate::bus::Doorbells;
use crate::dma::{DmaError, DmaPort, Doing};

/// I/O queue pairs.
pub(super) const IO_PAIRS: u16 = 16;

/// All queue identifiers, the admin queues' 0 among them.
pub(super) const PAIRS: usize = IO_PAIRS as usize + 1;

/// Most entries fetched with one access.
pub(super) const BATCH: usize = 16;

/// Entries as fetched.
pub(super) type Entries = [[u8; SUBMISSION_BYTES]; BATCH];

/// A doorbell was given a value that makes no sense; it is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidDoorbell;

/// A submission queue. The host moves its tail, the controller its head.
#[derive(Debug)]
pub(super) struct SubmissionQueue {
    pub(super) id: u16,
    /// The completion queue that its completions go to.
    pub(super) completion: u16,
    base: u64,
    entries: u32,
    head: u32,
    tail: Tail,
}

/// A position that the host gives through a doorbell.
#[derive(Debug, Default)]
struct Tail {
    at: u32,
    /// The last value that was refused, so that it is reported once and not at every look.
    refused: Option<u32>,
}

/// A completion queue. The controller moves its tail, the host its head.
#[derive(Debug)]
pub(super) struct CompletionQueue {
    pub(super) id: u16,
    /// The interrupt vector, if interrupts are enabled.
    pub(super) vector: Option<u16>,
    base: u64,
    entries: u32,
    head: Tail,
    tail: u32,
    phase: bool,
}

impl Tail {
    /// Takes the doorbell's value over if it is `valid`.
    fn take(&mut self, value: u32, valid: impl FnOnce(u32) -> bool) -> Result<(), InvalidDoorbell> {
        if value == self.at || self.refused == Some(value) {
            return Ok(());
        }
        if valid(value) {
            *self = Tail { at: value, refused: None };
            return Ok(());
        }
        self.refused = Some(value);
        Err(InvalidDoorbell)
    }
}

impl SubmissionQueue {
    /// An empty queue of `entries` at `base`. Its doorbell starts at 0.
    pub(super) fn new(id: u16, completion: u16, base: u64, entries: u32, doorbells: &Doorbells) -> Self {
        doorbells.store(tail_doorbell(id), 0);
        SubmissionQueue { id, completion, base, entries, head: 0, tail: Tail::default() }
    }

    pub(super) fn take_tail(&mut self, doorbells: &Doorbells) -> Result<(), InvalidDoorbell> {
        let entries = self.entries;
        self.tail.take(doorbells.load(tail_doorbell(self.id)), |tail| tail < entries)
    }

    /// Fetches the next entries, at most `limit`, with one access; returns how many.
    pub(super) fn fetch(
        &mut self,
        dma: &mut DmaPort,
        entries: &mut Entries,
        limit: usize,
    ) -> Result<usize, DmaError> {
        // What lies behind the end of the ring is for the next time.
        let end = if self.tail.at >= self.head { self.tail.at } else { self.entries };
        let count = limit.min(BATCH).min((end - self.head) as usize);
        if count == 0 {
            return Ok(0);
        }
        dma.doing(Doing { what: "submission queue fetch", queue: Some(self.id), id: None });
        let address = self.base.wrapping_add(u64::from(self.head) * SUBMISSION_BYTES as u64);
        dma.read(address, entries[..count].as_flattened_mut())?;
        self.head = (self.head + count as u32) % self.entries;
        Ok(count)
    }
}

impl CompletionQueue {
    /// An empty queue of `entries` at `base`. Its doorbell starts at 0.
    pub(super) fn new(id: u16, vector: Option<u16>, base: u64, entries: u32, doorbells: &Doorbells) -> Self {
        doorbells.store(head_doorbell(id), 0);
        CompletionQueue { id, vector, base, entries, head: Tail::default(), tail: 0, phase: true }
    }

    pub(super) fn take_head(&mut self, doorbells: &Doorbells) -> Result<(), InvalidDoorbell> {
        let (from, entries, waiting) = (self.head.at, self.entries, self.waiting());
        // The head may move up to the tail and not past it.
        let valid = |head: u32| head < entries && (head + entries - from) % entries <= waiting;
        self.head.take(doorbells.load(head_doorbell(self.id)), valid)
    }

    /// Entries that the host has not consumed.
    pub(super) fn waiting(&self) -> u32 {
        (self.tail + self.entries - self.head.at) % self.entries
    }

    /// How many completions can be posted.
    pub(super) fn room(&self) -> usize {
        (self.entries - 1 - self.waiting()) as usize
    }

    /// Posts the completion of a command from `queue`. There must be room.
    fn post(
        &mut self,
        dma: &mut DmaPort,
        queue: u16,
        head: u32,
        completion: Completion,
    ) -> Result<(), DmaError> {
        dma.doing(Doing { what: "completion", queue: Some(queue), id: Some(completion.command.into()) });
        let address = self.base.wrapping_add(u64::from(self.tail) * COMPLETION_BYTES);
        let mut body = [0; 12];
        body[0..4].copy_from_slice(&completion.result.to_le_bytes());
        body[8..10].copy_from_slice(&(head as u16).to_le_bytes());
        body[10..12].copy_from_slice(&queue.to_le_bytes());
        dma.write(address, &body)?;
        // The phase tag tells the host that the entry is there: its dword comes last.
        let status = completion.status.with_phase(self.phase);
        dma.write_u32_release(address + 12, u32::from(completion.command) | u32::from(status) << 16)?;
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }
}

/// All queues of an enabled controller, by identifier.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) submission: [Option<SubmissionQueue>; PAIRS],
    pub(super) completion: [Option<CompletionQueue>; PAIRS],
    /// Completion queues with interrupts, one bit each, that were posted to since theirs was last sent.
    posted: u32,
}

impl Queues {
    /// Posts the completion of a command that came from submission queue `queue`.
    pub(super) fn complete(
        &mut self,
        dma: &mut DmaPort,
        queue: u16,
        completion: Completion,
    ) -> Result<(), DmaError> {
        let Some(Some(from)) = self.submission.get(usize::from(queue)) else { return Ok(()) };
        let Some(Some(to)) = self.completion.get_mut(usize::from(from.completion)) else { return Ok(()) };
        to.post(dma, queue, from.head, completion)?;
        if to.vector.is_some() {
            self.posted |= 1 << from.completion;
        }
        Ok(())
    }

    /// How many completions can be posted for commands of submission queue `queue`.
    pub(super) fn room(&self, queue: usize) -> usize {
        let Some(Some(from)) = self.submission.get(queue) else { return 0 };
        let to = self.completion.get(usize::from(from.completion));
        to.and_then(Option::as_ref).map_or(0, CompletionQueue::room)
    }

    /// Deletes a submission queue, with what was submitted to it and not fetched. False if there is none.
    pub(super) fn delete_submission(&mut self, at: usize, doorbells: &Doorbells) -> bool {
        let Some(queue) = self.submission[at].take() else { return false };
        doorbells.store(tail_doorbell(queue.id), 0);
        true
    }

    /// Deletes a completion queue. False if there is none.
    pub(super) fn delete_completion(&mut self, at: usize, doorbells: &Doorbells) -> bool {
        let Some(queue) = self.completion[at].take() else { return false };
        doorbells.store(head_doorbell(queue.id), 0);
        true
    }

    /// Whether there is an I/O queue of either kind.
    pub(super) fn has_io_queues(&self) -> bool {
        self.submission[1..].iter().any(Option::is_some) || self.completion[1..].iter().any(Option::is_some)
    }

    /// Whether there are vectors to be sent.
    pub(super) fn has_posted(&self) -> bool {
        self.posted != 0
    }

    /// The vectors to be sent for what was posted since the last call.
    pub(super) fn take_posted(&mut self) -> impl Iterator<Item = u16> {
        let posted = std::mem::take(&mut self.posted);
        let some = self.completion.iter().flatten();
        some.filter(move |queue| posted >> queue.id & 1 != 0).filter_map(|queue| queue.vector)
    }

    /// Whether pin-based interrupts are pending, given the vectors that are masked.
    pub(super) fn interrupt_pending(&self, mask: u32) -> bool {
        let mut waiting = self.completion.iter().flatten().filter(|queue| queue.waiting() > 0);
        waiting.any(|queue| queue.vector.is_some_and(|vector| mask >> (vector & 31) & 1 == 0))
    }

    /// Finds a doorbell that was written although it belongs to no queue, and zeroes it; returns its identifier.
    pub(super) fn take_stray_doorbell(&self, doorbells: &Doorbells) -> Option<u16> {
        (0..PAIRS as u16).find(|&id| {
            let at = usize::from(id);
            let tail = self.submission[at].is_none().then(|| tail_doorbell(id));
            let head = self.completion[at].is_none().then(|| head_doorbell(id));
            let stray = tail.into_iter().chain(head).find(|&doorbell| doorbells.load(doorbell) != 0);
            stray.inspect(|&doorbell| doorbells.store(doorbell, 0)).is_some()
        })
    }
}

fn tail_doorbell(queue: u16) -> u64 {
    u64::from(queue) * 8
}

fn head_doorbell(queue: u16) -> u64 {
    u64::from(queue) * 8 + 4
}
