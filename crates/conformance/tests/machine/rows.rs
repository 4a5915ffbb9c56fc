//! Each row has a case, and each case finds the machine as its row says.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{Report, Row, Verdict, cases, rows, run};
use machine::Machine;
use machine::ram::LayoutKind;

use crate::machine;

/// The rows that cannot be asked of an embedded machine, and what its reason contains.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("B-017", "behind an IOMMU"),
    ("B-166", "can be added"),
    ("B-546", "does not export dma-bufs"),
    ("B-553", "older than 7.3"),
    ("B-555", "built without IOMMUFD_VFIO_CONTAINER"),
    // Seen in `order`.
    ("B-588", "from the device's side"),
    ("B-593", "switched off at boot"),
    ("B-594", "behind an IOMMU"),
    ("B-620", "behind an IOMMU"),
    ("B-698", "does not export dma-bufs"),
    // Seen in `order`.
    ("B-703", "from the device's side"),
];

fn in_slice(row: &Row) -> bool {
    row.slice == 1
}

#[test]
fn every_row_of_the_slice_has_one_case() {
    let rows = rows();
    let mut cases_of: BTreeMap<&str, u32> = rows.iter().map(|row| (row.id, 0)).collect();
    for case in cases::<Machine>() {
        *cases_of.get_mut(case.id).unwrap_or_else(|| panic!("{} is no row", case.id)) += 1;
    }
    let without: Vec<_> =
        rows.iter().filter(|row| in_slice(row) && cases_of[row.id] == 0).map(|row| row.id).collect();
    let twice: Vec<_> = cases_of.iter().filter(|(_, cases)| **cases > 1).collect();
    assert!(
        without.is_empty() && twice.is_empty(),
        "rows without a case: {without:?}; with several: {twice:?}"
    );
}

#[test]
fn contiguous_memory() {
    behaves(LayoutKind::Contiguous);
}

#[test]
fn memory_of_huge_pages() {
    behaves(LayoutKind::Hugepage);
}

#[test]
fn scattered_memory() {
    behaves(LayoutKind::Scattered);
}

fn behaves(layout: LayoutKind) {
    let (machine, target) = machine(layout);
    let unused = machine.usage();
    // Those of later slices that hold already are asked too.
    let reports = run(&machine, &target, |_| true);
    let failures: Vec<String> = reports.iter().filter_map(failure).collect();
    assert!(
        failures.is_empty(),
        "{} of {} rows failed:\n{}",
        failures.len(),
        reports.len(),
        failures.join("\n")
    );
    assert_eq!(machine.usage(), unused, "the cases have closed what they opened");
    assert_eq!(machine.findings(), [], "no device reached what it was not entitled to");

    let expected: BTreeSet<&str> = NOT_APPLICABLE.iter().map(|(id, _)| *id).collect();
    let not_asked: BTreeSet<&str> =
        reports.iter().filter(|report| reason(report).is_some()).map(|r| r.row.id).collect();
    assert_eq!(not_asked, expected, "the rows that cannot be asked of a machine");
}

/// What is wrong with a row, as a line to read.
fn failure(report: &Report) -> Option<String> {
    let Report { row, verdict, rule } = report;
    match verdict {
        Verdict::Pass => None,
        Verdict::Fail { expected, got } => {
            let rule = rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
            Some(format!("{row}\n    expected {expected}\n    got      {got}{rule}"))
        }
        Verdict::NotApplicable(reason) => {
            let known = NOT_APPLICABLE.iter().any(|(id, part)| *id == row.id && reason.contains(part));
            (!known).then(|| format!("{row}\n    not applicable: {reason}"))
        }
    }
}

fn reason(report: &Report) -> Option<&str> {
    match &report.verdict {
        Verdict::NotApplicable(reason) => Some(reason),
        Verdict::Pass | Verdict::Fail { .. } => None,
    }
}
