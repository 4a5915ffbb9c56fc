//! Running cases.

use std::collections::BTreeMap;
use std::path::Path;

use sys::Suite;

use crate::fixture::{Fixture, Target};
use crate::outcome::{Got, Outcome, Stop, Verdict, Way};
use crate::row::{Row, rows};

/// A test that asks one row of a system.
pub struct Case<S: Suite> {
    /// The row's id.
    pub id: &'static str,
    /// Whether it needs devices of both kinds, with an IOMMU and without.
    pub(crate) mixed: bool,
    pub(crate) ask: fn(&mut Fixture<S>) -> Outcome,
}

/// What came of one row.
#[derive(Clone, Debug)]
pub struct Report {
    /// The row.
    pub row: Row,
    /// How the system stands to it.
    pub verdict: Verdict,
    /// The rule that the system named, if it refused and names rules.
    pub rule: Option<&'static str>,
    /// What the system did, in words, if it came to that.
    pub got: Option<String>,
}

/// All cases there are.
#[must_use]
pub fn cases<S: Suite>() -> Vec<Case<S>> {
    crate::cases::all()
}

/// Asks a system every row that there is a case for and that `wanted` picks, each from a fresh start.
pub fn run<S: Suite>(sys: &S, target: &Target, wanted: impl Fn(&Row) -> bool) -> Vec<Report> {
    let rows: BTreeMap<&str, Row> = rows().into_iter().map(|row| (row.id, row)).collect();
    let mut reports = Vec::new();
    for case in cases::<S>() {
        let Some(row) = rows.get(case.id).filter(|row| wanted(row)) else { continue };
        let devices = if case.mixed { Ok(target.clone()) } else { devices_of(row, sys, target) };
        let outcome = devices.and_then(|target| (case.ask)(&mut Fixture::new(sys, &target)));
        let rule = match &outcome {
            Ok(Got::Answer(_, rule)) => rule.map(|rule| rule.name),
            _ => None,
        };
        let got = outcome.as_ref().ok().map(Got::to_string);
        reports.push(Report { row: *row, verdict: Verdict::of(row, &outcome), rule, got });
    }
    reports
}

/// The devices that a row speaks of: those without an IOMMU, those with one, or all.
fn devices_of(row: &Row, sys: &impl Suite, target: &Target) -> Way<Target> {
    let (behind_iommu, others) = if row.is_of("noiommu") {
        (false, "is behind an IOMMU")
    } else if row.is_of("iommu") {
        (true, "is without an IOMMU")
    } else {
        return Ok(target.clone());
    };
    let link = |address: &String| Path::new("/sys/bus/pci/devices").join(address).join("iommu");
    let devices = target.devices.iter().filter(|address| sys.stat(&link(address)).is_ok() == behind_iommu);
    let devices: Vec<String> = devices.cloned().collect();
    if devices.is_empty() {
        return Err(Stop::NotApplicable(format!("every device that was named {others}")));
    }
    Ok(Target { devices })
}
