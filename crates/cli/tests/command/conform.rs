//! `ioasis conform`

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::*;

/// A machine with two devices.
const MACHINE: &str = "
    [memory]
    size = \"2GiB\"
    [[device]]
    address = \"0000:00:03.0\"
    model = \"edu\"
    [[device]]
    address = \"0000:00:04.0\"
    model = \"nvme\"
    size = \"1MiB\"
";

fn conform(machine: &Machine, more: &[&str]) -> std::process::Command {
    let mut command = ioasis();
    command.current_dir(machine.folder.path()).args(["--machine", "machine.toml", "conform"]).args(more);
    command
}

/// A run as JSON, written to a file.
fn results(machine: &Machine, name: &str, results: &Value) {
    let run = json!({ "system": name, "results": results });
    std::fs::write(machine.path(name), run.to_string()).unwrap();
}

fn row(id: &str, status: &str, got: &str) -> Value {
    row_in("noiommu", id, status, got)
}

fn row_in(mode: &str, id: &str, status: &str, got: &str) -> Value {
    let expected = "errno=EINVAL";
    json!({ "id": id, "mode": mode, "status": status, "expected": expected, "got": got, "reason": null })
}

#[test]
fn a_machine_behaves() {
    let machine = Machine::file(MACHINE);
    let outcome = succeed(&mut conform(&machine, &[]));
    let text = outcome.text();
    let line = |area: &str| -> Vec<&str> {
        let line = text.lines().find(|line| line.trim_start().starts_with(area));
        line.unwrap_or_else(|| panic!("{area} is missing:\n{text}")).split_whitespace().collect()
    };
    assert_eq!(line("area"), ["area", "pass", "fail", "n/a"]);
    assert_eq!((line("BIND")[2], line("all")[2]), ("0", "0"));
    assert!(line("all")[1].parse::<u32>().unwrap() > 400, "{text}");
    assert_eq!((line("noiommu")[2], line("iommu")[1]), ("0", "0"));
    // Why rows were not asked, and which.
    assert!(text.contains("\nnot applicable:\n"), "{text}");
    assert!(text.contains("older than 7.3\n    iommufd: B-553\n"), "{text}");
    assert!(text.contains("is without an IOMMU\n    iommu: all 2"), "{text}");
    assert!(text.lines().all(|line| !line.starts_with("    ") || line.len() <= 80), "{text}");
}

#[test]
fn programs_get_one_entry_for_each_row_and_mode() {
    let machine = Machine::file(MACHINE);
    let run = succeed(&mut conform(&machine, &["--filter", "getpa", "--json"])).json();
    assert_eq!(run["system"], "embedded machine");
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 30);
    for entry in results {
        let (expected, got) = (&entry["expected"], &entry["got"]);
        match entry["status"].as_str().unwrap() {
            "pass" => assert!(expected.is_string() && got.is_string(), "{entry}"),
            "n/a" => assert!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{entry}"),
            other => panic!("{other}: {entry}"),
        }
    }
    let keys: BTreeSet<_> =
        results.iter().map(|entry| (entry["id"].as_str(), entry["mode"].as_str())).collect();
    assert_eq!(keys.len(), results.len());
    let unknown_ioas = results.iter().find(|entry| entry["id"] == "B-521").unwrap();
    assert_eq!((&unknown_ioas["status"], &unknown_ioas["got"]), (&json!("pass"), &json!("errno=ENOENT")));
}

#[test]
fn rows_are_listed_without_a_system() {
    let text = succeed(ioasis().args(["conform", "--list"])).text().to_owned();
    assert_eq!(text.lines().count(), 1 + 704);
    let text = succeed(ioasis().args(["conform", "--list", "--filter", "b-521"])).text().to_owned();
    let words =
        |line: usize| text.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0)[..3], ["row", "area", "modes"]);
    assert_eq!(words(1)[..3], ["B-521", "GETPA", "iommufd"]);
    assert!(words(1).contains(&"(errno=ENOENT)") && text.lines().count() == 2, "{text}");
}

#[test]
fn a_row_that_fails_makes_the_run_fail() {
    // Without the capability the calls that need it are refused.
    let machine = Machine::file(&format!("capabilities = []\n{MACHINE}"));
    let outcome = run(&mut conform(&machine, &["--filter", "B-523"]));
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.stderr.starts_with("error: 1 of 1 answers are not as the rows say"),
        "{}",
        outcome.stderr
    );
    let text = outcome.text();
    for words in ["\nfailed:\nB-523 GETPA: given ", "\n    expected errno=", "\n    got      "] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
}

#[test]
fn two_runs_are_held_against_each_other() {
    let machine = Machine::file("");
    let compare = |other: &Value| {
        results(&machine, "A.json", &json!([row("B-1", "pass", "errno=EINVAL"), row("B-2", "n/a", "")]));
        results(&machine, "B.json", other);
        run(ioasis().current_dir(machine.folder.path()).args(["conform", "--compare", "A.json", "B.json"]))
    };
    let same = compare(&json!([row("B-1", "pass", "errno=EINVAL"), row("B-2", "n/a", "")]));
    assert_eq!((same.status.code(), same.text()), (Some(0), "no difference\n"));

    // What one of them was not asked is told, and is no contradiction.
    let more = compare(&json!([row("B-1", "pass", "errno=EINVAL"), row("B-2", "pass", "errno=EINVAL")]));
    assert_eq!(more.status.code(), Some(0));
    assert!(more.text().contains("B-2") && !more.text().contains("B-1 "), "{}", more.text());

    // A row is asked in several modes.
    let modes = compare(&json!([row_in("iommu", "B-1", "pass", "errno=EINVAL")]));
    assert_eq!(modes.status.code(), Some(0));
    assert!(modes.text().contains("2 differences, in 0 of them both were asked"), "{}", modes.text());

    let other = compare(&json!([row("B-1", "fail", "ret=0")]));
    assert_eq!(other.status.code(), Some(1));
    assert!(other.text().contains("FAIL: ret=0, expected errno=EINVAL"), "{}", other.text());
    assert_eq!(other.stderr, "error: 1 rows are answered differently\n");
}

#[test]
fn the_host_is_asked_by_root_alone() {
    use std::os::unix::process::CommandExt as _;
    let mut command = ioasis();
    command.args(["conform", "--device", "0000:00:03.0"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65534);
    }
    assert!(fail(&mut command).ends_with("it has to run as root"));
}

#[test]
fn bad_input_is_named() {
    let empty = Machine::file("[memory]\nsize = \"1GiB\"\n");
    assert!(
        fail(&mut conform(&empty, &[])).starts_with("machine.toml has no device that is bound to vfio-pci")
    );
    let machine = Machine::file(MACHINE);
    std::fs::write(machine.path("text"), "text").unwrap();
    for (more, message) in [
        (&["--filter", "nonsense"][..], "no row of the suite contains \"nonsense\""),
        (
            &["--device", "0000:09:00.0"],
            "no device 0000:09:00.0 bound to vfio-pci; it has 0000:00:03.0 0000:00:04.0",
        ),
        (&["--mode", "iommufd"], "--mode is not for it"),
    ] {
        let error = fail(&mut conform(&machine, more));
        assert!(error.contains(message), "{error}");
    }
    for (more, message) in [
        (&[][..], "--machine FILE asks an embedded machine"),
        (&["--device", "fffe:ff:1f.7"], for_root("there is no PCI device fffe:ff:1f.7")),
        (&["--compare", "none.json", "text"], "cannot read none.json"),
        (&["--compare", "text", "text"], "text is not what `ioasis conform --json` prints"),
    ] {
        let error = fail(ioasis().current_dir(machine.folder.path()).arg("conform").args(more));
        assert!(error.contains(message), "{error}");
    }
}
