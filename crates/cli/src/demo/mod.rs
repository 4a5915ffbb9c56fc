//! `ioasis demo`: the whole way once, on a machine of its own, with every byte compared.

mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ioasis::{Device, DmaBuffer, DmaOptions, Options, Step, Sys};
use machine::{Machine, MachineSpec};
use nvme::{Completions, Controller, Namespace, Operation, Queue, Transfer};

use crate::arguments::{self, Pattern};
use crate::load::Work;
use crate::nvme::first_namespace;
use crate::output::{print, print_json};
use crate::system::{self, Job};
use report::Report;

/// The machine that the demo builds.
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
    // It writes to its device, which must not be one that somebody needs.
    for (option, named) in
        [("--machine", system.machine.is_some()), ("--allow-noiommu", system.allow_noiommu)]
    {
        ensure!(!named, "demo builds a machine of its own and uses no other: run it without {option}");
    }
    let machine = Machine::from_spec(MachineSpec::parse(MACHINE)?)?;
    system::run_on(&machine, system, Demo { json })
}

struct Demo {
    json: bool,
}

impl Job for Demo {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let start = Instant::now();
        let options = options.trace(true);
        let device = Device::open(sys, NVME.parse()?, &options)?;
        let trace = device.trace().clone();
        let mode = device.mode().name();
        let controller = Controller::new(device, 1)?;
        let namespace = first_namespace(&controller)?;
        let (right, segments) = round_trip(&controller, namespace)?;
        let iops = throughput(&controller, namespace)?;
        let before_teardown = trace.steps().len();
        drop(controller);
        let edu = edu_echo(sys, &options)?;
        let report = Report {
            mode,
            steps: trace.steps(),
            before_teardown,
            bytes: BYTES,
            segments,
            iops,
            edu_steps: edu.steps,
            verified: right && edu.right,
            took: start.elapsed(),
            peak_memory: peak_memory()?,
        };
        if self.json {
            print_json(&report.json())?
        } else {
            print(&report.text()?)?
        }
        ensure!(report.verified, "what was read back is not what was written");
        Ok(())
    }
}

/// Writes a pattern through the driver, with an interrupt for each batch, and reads it back into other
/// memory.
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

/// 4 KiB random reads per second of what was written, at queue depth 32.
fn throughput<S: Sys>(controller: &Controller<S>, namespace: Namespace) -> Result<f64> {
    const QD: u16 = 32;
    const BS: usize = 4096;
    // A ring holds one command less than its depth.
    let mut queue = controller.queue(QD + 1, Completions::Polled)?;
    let buffer = controller.device().address_space().allocate(usize::from(QD) * BS, &DmaOptions::new())?;
    let namespace = Namespace { blocks: (BYTES / namespace.block_size) as u64, ..namespace };
    let work = Work { namespace, pattern: Pattern::Randread, bs: BS, qd: QD, buffer };
    Ok(work.measure(&mut queue, Duration::from_secs(1))?.per_second())
}

/// The most memory of this process that was resident at once, in bytes (`proc_pid_status(5)`).
fn peak_memory() -> Result<u64> {
    const FILE: &str = "/proc/self/status";
    let text = std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{FILE} has no VmHWM"))? << 10)
}

/// What the `edu` device did.
struct Edu {
    right: bool,
    steps: Vec<Step>,
}

/// Sends a page through the buffer of the `edu` device and back, with an interrupt at the end of each way.
fn edu_echo<S: Sys>(sys: &S, options: &Options) -> Result<Edu> {
    const PAGE: usize = 4096;
    /// Where the device's own buffer is, as its DMA engine sees it.
    const BUFFER: u64 = 0x4_0000;
    let device = Device::open(sys, EDU.parse()?, options)?;
    let trace = device.trace().clone();
    device.set_bus_master(true)?;
    let bar = device.bar(0)?;
    let interrupts = device.interrupts().msi(1)?;
    let interrupt = interrupts.first().context("the edu device has no MSI vector")?;
    // The device's DMA engine has 28 address bits.
    let memory = device.address_space().allocate(2 * PAGE, &DmaOptions::new().mask_bits(28))?;
    let page: Vec<u8> = (0..PAGE).map(|byte| (byte * 7) as u8).collect();
    memory.write_at(0, &page);
    let ways = [
        (memory.address_at(0).0.get(), BUFFER, edu::FROM_MEMORY),
        (BUFFER, memory.address_at(PAGE).0.get(), edu::TO_MEMORY),
    ];
    for (from, to, way) in ways {
        bar.write64(edu::SOURCE, from);
        bar.write64(edu::DESTINATION, to);
        bar.write64(edu::COUNT, PAGE as u64);
        bar.write32(edu::COMMAND, edu::START | way | edu::INTERRUPT);
        interrupt.wait(Some(PATIENCE))?.context("the edu device sent no interrupt")?;
        bar.write32(edu::ACKNOWLEDGE, bar.read32(edu::STATUS));
    }
    let mut back = vec![0; PAGE];
    memory.read_at(PAGE, &mut back);
    // The device first: nothing may reach for memory that is gone.
    drop((bar, device, memory));
    Ok(Edu { right: back == page, steps: trace.steps() })
}

/// Registers of the `edu` device (QEMU, `docs/specs/edu.rst`).
mod edu {
    /// Why it interrupted.
    pub(super) const STATUS: usize = 0x24;
    /// Takes interrupts back.
    pub(super) const ACKNOWLEDGE: usize = 0x64;
    /// DMA: from where.
    pub(super) const SOURCE: usize = 0x80;
    /// DMA: to where.
    pub(super) const DESTINATION: usize = 0x88;
    /// DMA: how many bytes.
    pub(super) const COUNT: usize = 0x90;
    /// DMA: what to do.
    pub(super) const COMMAND: usize = 0x98;
    /// Bits of the command.
    pub(super) const START: u32 = 1;
    /// From memory to the device's buffer.
    pub(super) const FROM_MEMORY: u32 = 0;
    /// From the device's buffer to memory.
    pub(super) const TO_MEMORY: u32 = 2;
    /// Interrupt at the end.
    pub(super) const INTERRUPT: u32 = 4;
}
