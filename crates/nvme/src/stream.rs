//! Many blocks in order: a pipeline of transfers through one queue.

use std::collections::VecDeque;
use std::time::Duration;

use ioasis::{DmaBuffer, DmaOptions, Sys};

use crate::controller::Controller;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::queue::{Completion, Operation, Queue, Transfer};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes in one transfer, where the controller allows as many.
const PIECE: usize = 256 << 10;
/// Transfers under way at once.
const PIECES: usize = 8;

/// Reads or writes many blocks in order, several transfers at a time.
pub struct Stream<'a, S: Sys> {
    queue: &'a mut Queue<S>,
    namespace: Namespace,
    pieces: Vec<DmaBuffer<S>>,
    piece: usize,
    /// Whether the controller did not answer in time.
    unanswered: bool,
}

/// A transfer that was submitted.
struct Piece {
    index: usize,
    lba: u64,
    length: usize,
    ended: bool,
}

impl<'a, S: Sys> Stream<'a, S> {
    /// A stream through a queue with nothing under way.
    pub fn new(controller: &Controller<S>, queue: &'a mut Queue<S>, namespace: Namespace) -> Result<Self> {
        if queue.under_way() > 0 {
            return Err(queue.argument("a stream needs a queue with no command under way".to_owned()));
        }
        let piece = PIECE.min(queue.max_transfer()) / namespace.block_size * namespace.block_size;
        let count = PIECES.min(queue.room());
        let space = controller.device().address_space();
        let pieces: ioasis::Result<Vec<_>> =
            (0..count).map(|_| space.allocate(piece, &DmaOptions::new())).collect();
        Ok(Stream { queue, namespace, pieces: pieces?, piece, unanswered: false })
    }

    /// How many physically contiguous runs the stream's memory has.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.pieces.iter().map(|piece| piece.segments().count()).sum()
    }

    /// Reads `blocks` blocks from `lba` on and hands them out in order. `sink` answers whether to go on: its
    /// error ends the stream once no transfer is under way any more.
    pub fn read<E: From<Error>>(
        &mut self,
        lba: u64,
        blocks: u64,
        mut sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut bytes = vec![0; self.piece];
        self.run(Operation::Read, lba, blocks, |stage, buffer, length| match stage {
            Stage::Before => Ok(()),
            Stage::After => {
                let bytes = &mut bytes[..length];
                buffer.read_at(0, bytes);
                sink(bytes)
            }
        })
    }

    /// Writes `blocks` blocks from `lba` on; `source` fills each piece. Durable after a [`Stream::flush`].
    pub fn write<E: From<Error>>(
        &mut self,
        lba: u64,
        blocks: u64,
        mut source: impl FnMut(&mut [u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut bytes = vec![0; self.piece];
        self.run(Operation::Write, lba, blocks, |stage, buffer, length| match stage {
            Stage::Before => {
                let bytes = &mut bytes[..length];
                source(bytes)?;
                buffer.write_at(0, bytes);
                Ok(())
            }
            Stage::After => Ok(()),
        })
    }

    /// Makes everything that was written durable.
    pub fn flush(&mut self) -> Result<()> {
        self.queue.submit_flush(&self.namespace, 0)?;
        let mut status = None;
        self.wait(|completion| status = completion.status)?;
        match status {
            None => Ok(()),
            Some(status) => Err(self.queue.failed("Flush".to_owned(), status)),
        }
    }

    /// Runs the transfers; at their end, whatever it is, none is under way.
    fn run<E: From<Error>>(
        &mut self,
        operation: Operation,
        lba: u64,
        blocks: u64,
        touch: impl FnMut(Stage, &DmaBuffer<S>, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let result = self.pipeline(operation, lba, blocks, touch);
        self.settle();
        result
    }

    fn pipeline<E: From<Error>>(
        &mut self,
        operation: Operation,
        lba: u64,
        blocks: u64,
        mut touch: impl FnMut(Stage, &DmaBuffer<S>, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let end = lba.checked_add(blocks).filter(|&end| end <= self.namespace.blocks);
        let end = end.ok_or_else(|| self.queue.out_of_range(&self.namespace, lba, blocks))?;
        let per_piece = (self.piece / self.namespace.block_size) as u64;
        let mut next = lba;
        let mut pieces: VecDeque<Piece> = VecDeque::with_capacity(self.pieces.len());
        let mut free: Vec<usize> = (0..self.pieces.len()).collect();
        loop {
            while let Some(&index) = free.last().filter(|_| next < end) {
                let count = per_piece.min(end - next);
                let length = count as usize * self.namespace.block_size;
                touch(Stage::Before, &self.pieces[index], length)?;
                let transfer = Transfer {
                    operation,
                    namespace: &self.namespace,
                    lba: next,
                    blocks: count as u32,
                    buffer: &self.pieces[index],
                    offset: 0,
                };
                self.queue.submit(&transfer, next)?;
                self.queue.ring();
                free.pop();
                pieces.push_back(Piece { index, lba: next, length, ended: false });
                next += count;
            }
            let Some(first) = pieces.front() else { return Ok(()) };
            if first.ended {
                touch(Stage::After, &self.pieces[first.index], first.length)?;
                free.push(first.index);
                pieces.pop_front();
            } else {
                self.collect(operation, &mut pieces)?;
            }
        }
    }

    /// Waits for completions and marks what has ended.
    fn collect(&mut self, operation: Operation, pieces: &mut VecDeque<Piece>) -> Result<()> {
        let mut failed = None;
        self.wait(|completion| {
            if let Some(piece) = pieces.iter_mut().find(|piece| piece.lba == completion.tag) {
                piece.ended = true;
            }
            if let Some(status) = completion.status {
                failed.get_or_insert((completion.tag, status));
            }
        })?;
        match failed {
            None => Ok(()),
            Some((lba, status)) => Err(self.queue.failed(format!("{operation} at block {lba}"), status)),
        }
    }

    /// Waits for the transfers under way, whose outcome no longer matters, so that the queue is empty for its
    /// next user.
    fn settle(&mut self) {
        while self.queue.under_way() > 0 {
            if self.wait(|_| ()).is_err() {
                return;
            }
        }
    }

    /// Waits for completions. Once that has failed the controller is not waited for again.
    fn wait(&mut self, each: impl FnMut(Completion)) -> Result<()> {
        if self.unanswered {
            return Err(self.queue.unanswered(PATIENCE));
        }
        let result = self.queue.wait(PATIENCE, each);
        self.unanswered = result.is_err();
        result.map(drop)
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Before,
    After,
}
