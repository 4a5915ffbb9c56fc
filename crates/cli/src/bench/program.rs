//! `ioasis bench run`: what a program pays that runs under `ioasis run`, against what it takes without, or against the least that a
//! call or a signal takes at all. The sides take turns, so that whatever else the computer does meets both.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::table::{median, name};
use crate::arguments::{Bench, Yardstick};
use crate::output::{self, print, print_json};
use crate::run;

/// The device of the machine that is measured with.
pub(super) const DEVICE: &str = "0000:42:00.0";

/// How much is measured.
struct Extent {
    rounds: usize,
    /// Of `tar`, which takes long.
    long_rounds: usize,
    /// Calls, or accesses, in a round.
    calls: u32,
    /// Folders with a hundred files each.
    folders: usize,
}

const FULL: Extent = Extent { rounds: 50, long_rounds: 10, calls: 2000, folders: 200 };
const QUICK: Extent = Extent { rounds: 3, long_rounds: 1, calls: 100, folders: 2 };

/// The most that is wanted.
#[derive(Clone, Copy)]
enum Aim {
    /// So many times what the other side takes.
    Times(f64),
    /// So much longer than the other side.
    Longer(Duration),
}

/// Two things that are compared.
struct Line {
    name: &'static str,
    against: &'static str,
    aim: Aim,
    /// How long each took, in pairs; or why there are none.
    samples: Result<[Vec<Duration>; 2], String>,
}

pub(super) fn measure(bench: &Bench) -> Result<()> {
    // Without it nothing of this starts.
    run::library::find()?;
    let extent = if bench.quick { QUICK } else { FULL };
    let place = Place::new()?;
    let mut lines = Vec::new();
    for (name, under, against, alone, aim) in [
        ("trapped load", Yardstick::Load, "SIGSEGV alone", Yardstick::Signal, 1.5),
        ("trapped store", Yardstick::Store, "SIGSEGV alone", Yardstick::Signal, 1.5),
        ("ioctl that the machine answers", Yardstick::Option, "unknown ioctl", Yardstick::Unknown, 5.0),
        ("ioctl that the host answers", Yardstick::Unknown, "unknown ioctl", Yardstick::Unknown, 5.0),
    ] {
        let (mut under, mut alone) = (place.start(true, under)?, place.start(false, alone)?);
        let round = || Ok([under.time(extent.calls)?, alone.time(extent.calls)?]);
        let samples = Ok(in_turns(extent.rounds, round)?);
        lines.push(Line { name, against, aim: Aim::Times(aim), samples });
    }
    let aim = Aim::Longer(Duration::from_millis(15));
    lines.push(place.compare("true", &["true"], aim, extent.rounds)?);
    grow(&place.folder.path().join("tree"), extent.folders)?;
    // Several times, so that the start, which is told above, counts for little.
    let words = [&["tar", "-cf", "archive"][..], &["tree"; 8]].concat();
    lines.push(place.compare("tar of a tree", &words, Aim::Times(1.05), extent.long_rounds)?);
    if bench.json { print_json(&to_json(&lines)) } else { print(&to_text(&lines)) }
}

/// Where programs run, and the machine for them.
struct Place {
    folder: TempDir,
    ioasis: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder; TMPDIR names another place")?;
        // A device without a thread: to wake one is no part of an access.
        let machine = format!("[[device]]\naddress = \"{DEVICE}\"\nmodel = \"edu\"\nthread = false\n");
        fs::write(folder.path().join("machine.toml"), machine).context("cannot write a machine file")?;
        Ok(Place { folder, ioasis: env::current_exe().context("cannot tell where this program is")? })
    }

    /// A program as it is, or under the machine.
    fn command(&self, under: bool, program: &OsStr) -> Command {
        let mut command = Command::new(if under { self.ioasis.as_os_str() } else { program });
        if under {
            command.args(["--machine", "machine.toml", "run", "--"]).arg(program);
        }
        command.current_dir(self.folder.path());
        command
    }

    /// Starts one of this command's own.
    fn start(&self, under: bool, what: Yardstick) -> Result<Program> {
        let mut command = self.command(under, self.ioasis.as_os_str());
        command.args(["yardstick", &name(what)]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take().context("no pipe")?);
        Ok(Program { child, orders, answers: BufReader::new(answers) })
    }

    /// Compares a program under the machine with what it takes as it is.
    fn compare(&self, name: &'static str, words: &[&str], aim: Aim, rounds: usize) -> Result<Line> {
        let time = |under| {
            let mut command = self.command(under, words[0].as_ref());
            let start = Instant::now();
            let status = command.args(&words[1..]).stdin(Stdio::null()).status();
            let taken = start.elapsed();
            let status = status.with_context(|| format!("cannot start {command:?}"))?;
            ensure!(status.success(), "{command:?} ended with {status}");
            Ok(taken)
        };
        let there = Command::new(words[0]).arg("--version").stdout(Stdio::null()).status();
        let samples = match there {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("{} is not installed", words[0]))
            }
            _ => Ok(in_turns(rounds, || Ok([time(true)?, time(false)?]))?),
        };
        Ok(Line { name, against: "as it is", aim, samples })
    }
}

/// A program that does something as often as it is told.
struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// How long one of so many takes.
    fn time(&mut self, times: u32) -> Result<Duration> {
        let mut answer = String::new();
        if let Some(orders) = &mut self.orders {
            // If it is gone, it has no answer either.
            let _told = writeln!(orders, "{times}");
        }
        self.answers.read_line(&mut answer)?;
        match answer.trim().parse() {
            Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds) / times),
            Err(_) => bail!("a program that is measured has ended, see above"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The end of its orders ends it.
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}

fn in_turns(rounds: usize, mut round: impl FnMut() -> Result<[Duration; 2]>) -> Result<[Vec<Duration>; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    // The first is to warm up.
    for number in 0..=rounds {
        for (all, sample) in samples.iter_mut().zip(round()?) {
            if number > 0 {
                all.push(sample);
            }
        }
    }
    Ok(samples)
}

/// A tree of so many folders with a hundred files each, of sizes as source code has them.
fn grow(tree: &Path, folders: usize) -> Result<()> {
    let file = |path: PathBuf, size| fs::write(path, vec![b'x'; size]);
    for folder in 0..folders {
        let folder = tree.join(folder.to_string());
        fs::create_dir_all(&folder)
            .and_then(|()| (0..100).try_for_each(|name| file(folder.join(name.to_string()), 100 * name)))
            .with_context(|| format!("cannot write to {}", folder.display()))?;
    }
    Ok(())
}

impl Aim {
    /// What two medians come to, in this aim's terms.
    fn of(self, [here, there]: [Duration; 2]) -> (String, bool) {
        match self {
            Aim::Times(most) => {
                let ratio = here.div_duration_f64(there);
                (format!("{ratio:.2}"), ratio <= most)
            }
            Aim::Longer(most) => {
                let longer = here.saturating_sub(there);
                (format!("{longer:.1?} more"), longer <= most)
            }
        }
    }

    fn words(self, met: bool) -> String {
        let missed = if met { "" } else { " (missed)" };
        match self {
            Aim::Times(most) => format!("at most {most}{missed}"),
            Aim::Longer(most) => format!("at most {most:?} more{missed}"),
        }
    }
}

fn to_text(lines: &[Line]) -> String {
    let mut rows = output::table();
    rows.set_header(["under a machine", "median", "against", "median", "ratio", "aim"]);
    for Line { name, against, aim, samples } in lines {
        match samples {
            Ok(samples) => {
                let medians = samples.each_ref().map(|side| median(side));
                let (ratio, met) = aim.of(medians);
                let [here, there] = medians.map(|median| format!("{median:.2?}"));
                rows.add_row([(*name).to_owned(), here, (*against).to_owned(), there, ratio, aim.words(met)])
            }
            Err(reason) => {
                let none = || "-".to_owned();
                rows.add_row([(*name).to_owned(), none(), format!("none: {reason}"), none(), none(), none()])
            }
        };
    }
    format!("{}\n", rows.trim_fmt())
}

fn to_json(lines: &[Line]) -> Value {
    let line = |Line { name, against, aim, samples }: &Line| {
        let taken = samples.as_ref().ok().map(|samples| samples.each_ref().map(|side| median(side)));
        let nanoseconds = |side: usize| taken.map(|medians| medians[side].as_nanos() as u64);
        let (most_times, most_longer) = match *aim {
            Aim::Times(most) => (Some(most), None),
            Aim::Longer(most) => (None, Some(most.as_nanos() as u64)),
        };
        json!({
            "what": name,
            "median_ns": nanoseconds(0),
            "against": against,
            "against_median_ns": nanoseconds(1),
            "at_most_times": most_times,
            "at_most_ns_more": most_longer,
            "met": taken.map(|medians| aim.of(medians).1),
            "samples": samples.as_ref().map_or(0, |samples| samples[0].len()),
            "reason": samples.as_ref().err(),
        })
    };
    json!({ "bench": "run", "results": lines.iter().map(line).collect::<Vec<_>>() })
}
