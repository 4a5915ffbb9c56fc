//! Many transfers at once through one queue, counted, and the same bytes moved by memcpy.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ioasis::{DmaBuffer, Sys};
use nvme::{Namespace, Operation, Queue, Transfer};

use crate::arguments::Pattern;

/// How long one transfer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was measured.
pub(crate) struct Rate {
    pub(crate) transfers: u64,
    pub(crate) seconds: f64,
}

impl Rate {
    pub(crate) fn per_second(&self) -> f64 {
        self.transfers as f64 / self.seconds
    }
}

/// What is transferred.
pub(crate) struct Work<S: Sys> {
    pub(crate) namespace: Namespace,
    pub(crate) pattern: Pattern,
    /// Bytes in one transfer.
    pub(crate) bs: usize,
    /// How many are under way at once.
    pub(crate) qd: u16,
    /// A piece of `bs` bytes for each transfer under way.
    pub(crate) buffer: DmaBuffer<S>,
}

impl<S: Sys> Work<S> {
    /// Keeps `qd` transfers under way for a while.
    pub(crate) fn measure(&self, queue: &mut Queue<S>, duration: Duration) -> Result<Rate> {
        let mut places = self.places();
        let mut ended: Vec<u64> = (0..u64::from(self.qd)).collect();
        let mut failed = None;
        let mut transfers = 0;
        let start = Instant::now();
        loop {
            for &tag in &ended {
                self.submit(queue, places.next(), tag)?;
            }
            queue.ring();
            ended.clear();
            queue.wait(PATIENCE, |completion| {
                ended.push(completion.tag);
                failed = failed.or(completion.status);
            })?;
            transfers += ended.len() as u64;
            if failed.is_some() || start.elapsed() >= duration {
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        while queue.under_way() > 0 {
            queue.wait(PATIENCE, |completion| failed = failed.or(completion.status))?;
        }
        ensure!(
            failed.is_none(),
            "a transfer failed: {}",
            failed.map(|status| status.to_string()).unwrap_or_default()
        );
        Ok(Rate { transfers, seconds })
    }

    fn submit(&self, queue: &mut Queue<S>, place: u64, tag: u64) -> Result<()> {
        let per_transfer = (self.bs / self.namespace.block_size) as u32;
        let operation = match self.pattern {
            Pattern::Read | Pattern::Randread => Operation::Read,
            Pattern::Write | Pattern::Randwrite => Operation::Write,
        };
        let transfer = Transfer {
            operation,
            namespace: &self.namespace,
            lba: place * u64::from(per_transfer),
            blocks: per_transfer,
            buffer: &self.buffer,
            offset: tag as usize * self.bs,
        };
        Ok(queue.submit(&transfer, tag)?)
    }

    /// The same transfers by memcpy.
    pub(crate) fn copy(&self, bytes: &[u8], duration: Duration) -> Rate {
        const BATCH: u64 = 256;
        let mut places = self.places();
        let mut transfers = 0;
        let start = Instant::now();
        while start.elapsed() < duration {
            for n in 0..BATCH {
                let from = places.next() as usize * self.bs;
                let to = (n % u64::from(self.qd)) as usize * self.bs;
                self.buffer.write_at(to, &bytes[from..from + self.bs]);
            }
            transfers += BATCH;
        }
        Rate { transfers, seconds: start.elapsed().as_secs_f64() }
    }

    fn places(&self) -> Places {
        let random = matches!(self.pattern, Pattern::Randread | Pattern::Randwrite);
        let count = self.namespace.blocks * self.namespace.block_size as u64 / self.bs as u64;
        Places { random, count, state: 0x9e37_79b9_7f4a_7c15 }
    }
}

/// Where transfers go, in units of their size.
struct Places {
    random: bool,
    count: u64,
    state: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        if !self.random {
            self.state = self.state.wrapping_add(1);
            return self.state % self.count;
        }
        // xorshift64: fast, and the same order in each run.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((u128::from(self.state) * u128::from(self.count)) >> 64) as u64
    }
}
