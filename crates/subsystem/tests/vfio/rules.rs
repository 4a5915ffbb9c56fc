//! The catalogue: each rule has one name, and some test breaks it.

use std::fs;
use std::path::Path;

use subsystem::rules::{catalogue, group, guest, selftest, type1, vfio};

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
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files =
        |name| fs::read_dir(tests.join(name)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let sources: String = ["vfio", "vfio/guest", "iommufd"]
        .into_iter()
        .flat_map(files)
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).expect("a source file"))
        .collect();
    let all = [vfio::ALL, group::ALL, guest::ALL, type1::ALL, selftest::ALL];
    for rule in all.into_iter().flatten().map(|refusal| refusal.rule()) {
        let tested = sources.contains(&format!("\"{}\"", rule.name));
        assert!(tested, "no test breaks {}: {}", rule.name, rule.sentence);
    }
    assert!(NOT_TESTED.iter().all(|name| catalogue().any(|rule| rule.name == *name)));
}
