//! `ioasis nvme bench`

use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::{BinaryBytes, HumanCount};
use ioasis::{DmaOptions, Mode, Options, Sys};
use machine::Machine;
use nvme::{Completions, Controller, Namespace, Queue, Stream};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;

use super::controller;
use crate::arguments::{self, NvmeBench, Pattern};
use crate::load::{Rate, Work};
use crate::output::{print_facts, print_json};
use crate::system::{self, Job};

pub(crate) fn run(system: &arguments::System, bench: NvmeBench) -> Result<()> {
    let Some(path) = &system.machine else {
        return system::run(system, Measure { bench, machine: None, pinned: false });
    };
    let cpus = two_cpus();
    // Threads inherit where they may run: the device's on the second CPU, the driver's on the first.
    let device_pinned = cpus.is_some_and(|[_, second]| pin_to(second));
    let machine = Machine::from_file(path)?;
    let driver_pinned = cpus.is_some_and(|[first, _]| pin_to(first));
    let pinned = device_pinned && driver_pinned;
    system::run_on(&machine, system, Measure { bench, machine: Some(&machine), pinned })
}

struct Measure<'a> {
    bench: NvmeBench,
    /// The machine, where the namespace may be memory of this process.
    machine: Option<&'a Machine>,
    /// Whether the machine's device and the driver run on two CPUs of their own.
    pinned: bool,
}

impl Job for Measure<'_> {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let NvmeBench { address, rw, bs, qd, seconds, json } = self.bench;
        let (controller, namespace) = controller(sys, address, options)?;
        check_size(bs, &namespace, controller.info().max_transfer)?;
        // A ring holds one command less than its depth.
        let mut queue = controller.queue(qd + 1, Completions::Polled)?;
        let space = controller.device().address_space();
        let buffer = space.allocate(usize::from(qd) * bs, &DmaOptions::new())?;
        let work = Work { namespace, pattern: rw, bs, qd, buffer };

        if self.storage(|_| ()).is_some() {
            touch(&controller, &mut queue, namespace)?;
        }
        let part = Duration::from_secs(seconds.into());
        let before = self.memcpy(&work, part / 4);
        let rate = work.measure(&mut queue, part)?;
        let after = self.memcpy(&work, part / 4);
        let memcpy = before.zip(after).map(|(before, after)| (before + after) / 2.0);
        if json {
            self.print_json(controller.device().mode(), &rate, memcpy)
        } else {
            self.print(&rate, memcpy)
        }
    }
}

fn check_size(bs: usize, namespace: &Namespace, longest: usize) -> Result<()> {
    let block = namespace.block_size;
    ensure!(bs > 0 && bs.is_multiple_of(block), "--bs {bs} is no multiple of the block size, {block} bytes");
    ensure!(
        namespace.blocks >= (bs / block) as u64,
        "the namespace is smaller than one transfer of {bs} bytes"
    );
    ensure!(bs <= longest, "--bs {bs} is more than one transfer takes, {longest} bytes");
    Ok(())
}

impl Measure<'_> {
    /// What one thread copies each second without any device: the same blocks, from the same memory to the
    /// same buffers. Only reads of a memory-backed namespace have such a measure.
    fn memcpy<S: Sys>(&self, work: &Work<S>, duration: Duration) -> Option<f64> {
        match self.bench.rw {
            Pattern::Read | Pattern::Randread => {
                self.storage(|bytes| work.copy(bytes, duration).per_second())
            }
            Pattern::Write | Pattern::Randwrite => None,
        }
    }

    /// Runs `f` on the namespace's bytes, where they are memory of this process.
    fn storage<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.machine?.with_storage(self.bench.address.to_string().parse().ok()?, f)
    }

    fn print_json(&self, mode: Mode, rate: &Rate, memcpy: Option<f64>) -> Result<()> {
        let iops = rate.per_second();
        print_json(&json!({
            "address": self.bench.address.to_string(),
            "mode": mode.name(),
            "rw": format!("{:?}", self.bench.rw).to_lowercase(),
            "bs": self.bench.bs,
            "qd": self.bench.qd,
            "seconds": rate.seconds,
            "transfers": rate.transfers,
            "iops": iops,
            "bytes_per_second": iops * self.bench.bs as f64,
            "mean_latency_us": self.latency(iops),
            "memcpy_per_second": memcpy,
            "ratio_to_memcpy": memcpy.map(|memcpy| iops / memcpy),
            "pinned": self.pinned,
        }))
    }

    fn print(&self, rate: &Rate, memcpy: Option<f64>) -> Result<()> {
        let (iops, bs) = (rate.per_second(), self.bench.bs);
        let (transfers, size) = (HumanCount(rate.transfers), BinaryBytes(bs as u64));
        let bytes = BinaryBytes((iops * bs as f64) as u64);
        let (copies, ratio) = match memcpy {
            Some(memcpy) => (
                format!("{} per second, the same blocks to the same buffers", HumanCount(memcpy as u64)),
                format!("{:.2}", iops / memcpy),
            ),
            None => (
                "not measured: only for reads of a namespace in this process's memory".to_owned(),
                "-".to_owned(),
            ),
        };
        let mut facts = vec![
            ("transfers", format!("{transfers} of {size} in {:.2} s", rate.seconds)),
            ("rate", format!("{} per second, {bytes} per second", HumanCount(iops as u64))),
            ("mean latency", format!("{:.2} µs at queue depth {}", self.latency(iops), self.bench.qd)),
            ("memcpy alone", copies),
            ("ratio", ratio),
        ];
        if self.machine.is_some() && !self.pinned {
            let shared = "not pinned: the device and the driver could not get two CPUs, and may share one";
            facts.push(("threads", shared.to_owned()));
        }
        print_facts(facts)
    }

    /// In microseconds, by Little's law.
    fn latency(&self, iops: f64) -> f64 {
        f64::from(self.bench.qd) / iops * 1e6
    }
}

/// Writes a fresh memory-backed namespace from end to end. Memory that was never written is one and the same
/// zero page, which is always in the cache.
fn touch<S: Sys>(controller: &Controller<S>, queue: &mut Queue<S>, namespace: Namespace) -> Result<()> {
    let mut stream = Stream::new(controller, queue, namespace)?;
    stream.write(0, namespace.blocks, |bytes| {
        bytes.fill(0x5a);
        Ok(())
    })
}

/// The first two CPUs on which this process may run, if there are two.
fn two_cpus() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    Some([cpus.next()?, cpus.next()?])
}

/// Keeps this thread, and those that it starts, on one CPU: whether that could be done.
fn pin_to(cpu: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}
