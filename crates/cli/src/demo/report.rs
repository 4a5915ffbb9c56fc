//! What the demo tells: a table for people, an object for programs.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use indicatif::{BinaryBytes, HumanCount};
use ioasis::{InterruptKind, Mode, PassedOver, Step};
use serde_json::{Value, json};

use crate::output::{passed_over_json, table};

/// What the demo found.
pub(super) struct Report {
    pub(super) mode: Mode,
    /// The better modes, and why they were not taken.
    pub(super) passed_over: Vec<PassedOver>,
    /// The calls that driving the NVMe controller took.
    pub(super) steps: Vec<Step>,
    /// How many of them came before the teardown.
    pub(super) before_teardown: usize,
    /// The calls that driving the `edu` device took.
    pub(super) edu_steps: Vec<Step>,
    /// How the controller told that commands had ended; `None` where its queue was polled.
    pub(super) interrupts: Option<InterruptKind>,
    /// The same of the `edu` device.
    pub(super) edu_interrupts: Option<InterruptKind>,
    /// What was written and read back, in bytes.
    pub(super) bytes: usize,
    /// How many physically contiguous runs the buffers had.
    pub(super) segments: usize,
    pub(super) iops: f64,
    pub(super) verified: bool,
    pub(super) took: Duration,
    /// The most memory that was resident at once, in bytes.
    pub(super) peak_memory: u64,
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let steps = self.steps.iter().chain(&self.edu_steps).map(step_json);
        json!({
            "verified": self.verified,
            "mode": self.mode.name(),
            "passed_over": passed_over_json(&self.passed_over),
            "interrupts": {
                "nvme": self.interrupts.map(|kind| kind.to_string()),
                "edu": self.edu_interrupts.map(|kind| kind.to_string()),
            },
            "steps": steps.collect::<Vec<_>>(),
            "bytes": self.bytes,
            "segments": self.segments,
            "iops": self.iops,
            "seconds": self.took.as_secs_f64(),
            "peak_memory": self.peak_memory,
        })
    }

    pub(super) fn text(&self) -> Result<String> {
        let mut rows = table();
        rows.set_header(["call", "result", "time"]);
        let (work, teardown) = self.steps.split_at(self.before_teardown.min(self.steps.len()));
        for step in merge(work).iter().chain(&merge(teardown)) {
            rows.add_row([call(step), result(step), format!("{:.1?}", step.duration)]);
        }
        let mut text = format!("{}\n\nmode {}", rows.trim_fmt(), self.mode);
        text += if self.passed_over.is_empty() { "\n" } else { "; better ones were passed over:\n" };
        for better in &self.passed_over {
            writeln!(text, "  {better}")?;
        }
        let calls: u64 = self.edu_steps.iter().map(|step| step.times).sum();
        let time: Duration = self.edu_steps.iter().map(|step| step.duration).sum();
        let how = told(self.edu_interrupts);
        writeln!(text, "edu: a buffer to the device and back by DMA, {how}: {calls} calls, {time:.1?}")?;
        let (bytes, how) = (BinaryBytes(self.bytes as u64), told(self.interrupts));
        writeln!(text, "NVMe: {bytes} written and read back by DMA, {how}")?;
        let segments = HumanCount(self.segments as u64);
        writeln!(text, "      in buffers of {segments} physically contiguous runs")?;
        let iops = HumanCount(self.iops as u64);
        writeln!(text, "      {iops} random reads of 4 KiB per second at queue depth 32")?;
        let verdict = if self.verified { "every byte was right" } else { "bytes were WRONG" };
        let seconds = self.took.as_secs_f64();
        let memory = BinaryBytes(self.peak_memory);
        writeln!(text, "{verdict}; {seconds:.2} s and at most {memory} of memory in all")?;
        Ok(text)
    }
}

/// Joins steps that make the same call on the same object with success, where the first of them was.
fn merge(steps: &[Step]) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::new();
    for step in steps {
        let same = |other: &&mut Step| {
            (other.call, &other.object) == (step.call, &step.object) && other.answer.is_ok()
        };
        match merged.iter_mut().find(same) {
            Some(first) => {
                first.times += step.times;
                first.duration += step.duration;
                first.answer = step.answer.clone();
            }
            None => merged.push(step.clone()),
        }
    }
    merged
}

/// How the end of work was told.
fn told(interrupts: Option<InterruptKind>) -> String {
    interrupts.map_or("polled, without an interrupt".to_owned(), |kind| format!("with {kind}"))
}

fn call(step: &Step) -> String {
    match step.times {
        1 => step.call.to_owned(),
        times => format!("{} ×{}", step.call, HumanCount(times)),
    }
}

/// What a call answered; of several, the last one.
fn result(step: &Step) -> String {
    let answer = step.answer.as_ref().map_or_else(ToString::to_string, Clone::clone);
    let answer = match step.call {
        // What is opened or mapped is not plain from the call.
        "open" if step.answer.is_ok() => step.object.display().to_string(),
        "mmap" => format!("{answer} of {}", step.object.file_name().unwrap_or_default().display()),
        _ => answer,
    };
    if step.times == 1 { answer } else { format!("… {answer}") }
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
