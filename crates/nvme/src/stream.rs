//! Many blocks in order: a pipeline of transfers through one queue.

use std::collections::VecDeque;
use std::time::Duration;

use ioasis::{DmaBuffer, DmaOptions, Sys};

use crate::controller::{Controller, Namespace};
use crate::error::{Error, Result};
use crate::queue::{Operation, Queue, Transfer};
use crate::status::Status;

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
}

/// A transfer under way or ended.
struct Piece {
    index: usize,
    lba: u64,
    length: usize,
    ended: bool,
}

impl<'a, S: Sys> Stream<'a, S> {
    /// A stream through a queue, which nobody else uses meanwhile.
    pub fn new(controller: &Controller<S>, queue: &'a mut Queue<S>, namespace: Namespace) -> Result<Self> {
        let piece = PIECE.min(queue.max_transfer()) / namespace.block_size * namespace.block_size;
        let count = PIECES.min(queue.room());
        let space = controller.device().address_space();
        let pieces: ioasis::Result<Vec<_>> =
            (0..count).map(|_| space.allocate(piece, &DmaOptions::new())).collect();
        Ok(Stream { queue, namespace, pieces: pieces?, piece })
    }

    /// How many physically contiguous runs the stream's memory has.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.pieces.iter().map(|piece| piece.segments().count()).sum()
    }

    /// Reads `blocks` blocks from `lba` on and hands them out in order. `sink` answers whether to go on: its error ends
    /// the stream once no transfer is under way any more.
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
        self.queue.ring();
        let mut status = None;
        self.queue.wait(PATIENCE, |completion| status = completion.status)?;
        match status {
            None => Ok(()),
            Some(status) => Err(self.failed("Flush".to_owned(), status)),
        }
    }

    fn run<E: From<Error>>(
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
        let result = loop {
            while let Some(&index) = free.last().filter(|_| next < end) {
                let count = per_piece.min(end - next);
                let length = count as usize * self.namespace.block_size;
                if let Err(error) = touch(Stage::Before, &self.pieces[index], length) {
                    return self.abandon(&pieces, error);
                }
                let transfer = Transfer {
                    operation,
                    namespace: &self.namespace,
                    lba: next,
                    blocks: count as u32,
                    buffer: &self.pieces[index],
                    offset: 0,
                };
                if let Err(error) = self.queue.submit(&transfer, next) {
                    return self.abandon(&pieces, error.into());
                }
                free.pop();
                pieces.push_back(Piece { index, lba: next, length, ended: false });
                next += count;
            }
            self.queue.ring();
            let Some(first) = pieces.front() else { break Ok(()) };
            if !first.ended {
                self.collect(operation, &mut pieces)?;
                continue;
            }
            let Piece { index, length, .. } = *first;
            if let Err(error) = touch(Stage::After, &self.pieces[index], length) {
                break Err(error);
            }
            pieces.pop_front();
            free.push(index);
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.abandon(&pieces, error),
        }
    }

    /// Waits for completions and marks what has ended.
    fn collect(&mut self, operation: Operation, pieces: &mut VecDeque<Piece>) -> Result<()> {
        let mut failed = None;
        self.queue.wait(PATIENCE, |completion| {
            if let Some(piece) = pieces.iter_mut().find(|piece| piece.lba == completion.tag) {
                piece.ended = true;
            }
            if let Some(status) = completion.status {
                failed.get_or_insert((completion.tag, status));
            }
        })?;
        match failed {
            None => Ok(()),
            Some((lba, status)) => {
                self.settle(pieces.iter().filter(|piece| !piece.ended).count());
                Err(self.failed(format!("{operation} at block {lba}"), status))
            }
        }
    }

    fn abandon<E>(&mut self, pieces: &VecDeque<Piece>, error: E) -> std::result::Result<(), E> {
        self.queue.ring();
        self.settle(pieces.iter().filter(|piece| !piece.ended).count());
        Err(error)
    }

    /// Waits for transfers whose outcome no longer matters, so that the queue is empty for its next user.
    fn settle(&mut self, mut left: usize) {
        while left > 0 {
            match self.queue.wait(PATIENCE, |_| ()) {
                Ok(count) => left = left.saturating_sub(count),
                Err(_) => return,
            }
        }
    }

    fn failed(&self, what: String, status: Status) -> Error {
        self.queue.failed(what, status)
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Before,
    After,
}
