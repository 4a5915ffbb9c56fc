//! What came of a run of the suite, as people read it.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use conformance::{Report, Verdict};

use crate::output::table;

/// How many rows of an area, or of all, passed, failed and could not be asked.
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

    fn cells(&self, name: &str) -> [String; 4] {
        [name.to_owned(), self.pass.to_string(), self.fail.to_string(), self.not_applicable.to_string()]
    }
}

/// A table by area, then what failed, then what could not be asked, by reason.
pub(super) fn text(system: &str, reports: &[Report]) -> Result<String> {
    let mut areas: BTreeMap<&str, Count> = BTreeMap::new();
    let mut all = Count::default();
    for Report { row, verdict, .. } in reports {
        areas.entry(row.area).or_default().add(verdict);
        all.add(verdict);
    }
    let mut rows = table();
    rows.set_header(["area", "pass", "fail", "n/a"]);
    for (area, count) in &areas {
        rows.add_row(count.cells(area));
    }
    rows.add_row(all.cells("all"));
    let mut text = format!("{system}\n\n{}\n", rows.trim_fmt());
    failures(&mut text, reports)?;
    reasons(&mut text, reports)?;
    Ok(text)
}

fn failures(text: &mut String, reports: &[Report]) -> Result<()> {
    let mut heading = "\nfailed:\n";
    for Report { row, verdict, rule, .. } in reports {
        let Verdict::Fail { expected, got } = verdict else { continue };
        writeln!(text, "{heading}{row}\n    expected {expected}")?;
        match rule {
            Some(rule) => writeln!(text, "    got      {got} [{rule}]")?,
            None => writeln!(text, "    got      {got}")?,
        }
        heading = "";
    }
    Ok(())
}

fn reasons(text: &mut String, reports: &[Report]) -> Result<()> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Report { row, verdict, .. } in reports {
        if let Verdict::NotApplicable(reason) = verdict {
            reasons.entry(reason).or_default().push(row.id);
        }
    }
    let mut heading = "\nnot applicable:\n";
    for (reason, ids) in reasons {
        writeln!(text, "{heading}{reason}\n    {}", ids.join(" "))?;
        heading = "";
    }
    Ok(())
}
