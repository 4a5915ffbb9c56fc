//! Running cases.

use std::collections::BTreeMap;

use sys::Suite;

use crate::case::Case;
use crate::fixture::{Fixture, Target};
use crate::outcome::{Got, Outcome, Verdict, Way};
use crate::row::{Mode, Row, rows};

/// What came of one row in one of its modes.
#[derive(Clone, Debug)]
pub struct Report {
    /// The row.
    pub row: Row,
    /// What it was asked with.
    pub mode: Mode,
    /// How the system stands to it.
    pub verdict: Verdict,
    /// The rule that the system named, if it refused and names rules.
    pub rule: Option<&'static str>,
    /// What the system did, in words, if it came to that.
    pub got: Option<String>,
}

impl Report {
    fn new(row: Row, mode: Mode, outcome: &Outcome) -> Self {
        let rule = match outcome {
            Ok(Got::Answer(_, rule)) => rule.map(|rule| rule.name),
            _ => None,
        };
        let got = outcome.as_ref().ok().map(Got::to_string);
        Report { row, mode, verdict: Verdict::of(&row, outcome), rule, got }
    }
}

/// All cases there are.
#[must_use]
pub fn cases<S: Suite>() -> Vec<Case<S>> {
    crate::cases::all()
}

/// Asks a system every row that there is a case for and that `wanted` picks, in each of its modes, each from a fresh start.
pub fn run<S: Suite>(sys: &S, target: &Target, wanted: impl Fn(&Row) -> bool) -> Vec<Report> {
    let rows: BTreeMap<&str, Row> = rows().into_iter().map(|row| (row.id, row)).collect();
    let mut reports = Vec::new();
    for case in cases::<S>() {
        let Some(row) = rows.get(case.id) else { continue };
        for &mode in row.modes {
            // Asked each time: whoever wants to stop may say so between two.
            if wanted(row) {
                let outcome = devices_of(mode, sys, target)
                    .and_then(|target| (case.ask)(&mut Fixture::new(sys, &target)));
                reports.push(Report::new(*row, mode, &outcome));
            }
        }
    }
    reports
}

/// The devices that a mode is asked with.
fn devices_of(mode: Mode, sys: &impl Suite, target: &Target) -> Way<Target> {
    let f = Fixture::new(sys, target);
    let (noiommu, iommu) = match mode {
        Mode::Iommufd => return Ok(target.clone()),
        Mode::Noiommu | Mode::NoiommuGroup => (true, false),
        Mode::Iommu | Mode::IommuGroup => (false, true),
        Mode::Mixed => (true, true),
    };
    if noiommu {
        f.noiommu_address()?;
    }
    if iommu {
        f.iommu_address()?;
    }
    let mut devices = Vec::new();
    for address in &target.devices {
        if if f.is_noiommu(address)? { noiommu } else { iommu } {
            devices.push(address.clone());
        }
    }
    Ok(Target { devices })
}
