//! `ioasis nvme bench`

use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::{BinaryBytes, HumanCount};
use ioasis::{DmaOptions, Options, PciAddress, Sys};
use machine::Machine;
use nvme::{Completions, Controller, Namespace, Queue, Stream};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::controller;
use crate::arguments::{self, Bench, Pattern};
use crate::load::{Rate, Work};
use crate::output::{print_facts, print_json};
use crate::system::{self, Job};

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
        let mut facts = vec![
            (
                "transfers",
                format!(
                    "{} of {} in {:.2} s",
                    HumanCount(rate.transfers),
                    BinaryBytes(bs as u64),
                    rate.seconds
                ),
            ),
            (
                "rate",
                format!("{} per second, {} per second", HumanCount(iops as u64), BinaryBytes(bytes as u64)),
            ),
            ("mean latency", format!("{:.2} µs at queue depth {qd}", f64::from(qd) / iops * 1e6)),
        ];
        match memcpy.zip(ratio) {
            Some((memcpy, ratio)) => {
                let copies = HumanCount(memcpy as u64);
                facts.push((
                    "memcpy alone",
                    format!("{copies} per second, the same blocks to the same buffers"),
                ));
                facts.push(("ratio", format!("{ratio:.2}")));
            }
            None => facts.push((
                "memcpy alone",
                "not measured: only for reads of a namespace in this process's memory".to_owned(),
            )),
        }
        print_facts(facts.into_iter().map(|(name, value)| (name.to_owned(), value)))
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

/// Keeps this thread, and those that it starts, on one processor. Where there is none of that number, it stays as it was.
fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // A measurement without pinning is still one.
    let _ = sched_setaffinity(None, &set);
}
