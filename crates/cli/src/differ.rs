//! `ioasis replay` and `ioasis differ`: sequences of calls on a kernel, on a machine, on both.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use conformance::Target;
use differ::{Arena, Difference, Sequence, compare, draw, play, shrink};
use ioasis::Linux;
use machine::Machine;
use sys::Suite;

use crate::arguments::{self, Differ, Replay};
use crate::conform::{host_target, machine_target};
use crate::output::{complain, print};
use crate::progress;
use crate::stop::StopFlag;
use crate::system;

/// What becomes of the devices of a host.
const BECOMES: &str = "the devices are opened, written to and reset, and memory is pinned";

/// Makes the calls of scripts on one system, and prints what came of each.
pub(crate) fn replay(system: &arguments::System, replay: &Replay) -> Result<()> {
    match &system.machine {
        Some(path) => {
            let machine = Machine::from_file(path)?;
            let target = machine_target(&machine, path, &replay.device)?;
            system::checked(&machine, replay_on(&machine, &target, replay))
        }
        None => replay_on(&Linux, &host_target(&replay.device, BECOMES)?, replay),
    }
}

fn replay_on<S: Suite>(sys: &S, target: &Target, replay: &Replay) -> Result<()> {
    let arena = Arena::new()?;
    for path in &replay.scripts {
        let sequence = read(path)?;
        let outcomes = play(sys, target, &arena, &sequence)
            .with_context(|| format!("cannot play {}", path.display()))?;
        let mut text = String::new();
        let lines = sequence.to_string();
        for (line, outcome) in lines.lines().zip(&outcomes) {
            writeln!(text, "{line}\n    {outcome}")?;
        }
        if let Some(left) = outcomes.last() {
            writeln!(text, "KiB left pinned: {left}")?;
        }
        print(&text)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Sequence> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Sequence::parse(&text).with_context(|| format!("{} is no script of calls", path.display()))
}

/// Makes the same calls on a machine and on the host's kernel, and prints where they part.
pub(crate) fn differ(system: &arguments::System, differ: &Differ) -> Result<()> {
    let path = system.machine.as_deref().context(
        "the host's kernel is held against a machine: name its file with --machine, and with --device the host's devices",
    )?;
    let machine = Machine::from_file(path)?;
    let pair = Pair {
        ours: machine_target(&machine, path, &[])?,
        theirs: host_target(&differ.device, BECOMES)?,
        machine,
        arena: Arena::new()?,
    };
    ensure!(
        pair.ours.devices.len() == pair.theirs.devices.len(),
        "{} has {} devices bound to vfio-pci, and {} of the host were named: they are compared one by one",
        path.display(),
        pair.ours.devices.len(),
        pair.theirs.devices.len()
    );
    let differences = match differ.scripts.is_empty() {
        true => random(&pair, differ)?,
        false => scripted(&pair, differ)?,
    };
    ensure!(differences == 0, "{differences} sequences are answered differently");
    system::checked(&pair.machine, print("no difference\n"))
}

/// A machine, and the host's kernel beside it.
struct Pair {
    machine: Machine,
    ours: Target,
    theirs: Target,
    arena: Arena,
}

impl Pair {
    fn both(&self, sequence: &Sequence) -> Result<Option<Difference>, differ::Harmful> {
        let ours = play(&self.machine, &self.ours, &self.arena, sequence)?;
        let theirs = play(&Linux, &self.theirs, &self.arena, sequence)?;
        Ok(compare(&ours, &theirs))
    }

    /// Prints the shortest sequence with which a difference stays, as a script.
    fn explain(&self, title: &str, sequence: &Sequence) -> Result<()> {
        let (short, difference) = shrink(sequence, |sequence| self.both(sequence))?;
        let Some(Difference { left, right, .. }) = difference else {
            return print(&format!("# {title}: a difference that does not show again\n{sequence}\n"));
        };
        print(&format!("# {title}\n{short}# machine: {left}\n# kernel:  {right}\n\n"))
    }
}

fn scripted(pair: &Pair, differ: &Differ) -> Result<usize> {
    let mut differences = 0;
    for path in &differ.scripts {
        let sequence = read(path)?;
        if pair.both(&sequence)?.is_some() {
            differences += 1;
            pair.explain(&path.display().to_string(), &sequence)?;
        }
    }
    Ok(differences)
}

fn random(pair: &Pair, differ: &Differ) -> Result<usize> {
    let stop = StopFlag::install()?;
    let bar = progress::steps(differ.sequences);
    let unused = pair.machine.usage();
    let (mut differences, mut calls, mut succeeded) = (0, 0, 0);
    for seed in (differ.seed..).take(usize::try_from(differ.sequences)?) {
        stop.check()?;
        let (sequence, ours) = draw(&pair.machine, &pair.ours, &pair.arena, seed, differ.calls);
        let left_open = pair.machine.usage();
        ensure!(
            left_open == unused,
            "seed {seed} left something open on the machine: {left_open:?}\n{sequence}"
        );
        let theirs = play(&Linux, &pair.theirs, &pair.arena, &sequence)?;
        calls += sequence.len();
        succeeded += theirs.iter().filter(|outcome| !outcome.is_refusal()).count();
        if compare(&ours, &theirs).is_some() {
            differences += 1;
            bar.suspend(|| pair.explain(&format!("seed {seed}"), &sequence))?;
            if differences >= differ.most {
                bail!("{differences} sequences are answered differently; there may be more (--most)");
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    complain(&format!(
        "{} sequences, {calls} calls, of which the kernel granted {succeeded}",
        differ.sequences
    ));
    Ok(differences)
}
