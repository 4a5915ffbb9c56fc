//! What calls take, on a real kernel and on an embedded machine, in one boot: only the ratios mean something.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Boot, Files};
use crate::run::scratch;

/// 2 GiB in huge pages, so that 512 MiB of them are contiguous.
pub(super) const BOOT: Boot = Boot {
    name: "both sides of the system calls measured",
    options: "--kernel A --device edu --memory 6144 --append hugepages=1024 --append transparent_hugepage=never",
    script: "bench.sh",
};

/// A call, and its medians in nanoseconds.
struct Line {
    call: String,
    kernel: f64,
    machine: f64,
}

/// Boots, measures and prints the table.
pub(super) fn run(files: &Files) -> Result<()> {
    let results = scratch("vm-bench")?.join("bench.json");
    BOOT.run(files, &["--fetch", &format!("/tmp/bench.json:{}", results.display())])?;
    let lines = parse(&fs::read_to_string(&results)?)?;
    println!("{:32}{:>12}{:>12}{:>10}", "median", "kernel", "machine", "ratio");
    for Line { call, kernel, machine } in lines {
        println!("{call:32}{:>12}{:>12}{:>10.1}", time(kernel), time(machine), kernel / machine);
    }
    Ok(())
}

/// Reports of `ioasis bench --json` one after the other, two for each bench: the kernel's and the machine's.
fn parse(text: &str) -> Result<Vec<Line>> {
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let reports: Vec<Value> = stream.collect::<serde_json::Result<_>>()?;
    let mut lines = Vec::new();
    for pair in reports.chunks(2) {
        let [kernel, machine] = pair else {
            anyhow::bail!("one side was measured more often than the other")
        };
        ensure!(kernel["bench"] == machine["bench"], "the sides were not measured in turns");
        let of = |report: &Value| report["results"].as_array().cloned().unwrap_or_default();
        for (kernel, machine) in of(kernel).iter().zip(&of(machine)) {
            ensure!(kernel["what"] == machine["what"], "{kernel} is no counterpart of {machine}");
            let call = format!("{} of {}", text_of(&pair[0]["bench"])?, text_of(&kernel["what"])?);
            lines.push(Line {
                kernel: nanoseconds(&call, kernel)?,
                machine: nanoseconds(&call, machine)?,
                call,
            });
        }
    }
    ensure!(!lines.is_empty(), "nothing was measured");
    Ok(lines)
}

fn text_of(value: &Value) -> Result<&str> {
    value.as_str().context("a report lacks a name")
}

fn nanoseconds(call: &str, result: &Value) -> Result<f64> {
    result["median_ns"].as_f64().with_context(|| format!("{call} was not measured: {}", result["reason"]))
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns >= 1e6 => format!("{:.2} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bench: &str, median: &str) -> String {
        format!(
            "{{\"bench\": \"{bench}\", \"results\": [{{\"what\": \"4 KiB\", \"median_ns\": {median}, \"reason\": \"no room\"}}]}}"
        )
    }

    #[test]
    fn sides_are_paired_and_what_is_missing_is_an_error() {
        let lines = parse(&[report("map", "40000"), report("map", "800")].concat()).unwrap();
        assert_eq!((lines[0].call.as_str(), lines[0].kernel, lines[0].machine), ("map of 4 KiB", 4e4, 800.0));
        for (reports, words) in [
            (vec![report("map", "1"), report("unmap", "1")], "in turns"),
            (vec![report("map", "1")], "more often"),
            (vec![report("map", "1"), report("map", "null")], "no room"),
            (vec![], "nothing"),
        ] {
            let error = parse(&reports.concat()).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!([time(211.4), time(1350.0), time(2.45e7)], ["211 ns", "1.35 µs", "24.50 ms"]);
    }
}
