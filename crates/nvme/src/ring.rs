//! A pair of queues in memory: entries, heads, tails, phase and doorbells, and nothing about what the commands mean.

use ioasis::{Bar, DmaBuffer, Sys};
use zerocopy::{FromBytes, IntoBytes};

use crate::spec::{Command, CompletionEntry, register};

/// A submission queue and the completion queue that answers it, of equal depth.
pub(crate) struct Ring<S: Sys> {
    bar: Bar,
    submission: DmaBuffer<S>,
    completion: DmaBuffer<S>,
    depth: u16,
    tail: u16,
    rung: u16,
    head: u16,
    acknowledged: u16,
    phase: bool,
    tail_doorbell: usize,
    head_doorbell: usize,
}

impl<S: Sys> Ring<S> {
    /// The ring of queue `id`; both buffers are zeroed and hold `depth` entries.
    pub(crate) fn new(
        bar: Bar,
        stride: usize,
        id: u16,
        depth: u16,
        submission: DmaBuffer<S>,
        completion: DmaBuffer<S>,
    ) -> Self {
        let tail_doorbell = register::DOORBELLS + 2 * usize::from(id) * stride;
        let head_doorbell = tail_doorbell + stride;
        Ring {
            bar,
            submission,
            completion,
            depth,
            tail: 0,
            rung: 0,
            head: 0,
            acknowledged: 0,
            phase: true,
            tail_doorbell,
            head_doorbell,
        }
    }

    /// Puts a command into the queue; [`Ring::ring`] tells the controller. The caller keeps fewer than `depth` commands
    /// under way.
    pub(crate) fn push(&mut self, command: &Command) {
        self.submission.write_at(usize::from(self.tail) * size_of::<Command>(), command.as_bytes());
        self.tail = self.next(self.tail);
    }

    /// Tells the controller of all commands that were pushed since the last time.
    pub(crate) fn ring(&mut self) {
        if self.rung != self.tail {
            self.rung = self.tail;
            self.bar.write32(self.tail_doorbell, u32::from(self.tail));
        }
    }

    /// The next completion, if there is one.
    pub(crate) fn pop(&mut self) -> Option<CompletionEntry> {
        let at = usize::from(self.head) * size_of::<CompletionEntry>();
        // The last word holds the phase: once it is new, the rest of the entry is too.
        let last = self.completion.read_u32_acquire(at + 12);
        if (last >> 16 & 1 == 1) != self.phase {
            return None;
        }
        let mut bytes = [0; size_of::<CompletionEntry>()];
        self.completion.read_at(at, &mut bytes);
        self.head = self.next(self.head);
        self.phase ^= self.head == 0;
        CompletionEntry::read_from_bytes(&bytes).ok()
    }

    /// Tells the controller how far completions have been read.
    pub(crate) fn acknowledge(&mut self) {
        if self.acknowledged != self.head {
            self.acknowledged = self.head;
            self.bar.write32(self.head_doorbell, u32::from(self.head));
        }
    }

    fn next(&self, index: u16) -> u16 {
        if index + 1 == self.depth { 0 } else { index + 1 }
    }
}
