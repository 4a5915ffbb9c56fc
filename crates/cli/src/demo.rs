//! `ioasis demo`: the whole way once, on a machine of its own, with every byte compared.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{BinaryBytes, HumanCount};
use ioasis::{Device, DmaBuffer, DmaOptions, Options, Step, Sys};
use machine::{Machine, MachineSpec};
use nvme::{Completions, Controller, Namespace, Operation, Queue, Transfer};
use serde_json::{Value, json};

use crate::arguments;
use crate::nvme::{first_namespace, measure_random_reads};
use crate::output::{print, print_json, table};
use crate::system::{self, Job};

/// The machine that the demo builds, unless another one is named.
const MACHINE: &str = r#"
iommu = "none"
unsafe_noiommu_mode = true

[memory]
layout = "scattered"
seed = 7

[[device]]
address = "0000:01:00.0"
model = "nvme"
size = "64MiB"

[[device]]
address = "0000:02:00.0"
model = "edu"
"#;
const NVME: &str = "0000:01:00.0";
const EDU: &str = "0000:02:00.0";
/// What is written and read back.
const BYTES: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(system: &arguments::System, json: bool) -> Result<()> {
    let machine = match &system.machine {
        Some(path) => Machine::from_file(path)?,
        None => Machine::from_spec(MachineSpec::parse(MACHINE)?)?,
    };
    system::run_on(&machine, Demo { json })
}

struct Demo {
    json: bool,
}

/// What the demo found.
struct Found {
    mode: &'static str,
    steps: Vec<Step>,
    bytes: usize,
    segments: usize,
    iops: f64,
    verified: bool,
    took: Duration,
}

impl Job for Demo {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let start = Instant::now();
        let device = Device::open(sys, NVME.parse()?, &options.trace(true))?;
        let trace = device.trace().clone();
        let mode = device.mode().name();
        let controller = Controller::new(device, 1)?;
        let namespace = first_namespace(&controller)?;
        let (verified, segments) = round_trip(&controller, namespace)?;
        let iops = throughput(&controller, namespace)?;
        drop(controller);
        let echoed = edu_echo(sys, options)?;
        let found = Found {
            mode,
            steps: trace.steps(),
            bytes: BYTES + echoed.unwrap_or(0),
            segments,
            iops,
            verified: verified && echoed.is_some(),
            took: start.elapsed(),
        };
        if self.json {
            print_json(&found.json())?
        } else {
            print(&found.text()?)?
        }
        ensure!(found.verified, "what was read back is not what was written");
        Ok(())
    }
}

/// Writes a pattern through the driver, with an interrupt for each batch, and reads it back into other memory.
fn round_trip<S: Sys>(controller: &Controller<S>, namespace: Namespace) -> Result<(bool, usize)> {
    let mut queue = controller.queue(32, Completions::Interrupt)?;
    let space = controller.device().address_space();
    let written = space.allocate(BYTES, &DmaOptions::new())?;
    let read = space.allocate(BYTES, &DmaOptions::new())?;
    let pattern: Vec<u8> =
        (0..BYTES as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    written.write_at(0, &pattern);
    transfer(&mut queue, namespace, Operation::Write, &written)?;
    transfer(&mut queue, namespace, Operation::Read, &read)?;
    let mut back = vec![0; BYTES];
    read.read_at(0, &mut back);
    Ok((back == pattern, written.segments().count() + read.segments().count()))
}

/// Moves a whole buffer, in transfers as large as the controller takes.
fn transfer<S: Sys>(
    queue: &mut Queue<S>,
    namespace: Namespace,
    operation: Operation,
    buffer: &DmaBuffer<S>,
) -> Result<()> {
    let step = queue.max_transfer().min(128 << 10);
    let mut failed = None;
    for offset in (0..BYTES).step_by(step) {
        if queue.room() == 0 {
            queue.wait(PATIENCE, |completion| failed = failed.or(completion.status))?;
        }
        let lba = (offset / namespace.block_size) as u64;
        let blocks = (step.min(BYTES - offset) / namespace.block_size) as u32;
        let transfer = Transfer { operation, namespace: &namespace, lba, blocks, buffer, offset };
        queue.submit(&transfer, lba)?;
        queue.ring();
    }
    while queue.under_way() > 0 {
        queue.wait(PATIENCE, |completion| failed = failed.or(completion.status))?;
    }
    ensure!(
        failed.is_none(),
        "{operation} failed: {}",
        failed.map(|status| status.to_string()).unwrap_or_default()
    );
    Ok(())
}

fn throughput<S: Sys>(controller: &Controller<S>, namespace: Namespace) -> Result<f64> {
    let mut queue = controller.queue(33, Completions::Polled)?;
    let buffer = controller.device().address_space().allocate(32 * 4096, &DmaOptions::new())?;
    Ok(measure_random_reads(&mut queue, namespace, buffer, Duration::from_secs(1))?.per_second())
}

/// Sends a page through the buffer of the `edu` device and back, with an interrupt at the end of each way; its length if
/// it came back unchanged.
fn edu_echo<S: Sys>(sys: &S, options: &Options) -> Result<Option<usize>> {
    const PAGE: usize = 4096;
    /// Where the device's own buffer is, as its DMA engine sees it.
    const BUFFER: u64 = 0x4_0000;
    let device = Device::open(sys, EDU.parse()?, options)?;
    device.set_bus_master(true)?;
    let bar = device.bar(0)?;
    let interrupts = device.interrupts().msi(1)?;
    let interrupt = interrupts.first().context("the edu device has no MSI vector")?;
    // The device's DMA engine has 28 address bits.
    let memory = device.address_space().allocate(2 * PAGE, &DmaOptions::new().mask_bits(28))?;
    let page: Vec<u8> = (0..PAGE).map(|byte| (byte * 7) as u8).collect();
    memory.write_at(0, &page);
    let ways =
        [(memory.address_at(0).0.get(), BUFFER, 0x5_u32), (BUFFER, memory.address_at(PAGE).0.get(), 0x7)];
    for (from, to, command) in ways {
        bar.write64(0x80, from);
        bar.write64(0x88, to);
        bar.write64(0x90, PAGE as u64);
        bar.write32(0x98, command);
        interrupt.wait(Some(PATIENCE))?.context("the edu device sent no interrupt")?;
        bar.write32(0x64, bar.read32(0x24));
    }
    let mut back = vec![0; PAGE];
    memory.read_at(PAGE, &mut back);
    Ok((back == page).then_some(PAGE))
}

impl Found {
    fn json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(step_json).collect();
        json!({
            "verified": self.verified,
            "mode": self.mode,
            "steps": steps,
            "bytes": self.bytes,
            "segments": self.segments,
            "iops": self.iops,
            "seconds": self.took.as_secs_f64(),
        })
    }

    fn text(&self) -> Result<String> {
        let mut rows = table();
        rows.set_header(["call", "on", "result", "time"]);
        for step in &self.steps {
            let times = if step.times > 1 { format!(" ×{}", step.times) } else { String::new() };
            rows.add_row([
                format!("{}{times}", step.call),
                step.object.display().to_string(),
                step.answer.as_ref().map_or_else(ToString::to_string, Clone::clone),
                format!("{:.1} µs", step.duration.as_secs_f64() * 1e6),
            ]);
        }
        let mut text = format!("{}\n\n", rows.trim_fmt());
        let verdict = if self.verified { "every byte was right" } else { "bytes were WRONG" };
        writeln!(
            text,
            "{verdict}: {} written and read back in mode {}",
            BinaryBytes(self.bytes as u64),
            self.mode
        )?;
        writeln!(text, "the buffers were {} physically contiguous runs", HumanCount(self.segments as u64))?;
        writeln!(
            text,
            "{} random reads of 4 KiB per second at queue depth 32",
            HumanCount(self.iops as u64)
        )?;
        writeln!(text, "{:.2} s in all", self.took.as_secs_f64())?;
        Ok(text)
    }
}

fn step_json(step: &Step) -> Value {
    let (result, errno) = match &step.answer {
        Ok(words) => (Some(words), None),
        Err(errno) => (None, Some(errno.to_string())),
    };
    json!({
        "call": step.call,
        "object": step.object,
        "times": step.times,
        "result": result,
        "errno": errno,
        "microseconds": step.duration.as_secs_f64() * 1e6,
    })
}
