//! A pair of queues in memory: entries, heads, tails, phase and doorbells, and nothing about what the
//! commands mean.

use std::sync::atomic::{Ordering, fence};

use ioasis::{DmaBuffer, Sys};
use zerocopy::{FromBytes, IntoBytes};

use crate::registers::Registers;
use crate::spec::{Command, CompletionEntry, PAGE, register};

/// A submission queue and the completion queue that answers it, of equal depth.
pub(crate) struct Ring<S: Sys> {
    registers: Registers,
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

/// How the memory of a ring of `depth` entries is divided: the bytes that each of the two queues takes, in
/// whole pages.
pub(crate) fn extents(depth: u16) -> (usize, usize) {
    let pages = |entry: usize| (usize::from(depth) * entry).next_multiple_of(PAGE);
    (pages(size_of::<Command>()), pages(size_of::<CompletionEntry>()))
}

impl<S: Sys> Ring<S> {
    /// The ring of queue `id` in zeroed memory, the two [`extents`] one after the other, each contiguous.
    pub(crate) fn new(
        registers: Registers,
        stride: usize,
        id: u16,
        depth: u16,
        memory: &DmaBuffer<S>,
    ) -> Self {
        let (submission, completion) = extents(depth);
        let tail_doorbell = register::DOORBELLS + 2 * usize::from(id) * stride;
        Ring {
            registers,
            submission: memory.slice(0..submission),
            completion: memory.slice(submission..submission + completion),
            depth,
            tail: 0,
            rung: 0,
            head: 0,
            acknowledged: 0,
            phase: true,
            tail_doorbell,
            head_doorbell: tail_doorbell + stride,
        }
    }

    /// Where the controller finds the submission queue.
    pub(crate) fn submission_address(&self) -> u64 {
        self.submission.address_at(0).0.get()
    }

    /// Where the controller finds the completion queue.
    pub(crate) fn completion_address(&self) -> u64 {
        self.completion.address_at(0).0.get()
    }

    /// Puts a command into the queue; [`Ring::ring`] tells the controller. The caller keeps fewer than
    /// `depth` commands under way.
    #[inline]
    pub(crate) fn push(&mut self, command: &Command) {
        self.submission.write_at(usize::from(self.tail) * size_of::<Command>(), command.as_bytes());
        self.tail = self.next(self.tail);
    }

    /// Tells the controller of all commands that were pushed since the last time.
    #[inline]
    pub(crate) fn ring(&mut self) {
        if self.rung != self.tail {
            self.rung = self.tail;
            // Entries, PRP lists and data are in memory before the controller is told of them.
            fence(Ordering::Release);
            self.registers.write32(self.tail_doorbell, u32::from(self.tail));
        }
    }

    /// The next completion, if there is one.
    #[inline]
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
    #[inline]
    pub(crate) fn acknowledge(&mut self) {
        if self.acknowledged != self.head {
            self.acknowledged = self.head;
            self.registers.write32(self.head_doorbell, u32::from(self.head));
        }
    }

    /// Keeps the memory for ever: for a controller that cannot be kept from it.
    pub(crate) fn leak(&self) {
        std::mem::forget((self.submission.clone(), self.completion.clone()));
    }

    fn next(&self, index: u16) -> u16 {
        if index + 1 == self.depth { 0 } else { index + 1 }
    }
}
