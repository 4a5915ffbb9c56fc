//! Each row has a case, and each case finds the machine as its row says.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{Mode, Report, Verdict, cases, rows, run};
use machine::kconfig::Kconfig;
use machine::{Iommu, IommuSpec, LayoutKind, Machine};

use crate::{machine, machine_with};

/// The modes that these machines have devices for.
const MODES: [Mode; 3] = [Mode::Noiommu, Mode::NoiommuGroup, Mode::Iommufd];

/// The rows that cannot be asked of these machines in those modes, and what the reason contains.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    ("B-024", "64-bit atomics"),
    ("B-031", "no user namespaces"),
    ("B-166", "can be added"),
    ("B-548", "does not export dma-bufs"),
    ("B-549", "dma-bufs of memory"),
    ("B-628", "that QEMU emulates"),
    ("B-546", "does not export dma-bufs"),
    ("B-553", "older than 7.3"),
    // Seen in `order`.
    ("B-588", "from the device's side"),
    ("B-593", "switched off at boot"),
    ("B-698", "does not export dma-bufs"),
    // Seen in `order`.
    ("B-703", "from the device's side"),
    ("B-555", "VFIO itself provides"),
    ("B-656", "with VFIO_NOIOMMU"),
    ("B-660", "VFIO itself provides"),
    // What is asked of other devices and of other kernels.
    ("B-003", "with VFIO_GROUP"),
    ("B-005", "with VFIO_GROUP"),
    ("B-012", "with VFIO_GROUP"),
    ("B-023", "with VFIO_NOIOMMU"),
    ("B-200", "does not export dma-bufs"),
    ("B-201", "does not export dma-bufs"),
    ("B-202", "does not export dma-bufs"),
    ("B-203", "does not export dma-bufs"),
    ("B-544", "does not export dma-bufs"),
    ("B-545", "does not export dma-bufs"),
    ("B-547", "does not export dma-bufs"),
    ("B-551", "with IOMMUFD_NOIOMMU"),
    ("B-552", "with IOMMUFD_NOIOMMU"),
    ("B-694", "does not export dma-bufs"),
    ("B-695", "does not export dma-bufs"),
    ("B-696", "does not export dma-bufs"),
    ("B-697", "does not export dma-bufs"),
    ("B-699", "does not export dma-bufs"),
    ("B-700", "does not export dma-bufs"),
];

/// The rows that cannot be asked of a machine whose devices are all behind an IOMMU, and what the reason contains.
const NOT_APPLICABLE_BEHIND: &[(&str, &str)] = &[
    // Seen in `iommu_rules`.
    ("B-078", "isolates message-signalled interrupts"),
    ("B-608", "isolates message-signalled interrupts"),
];

/// Why nothing is asked in the other modes.
const WITHOUT_IOMMU: &str = "every device that was named is without an IOMMU";

#[test]
fn every_row_has_one_case() {
    let rows = rows();
    let mut cases_of: BTreeMap<&str, u32> = rows.iter().map(|row| (row.id, 0)).collect();
    for case in cases::<Machine>() {
        *cases_of.get_mut(case.id).unwrap_or_else(|| panic!("{} is no row", case.id)) += 1;
    }
    cases_of.retain(|_, cases| *cases != 1);
    assert!(cases_of.is_empty(), "rows with no case or with several: {cases_of:?}");
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

/// Devices behind an IOMMU: the rows for them, and those for whatever device.
#[test]
fn devices_behind_an_iommu() {
    let iommu = Iommu::Translating(IommuSpec::default());
    let (machine, target) = machine_with(LayoutKind::Scattered, Kconfig::FULL, iommu, &[]);
    let unused = machine.usage();
    let modes = [Mode::Iommu, Mode::IommuGroup, Mode::Iommufd];
    let reports = run(&machine, &target, |_| true);
    let reports = reports.iter().filter(|report| modes.contains(&report.mode));
    assert_answered(reports, &[NOT_APPLICABLE, NOT_APPLICABLE_BEHIND].concat());
    assert_eq!(machine.usage(), unused, "the cases have closed what they opened");
    assert_eq!(machine.findings(), [], "no device reached what it was not entitled to");
}

/// Devices of both kinds: the rows for both at once, and none that a mixed machine breaks.
#[test]
fn devices_of_both_kinds() {
    let iommu = Iommu::Translating(IommuSpec::default());
    let (machine, target) =
        machine_with(LayoutKind::Scattered, Kconfig::FULL, iommu, &["0000:00:03.0", "0000:00:04.0"]);
    let unused = machine.usage();
    let reports = run(&machine, &target, |_| true);
    assert_answered(reports.iter().filter(|report| report.mode == Mode::Mixed), &[]);
    let failed = reports.iter().filter(|report| matches!(report.verdict, Verdict::Fail { .. }));
    assert_eq!(failed.filter_map(failure).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(machine.usage(), unused, "the cases have closed what they opened");
}

/// Each row passes, or is among those that cannot be asked, for that reason.
fn assert_answered<'a>(reports: impl Iterator<Item = &'a Report>, not_applicable: &[(&str, &str)]) {
    let wrong: Vec<String> = reports
        .filter(|report| {
            let known = |reason: &str| {
                not_applicable.iter().any(|(id, part)| *id == report.row.id && reason.contains(part))
            };
            !reason(report).is_some_and(known)
        })
        .filter_map(failure)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn behaves(layout: LayoutKind) {
    let (machine, target) = machine(layout);
    let unused = machine.usage();
    // Those of later slices that hold already are asked too.
    let (reports, others): (Vec<Report>, Vec<Report>) =
        run(&machine, &target, |_| true).into_iter().partition(|report| MODES.contains(&report.mode));
    assert!(others.iter().all(|report| reason(report) == Some(WITHOUT_IOMMU)), "every device is alike");
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

    let told = reports.iter().filter(|report| reason(report).is_some()).map(|report| report.row.id);
    let not_applicable: BTreeSet<&str> = NOT_APPLICABLE.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        told.collect::<BTreeSet<&str>>(),
        not_applicable,
        "the rows that cannot be asked of a machine"
    );
}

/// What is wrong with a row, as a line to read.
fn failure(report: &Report) -> Option<String> {
    let Report { row, mode, verdict, rule, .. } = report;
    match verdict {
        Verdict::Pass => None,
        Verdict::Fail { expected, got } => {
            let rule = rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
            Some(format!("{row}\n    with     {mode}\n    expected {expected}\n    got      {got}{rule}"))
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
