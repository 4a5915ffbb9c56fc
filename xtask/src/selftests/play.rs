//! Running the self-tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::folder;
use super::programs::{PATIENCE, PROGRAMS, Program};
use super::tap::{Outcome, Report, Test};
use crate::preload;
use crate::run::{build_ioasis, ioasis_path, root, scratch};

/// What came of a program.
struct Played {
    report: Report,
    /// `None`: it was ended.
    status: Option<ExitStatus>,
    seconds: f64,
    log: PathBuf,
}

/// Runs the programs, prints a table, and fails unless of each so many tests pass as are to.
pub(super) fn run(only: Option<&str>, all: bool) -> Result<()> {
    let chosen: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| only.is_none_or(|only| program.name().contains(only)) && (all || !program.slow))
        .collect();
    ensure!(!chosen.is_empty(), "no program is called {:?}{}", only.unwrap_or_default(), hint(all));
    let folder = folder()?;
    for program in &chosen {
        let file = folder.join(program.path);
        ensure!(file.is_file(), "{} is not built: cargo xtask selftests build", file.display());
    }
    build_ioasis()?;
    preload::build()?;

    let logs = scratch("selftests")?;
    println!("{:36}{:>7}{:>8}{:>9}{:>9}", "program", "passed", "failed", "skipped", "seconds");
    let mut unmet = Vec::new();
    for program in chosen {
        let played = play(program, &folder, &logs)?;
        println!("{}", line(program, &played));
        explain(program, &played);
        if !is_met(program, &played.report) {
            unmet.push(format!("{} (log: {})", program.name(), played.log.display()));
        }
    }
    if !unmet.is_empty() {
        bail!("not what is expected of {}", unmet.join(", "));
    }
    Ok(())
}

fn hint(all: bool) -> &'static str {
    if all { "" } else { "; --all has those too that take minutes" }
}

/// Runs a program. Both its streams go to one log, in the order of what is written.
fn play(program: &Program, folder: &Path, logs: &Path) -> Result<Played> {
    let log = logs.join(program.name()).with_extension("log");
    let file = File::options().create(true).append(true).open(&log)?;
    let machine = root().join("selftests").join(program.machine);
    let mut command = Command::new(ioasis_path());
    command.arg("run").arg("--machine").arg(machine).arg("--").arg(folder.join(program.path));
    command.args(program.arguments).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let report = Report::parse(&String::from_utf8_lossy(&fs::read(&log)?));
    Ok(Played { report, status, seconds: start.elapsed().as_secs_f64(), log })
}

/// Whether a program did what is expected: just those tests pass that have no excuse. Its exit status is not asked: it fails for
/// each test that does, and for the strays of DMA that some tests are about.
fn is_met(program: &Program, report: &Report) -> bool {
    report.is_whole()
        && report.planned == program.tests
        && report.tests.iter().all(|test| passed(test) == program.excuse(&test.name).is_none())
}

fn passed(test: &Test) -> bool {
    test.outcome == Outcome::Passed
}

fn line(program: &Program, played: &Played) -> String {
    let report = &played.report;
    let (failed, skipped) =
        (report.count(|it| *it == Outcome::Failed), report.count(|it| matches!(it, Outcome::Skipped(_))));
    let (passed, seconds) = (report.passed(), played.seconds);
    format!("{:36}{passed:>7}{failed:>8}{skipped:>9}{seconds:>9.1}", program.name())
}

/// Names each test that did not pass, or passed in spite of an excuse, and why a program ended early.
fn explain(program: &Program, played: &Played) {
    let report = &played.report;
    for test in &report.tests {
        let name = &test.name;
        match (&test.outcome, program.excuse(name)) {
            (Outcome::Passed, None) => {}
            (Outcome::Passed, Some(why)) => println!("  passed: {name}, of which it is expected that {why}"),
            (Outcome::Skipped(_), Some(why)) => println!("  skipped, as on a real kernel: {name} ({why})"),
            (Outcome::Failed, Some(why)) => println!("  failed, as on a real kernel: {name} ({why})"),
            (Outcome::Skipped(why), None) => println!("  skipped: {name} ({why})"),
            (Outcome::Failed, None) => {
                println!("  failed: {name}");
                test.notes.iter().for_each(|note| println!("    {note}"));
            }
        }
    }
    if let Some(why) = &report.refusal {
        println!("  it made no test: {why}");
    } else if !report.is_whole() {
        let end = played.status.map_or("it took too long".to_string(), |status| status.to_string());
        println!("  it ended after {} of {} tests ({end})", report.tests.len(), report.planned);
        report.last_words().iter().for_each(|words| println!("    {words}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_met_by_whole_reports_only() {
        let program = Program {
            path: "vfio/a_test",
            machine: "igb.toml",
            arguments: &[],
            tests: 3,
            excuses: &[("c", "there is no such device"), (".d", "nothing")],
            slow: false,
        };
        let met = |output: &str| is_met(&program, &Report::parse(output));
        assert!(met("1..3\nok 1 a\nok 2 b\nnot ok 3 c\n"));
        assert!(!met("1..3\nok 1 a\nok 2 b\n"), "it ended early");
        assert!(!met("1..2\nok 1 a\nok 2 b\n"), "a test is missing");
        assert!(!met("1..3\nok 1 a\nok 2 b # SKIP no device\nnot ok 3 c\n"), "a skip is no pass");
        assert!(met("1..3\nok 1 a\nok 2 b\nok 3 c # SKIP no device\n"), "nor is it for the excused");
        assert!(!met("1..3\nok 1 a\nok 2 b\nok 3 c\n"), "the excuse is out of date");
        assert!(!met("1..3\nnot ok 1 a\nok 2 b\nnot ok 3 c\n"), "not excused");
        assert!(!met(""));
    }
}
