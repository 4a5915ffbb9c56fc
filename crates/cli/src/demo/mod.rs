//! `ioasis demo`: the whole way once, on a machine of its own or on named devices, with every byte compared.

mod edu;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::BinaryBytes;
use ioasis::{Device, DmaBuffer, DmaOptions, InterruptKind, Options, PciAddress, Sys};
use machine::{Machine, MachineSpec};
use nvme::{Completions, Controller, Namespace, Operation, Queue, Transfer};

use crate::arguments::{self, Pattern};
use crate::load::Work;
use crate::nvme::first_namespace;
use crate::output::{complain, print, print_json};
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

pub(crate) fn run(system: &arguments::System, arguments: &arguments::Demo) -> Result<()> {
    let json = arguments.json;
    if let (Some(nvme), Some(edu)) = (arguments.nvme, arguments.edu) {
        complain(&format!("the first {} of {nvme} are being overwritten", BinaryBytes(BYTES as u64)));
        return system::run(system, Demo { nvme, edu, json });
    }
    // It writes to its device, which must not be one that somebody needs.
    for (option, named) in
        [("--machine", system.machine.is_some()), ("--allow-noiommu", system.allow_noiommu)]
    {
        ensure!(
            !named,
            "demo uses a machine of its own: run it without {option}, or name devices: --nvme ADDRESS --edu ADDRESS \
             --overwrite"
        );
    }
    let machine = Machine::from_spec(MachineSpec::parse(MACHINE)?)?;
    system::run_on(&machine, system, Demo { nvme: NVME.parse()?, edu: EDU.parse()?, json })
}

struct Demo {
    nvme: PciAddress,
    edu: PciAddress,
    json: bool,
}

impl Job for Demo {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let start = Instant::now();
        let options = options.trace(true);
        let device = Device::open(sys, self.nvme, &options)?;
        let trace = device.trace().clone();
        let (mode, passed_over) = (device.mode(), device.passed_over().to_vec());
        let vectors = device.interrupts().count(InterruptKind::Msix)?.min(1);
        let controller = Controller::new(device, vectors as u16)?;
        let namespace = first_namespace(&controller)?;
        let has = namespace.blocks.saturating_mul(namespace.block_size as u64);
        ensure!(
            has >= BYTES as u64,
            "the namespace of {} is too small: {} of {} are needed",
            self.nvme,
            BinaryBytes(has),
            BinaryBytes(BYTES as u64)
        );
        let completions = if vectors > 0 { Completions::Interrupt } else { Completions::Polled };
        let (right, segments) = round_trip(&controller, namespace, completions)?;
        let iops = throughput(&controller, namespace)?;
        let before_teardown = trace.steps().len();
        drop(controller);
        let echo = edu::echo(sys, self.edu, &options)?;
        let report = Report {
            mode,
            passed_over,
            steps: trace.steps(),
            before_teardown,
            bytes: BYTES,
            interrupts: (vectors > 0).then_some(InterruptKind::Msix),
            segments,
            iops,
            edu_interrupts: echo.interrupts,
            edu_steps: echo.steps,
            verified: right && echo.right,
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

/// Writes a pattern through the driver, and reads it back into other memory.
fn round_trip<S: Sys>(
    controller: &Controller<S>,
    namespace: Namespace,
    completions: Completions,
) -> Result<(bool, usize)> {
    let mut queue = controller.queue(32, completions)?;
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
