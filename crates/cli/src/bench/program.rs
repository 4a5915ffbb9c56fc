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

const FULL: Extent = Extent { rounds: 50, long_rounds: 30, calls: 2000, folders: 200 };
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
    /// How long both took, round by round; or why there are none.
    pairs: Result<Vec<[Duration; 2]>, String>,
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
        let pairs = in_turns(extent.rounds, || under.time(extent.calls), || alone.time(extent.calls))?;
        lines.push(Line { name, against, aim: Aim::Times(aim), pairs: Ok(pairs) });
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
        let pairs = match there {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("{} is not installed", words[0]))
            }
            _ => Ok(in_turns(rounds, || time(true), || time(false))?),
        };
        Ok(Line { name, against: "as it is", aim, pairs })
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

/// Pairs of what both take. Each side begins in half of them.
fn in_turns(
    rounds: usize,
    mut here: impl FnMut() -> Result<Duration>,
    mut there: impl FnMut() -> Result<Duration>,
) -> Result<Vec<[Duration; 2]>> {
    let mut pairs = Vec::new();
    // The first is to warm up.
    for number in 0..=rounds {
        let pair = if number % 2 == 0 {
            let here = here()?;
            [here, there()?]
        } else {
            let there = there()?;
            [here()?, there]
        };
        if number > 0 {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// How many times the other side's a pair's first is, in the middle.
fn ratio(pairs: &[[Duration; 2]]) -> f64 {
    let mut ratios: Vec<_> = pairs.iter().map(|[here, there]| here.div_duration_f64(*there)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or_default()
}

/// What each side takes: the medians.
fn medians(pairs: &[[Duration; 2]]) -> [Duration; 2] {
    [0, 1].map(|side| median(&pairs.iter().map(|pair| pair[side]).collect::<Vec<_>>()))
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
    /// What the pairs come to, in this aim's terms: the middle one, since whatever else the computer does may meet one side of a pair.
    fn of(self, pairs: &[[Duration; 2]]) -> (String, bool) {
        match self {
            Aim::Times(most) => {
                let ratio = ratio(pairs);
                (format!("{ratio:.2}"), ratio <= most)
            }
            Aim::Longer(most) => {
                let longer: Vec<_> = pairs.iter().map(|[here, there]| here.saturating_sub(*there)).collect();
                let longer = median(&longer);
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
    for Line { name, against, aim, pairs } in lines {
        match pairs {
            Ok(pairs) => {
                let (ratio, met) = aim.of(pairs);
                let [here, there] = medians(pairs).map(|median| format!("{median:.2?}"));
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
    let line = |Line { name, against, aim, pairs }: &Line| {
        let taken = pairs.as_ref().ok();
        let nanoseconds = |side: usize| taken.map(|pairs| medians(pairs)[side].as_nanos() as u64);
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
            "ratio": taken.map(|pairs| ratio(pairs)),
            "met": taken.map(|pairs| aim.of(pairs).1),
            "samples": taken.map_or(0, Vec::len),
            "reason": pairs.as_ref().err(),
        })
    };
    json!({ "bench": "run", "results": lines.iter().map(line).collect::<Vec<_>>() })
}
