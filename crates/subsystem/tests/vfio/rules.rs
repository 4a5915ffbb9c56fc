//! The catalogue: each rule has one name, and some test breaks it.

use std::fs;
use std::path::Path;

use subsystem::rules::{catalogue, group, type1, vfio};

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = catalogue().map(|rule| rule.name).collect();
    names.sort_unstable();
    let unique = names.len();
    names.dedup();
    assert_eq!(names.len(), unique);
}

#[test]
fn every_rule_is_broken_by_a_test() {
    // It would take 2^20 devices.
    const NOT_TESTED: [&str; 1] = ["probe.no-index"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vfio");
    let sources: String = fs::read_dir(folder)
        .expect("this folder")
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("a source file"))
        .collect();
    for rule in vfio::ALL.iter().chain(group::ALL).chain(type1::ALL).map(|refusal| refusal.rule()) {
        let tested = sources.contains(&format!("\"{}\"", rule.name));
        assert!(tested, "no test breaks {}: {}", rule.name, rule.sentence);
    }
    assert!(NOT_TESTED.iter().all(|name| catalogue().any(|rule| rule.name == *name)));
}
