//! Each rule of the catalogue is broken by some row, or else here, and is the one that the refusal names.

use std::collections::BTreeSet;

use conformance::{Verdict, run};
use machine::LayoutKind;
use subsystem::Refusal;
use subsystem::rules::{group, iommufd, vfio};

use crate::{
    dma_buf_rules, emulated_rules, group_rules, iommu_rules, iommufd_rules, machine, sriov_rules, vfio_rules,
};

/// A rule, and a call that must break it.
pub(crate) type Broken = (Refusal, sys::Result<u32>);

#[test]
fn iommufd_rules_are_named() {
    check(iommufd_rules::broken());
    check(iommu_rules::broken());
}

#[test]
fn every_iommufd_rule_is_exercised() {
    let mut elsewhere = iommufd_rules::broken();
    elsewhere.extend(iommu_rules::broken());
    elsewhere.extend(dma_buf_rules::broken());
    elsewhere.extend(emulated_rules::broken());
    assert_exercised(iommufd::ALL, &elsewhere, &[], iommufd_rules::OUT_OF_REACH);
}

#[test]
fn vfio_rules_are_named() {
    check(vfio_rules::broken());
}

#[test]
fn every_vfio_rule_is_exercised() {
    let mut elsewhere = vfio_rules::broken();
    elsewhere.extend(group_rules::broken());
    elsewhere.extend(dma_buf_rules::broken());
    elsewhere.extend(emulated_rules::broken());
    elsewhere.extend(sriov_rules::broken());
    assert_exercised(vfio::ALL, &elsewhere, vfio_rules::UNNAMED, vfio_rules::OUT_OF_REACH);
}

#[test]
fn group_rules_are_named() {
    check(group_rules::broken());
}

#[test]
fn dma_buf_rules_are_named() {
    check(dma_buf_rules::broken());
}

#[test]
fn sriov_rules_are_named() {
    check(sriov_rules::broken());
}

#[test]
fn emulated_rules_are_named() {
    check(emulated_rules::broken());
}

#[test]
fn every_group_rule_is_exercised() {
    assert_exercised(group::ALL, &group_rules::broken(), &[], group_rules::OUT_OF_REACH);
}

fn check(broken: Vec<Broken>) {
    for (rule, answer) in broken {
        let rule = rule.rule();
        let error = answer.expect_err(rule.name);
        assert_eq!(error.rule().map(|rule| rule.name), Some(rule.name), "{error}");
        assert_eq!(error.errno(), rule.errno, "{error}");
    }
}

/// Rules that the rows break, or a list of further calls. Where the refusal does not say which rule it was, the row that
/// breaks it is given; rules that no call can break are told apart with the reason.
fn assert_exercised(
    all: &[Refusal],
    further: &[Broken],
    unnamed: &[(Refusal, &str)],
    out_of_reach: &[(Refusal, &str)],
) {
    let (machine, target) = machine(LayoutKind::Scattered);
    let rows = run(&machine, &target, |_| true);
    let mut exercised: BTreeSet<&str> = rows.iter().filter_map(|report| report.rule).collect();
    exercised.extend(further.iter().map(|(rule, _)| rule.rule().name));
    for (rule, id) in unnamed {
        let row = rows.iter().find(|report| report.row.id == *id).expect(id);
        assert_eq!(row.verdict, Verdict::Pass, "{}", row.row);
        exercised.insert(rule.rule().name);
    }
    let unreachable: BTreeSet<&str> = out_of_reach.iter().map(|(rule, _)| rule.rule().name).collect();
    let missing: Vec<&str> = all
        .iter()
        .map(|refusal| refusal.rule().name)
        .filter(|name| !exercised.contains(name) && !unreachable.contains(name))
        .collect();
    assert!(missing.is_empty(), "no test breaks these rules: {missing:#?}");
    let reached: Vec<_> = unreachable.intersection(&exercised).collect();
    assert!(reached.is_empty(), "these rules are not out of reach: {reached:?}");
}
