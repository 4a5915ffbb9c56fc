//! The rows, and what came of a run of them, as people read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};

use anyhow::Result;
use conformance::{Mode, Report, Row, Verdict};

use crate::output::table;

/// How wide a list of ids gets, as a terminal is.
const WIDTH: usize = 80;

/// The rows themselves: in which modes each is asked, what, and what is expected.
pub(super) fn list(rows: &[Row]) -> String {
    let mut lines = table();
    lines.set_header(["row", "area", "modes", "given, and what is done", "expected"]);
    for row in rows {
        let modes: Vec<&str> = row.modes.iter().map(|mode| mode.name()).collect();
        lines.add_row([
            row.id.to_owned(),
            row.area.to_owned(),
            modes.join(" "),
            format!("{}: {}", row.given, row.when),
            format!("{} ({})", row.then, row.expect),
        ]);
    }
    format!("{}\n", lines.trim_fmt())
}

/// How many rows of an area, of a mode, or of all, passed, failed and could not be asked.
#[derive(Clone, Copy, Default)]
struct Count {
    pass: usize,
    fail: usize,
    not_applicable: usize,
}

impl Count {
    fn add(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Fail { .. } => &mut self.fail,
            Verdict::NotApplicable(_) => &mut self.not_applicable,
        } += 1;
    }

    fn all(self) -> usize {
        self.pass + self.fail + self.not_applicable
    }

    fn cells(self, name: &str) -> [String; 4] {
        [name.to_owned(), self.pass.to_string(), self.fail.to_string(), self.not_applicable.to_string()]
    }
}

/// Tables by area and by mode, then what failed, then what could not be asked, by reason.
pub(super) fn text(system: &str, reports: &[Report]) -> Result<String> {
    let areas = counts(reports, |report| report.row.area);
    let modes = counts(reports, |report| report.mode);
    let mut text = format!("{system}\n");
    tally(&mut text, "area", &areas)?;
    tally(&mut text, "mode", &modes)?;
    failures(&mut text, reports)?;
    reasons(&mut text, reports, &modes)?;
    Ok(text)
}

fn counts<K: Ord>(reports: &[Report], key: impl Fn(&Report) -> K) -> BTreeMap<K, Count> {
    let mut counts: BTreeMap<K, Count> = BTreeMap::new();
    for report in reports {
        counts.entry(key(report)).or_default().add(&report.verdict);
    }
    counts
}

/// A table of counts, and their sum.
fn tally<K: Display>(text: &mut String, what: &str, counts: &BTreeMap<K, Count>) -> Result<()> {
    let mut lines = table();
    lines.set_header([what, "pass", "fail", "n/a"]);
    let mut all = Count::default();
    for (name, count) in counts {
        lines.add_row(count.cells(&name.to_string()));
        all.pass += count.pass;
        all.fail += count.fail;
        all.not_applicable += count.not_applicable;
    }
    lines.add_row(all.cells("all"));
    writeln!(text, "\n{}", lines.trim_fmt())?;
    Ok(())
}

fn failures(text: &mut String, reports: &[Report]) -> Result<()> {
    let mut heading = "\nfailed:\n";
    for Report { row, mode, verdict, rule, .. } in reports {
        let Verdict::Fail { expected, got } = verdict else { continue };
        writeln!(text, "{heading}{row}\n    with     {mode}\n    expected {expected}")?;
        match rule {
            Some(rule) => writeln!(text, "    got      {got} [{rule}]")?,
            None => writeln!(text, "    got      {got}")?,
        }
        heading = "";
    }
    Ok(())
}

fn reasons(text: &mut String, reports: &[Report], modes: &BTreeMap<Mode, Count>) -> Result<()> {
    let mut reasons: BTreeMap<&str, BTreeMap<Mode, BTreeSet<&str>>> = BTreeMap::new();
    for Report { row, mode, verdict, .. } in reports {
        if let Verdict::NotApplicable(reason) = verdict {
            reasons.entry(reason).or_default().entry(*mode).or_default().insert(row.id);
        }
    }
    let mut heading = "\nnot applicable:\n";
    for (reason, ids) in reasons {
        writeln!(text, "{heading}{reason}")?;
        for (mode, ids) in ids {
            match ids.len() {
                all if all > 1 && all == modes[&mode].all() => writeln!(text, "    {mode}: all {all} rows")?,
                _ => wrapped(text, mode.name(), &ids)?,
            }
        }
        heading = "";
    }
    Ok(())
}

/// A mode and ids, in as many lines as it takes.
fn wrapped(text: &mut String, mode: &str, ids: &BTreeSet<&str>) -> Result<()> {
    let mut line = format!("    {mode}:");
    for id in ids {
        if line.len() + 1 + id.len() > WIDTH {
            writeln!(text, "{line}")?;
            line = "       ".to_owned();
        }
        line.push(' ');
        line.push_str(id);
    }
    writeln!(text, "{line}")?;
    Ok(())
}
