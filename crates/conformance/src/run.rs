//! Running cases.

use std::collections::BTreeMap;

use sys::Suite;

use crate::fixture::{Fixture, Target};
use crate::outcome::{Got, Outcome, Verdict};
use crate::row::{Row, rows};

/// A test that asks one row of a system.
pub struct Case<S: Suite> {
    /// The row's id.
    pub id: &'static str,
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
        let outcome = (case.ask)(&mut Fixture::new(sys, target));
        let rule = match &outcome {
            Ok(Got::Answer(_, rule)) => *rule,
            _ => None,
        };
        reports.push(Report { row: *row, verdict: Verdict::of(row, &outcome), rule });
    }
    reports
}
