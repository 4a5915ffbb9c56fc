//! `ioasis nvme bench`

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::{BinaryBytes, HumanCount};
use ioasis::{DmaBuffer, DmaOptions, Options, PciAddress, Sys};
use machine::Machine;
use nvme::{Completions, Controller, Namespace, Operation, Queue, Stream, Transfer};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::controller;
use crate::arguments::{self, Bench, Pattern};
use crate::output::{print, print_json, table};
use crate::system::{self, Job};

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

pub(crate) fn run(system: &arguments::System, bench: Bench) -> Result<()> {
    let Some(path) = &system.machine else {
        return system::run(system, Measure { bench, machine: None });
    };
    // Threads inherit where they may run: the device's on the second processor, the driver's on the first.
    pin_to(1);
    let machine = Machine::from_file(path)?;
    pin_to(0);
    system::run_on(&machine, Measure { bench, machine: Some(&machine) })
}

struct Measure<'a> {
    bench: Bench,
    /// The machine, where the namespace may be memory of this process.
    machine: Option<&'a Machine>,
}

impl Job for Measure<'_> {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let Bench { address, rw, bs, qd, seconds, json } = self.bench;
        let (controller, namespace) = controller(sys, address, options)?;
        let block = namespace.block_size;
        ensure!(bs > 0 && bs % block == 0, "--bs {bs} is no multiple of the block size, {block} bytes");
        ensure!(
            namespace.blocks as usize / (bs / block) > 0,
            "the namespace is smaller than one transfer of {bs} bytes"
        );
        // A ring holds one command less than its depth.
        let mut queue = controller.queue(qd + 1, Completions::Polled)?;
        ensure!(
            bs <= queue.max_transfer(),
            "--bs {bs} is more than one transfer takes, {} bytes",
            queue.max_transfer()
        );
        let space = controller.device().address_space();
        let buffer = space.allocate(usize::from(qd) * bs, &DmaOptions::new())?;
        let work = Work { namespace, pattern: rw, bs, qd, buffer };

        if self.storage(address, |_| ()).is_some() {
            touch(&controller, &mut queue, namespace)?;
        }
        let part = Duration::from_secs(seconds.into());
        let before = self.memcpy(address, &work, part / 4);
        let rate = work.measure(&mut queue, part)?;
        let after = self.memcpy(address, &work, part / 4);
        let memcpy =
            before.zip(after).map(|(before, after)| (before.per_second() + after.per_second()) / 2.0);
        let iops = rate.per_second();
        let ratio = memcpy.map(|memcpy| iops / memcpy);
        let bytes = iops * bs as f64;
        if json {
            return print_json(&json!({
                "address": address.to_string(),
                "mode": controller.device().mode().name(),
                "rw": format!("{rw:?}").to_lowercase(),
                "bs": bs,
                "qd": qd,
                "seconds": rate.seconds,
                "transfers": rate.transfers,
                "iops": iops,
                "bytes_per_second": bytes,
                "mean_latency_us": f64::from(qd) / iops * 1e6,
                "memcpy_per_second": memcpy,
                "ratio_to_memcpy": ratio,
            }));
        }
        let mut lines = table();
        let mut line = |name: &str, value: String| {
            lines.add_row([name, &value]);
        };
        line(
            "transfers",
            format!("{} of {} in {:.2} s", HumanCount(rate.transfers), BinaryBytes(bs as u64), rate.seconds),
        );
        line(
            "rate",
            format!("{} per second, {} per second", HumanCount(iops as u64), BinaryBytes(bytes as u64)),
        );
        line("mean latency", format!("{:.2} µs at queue depth {qd}", f64::from(qd) / iops * 1e6));
        match (memcpy, ratio) {
            (Some(memcpy), Some(ratio)) => {
                line(
                    "memcpy alone",
                    format!("{} per second, the same blocks to the same buffers", HumanCount(memcpy as u64)),
                );
                line("ratio", format!("{ratio:.2}"));
            }
            _ => {
                line("memcpy alone", "not measured: the namespace is not in this process's memory".to_owned())
            }
        }
        print(&format!("{}\n", lines.trim_fmt()))
    }
}

impl Measure<'_> {
    /// What one thread copies without any device: the same blocks, from the same memory to the same buffers. Only reads
    /// of a memory-backed namespace have such a measure.
    fn memcpy<S: Sys>(&self, address: PciAddress, work: &Work<S>, duration: Duration) -> Option<Rate> {
        if !matches!(work.pattern, Pattern::Read | Pattern::Randread) {
            return None;
        }
        self.storage(address, |bytes| work.copy(bytes, duration))
    }

    /// Runs `f` on the namespace's bytes, where they are memory of this process.
    fn storage<R>(&self, address: PciAddress, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.machine?.with_storage(address.to_string().parse().ok()?, f)
    }
}

/// Writes a fresh memory-backed namespace from end to end. Memory that was never written is one and the same zero page,
/// which is always in the cache.
fn touch<S: Sys>(controller: &Controller<S>, queue: &mut Queue<S>, namespace: Namespace) -> Result<()> {
    let mut stream = Stream::new(controller, queue, namespace)?;
    stream.write(0, namespace.blocks, |bytes| {
        bytes.fill(0x5a);
        Ok(())
    })
}

/// 4 KiB random reads at queue depth 32 through a polled queue.
pub(crate) fn measure_random_reads<S: Sys>(
    queue: &mut Queue<S>,
    namespace: Namespace,
    buffer: DmaBuffer<S>,
    duration: Duration,
) -> Result<Rate> {
    Work { namespace, pattern: Pattern::Randread, bs: 4096, qd: 32, buffer }.measure(queue, duration)
}

/// What is transferred.
struct Work<S: Sys> {
    namespace: Namespace,
    pattern: Pattern,
    bs: usize,
    qd: u16,
    /// A piece of `bs` bytes for each transfer under way.
    buffer: DmaBuffer<S>,
}

impl<S: Sys> Work<S> {
    /// Keeps `qd` transfers under way for a while.
    fn measure(&self, queue: &mut Queue<S>, duration: Duration) -> Result<Rate> {
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
    fn copy(&self, bytes: &[u8], duration: Duration) -> Rate {
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

/// Keeps this thread, and those that it starts, on one processor. Where there is none of that number, it stays as it was.
fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // A measurement without pinning is still one.
    let _ = sched_setaffinity(None, &set);
}
