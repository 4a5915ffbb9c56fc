//! `ioasis bench`

use serde_json::Value;

use crate::common::*;

/// A machine whose memory is too small for the largest sizes.
const MACHINE: &str = "
    [memory]
    layout = \"contiguous\"
    size = \"256MiB\"
    [[device]]
    address = \"0000:00:03.0\"
    model = \"edu\"
";

fn bench(machine: &Machine, more: &[&str]) -> std::process::Command {
    let mut command = ioasis();
    command.current_dir(machine.folder.path()).args(["--machine", "machine.toml", "bench"]).args(more);
    command
}

/// Whether a line has a number; else it has a reason.
fn is_measured(line: &Value) -> bool {
    let (median, samples) = (line["median_ns"].as_u64(), line["samples"].as_u64().unwrap());
    let measured = median.is_some_and(|median| median > 0) && samples > 0;
    assert_eq!(measured, line["reason"].is_null(), "{line}");
    measured
}

#[test]
fn calls_are_measured_and_what_is_too_large_is_named() {
    let machine = Machine::file(MACHINE);
    for (what, largest) in [("map", "1 GiB"), ("unmap", "1 GiB"), ("get-pa", "512 MiB")] {
        let table = succeed(&mut bench(&machine, &[what, "--json"])).json();
        assert_eq!((&table["bench"], &table["mode"]), (&what.into(), &"iommufd-noiommu".into()));
        let lines = table["results"].as_array().unwrap();
        let names: Vec<_> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
        assert_eq!(names, ["4 KiB", "2 MiB", largest]);
        assert_eq!(lines.iter().map(is_measured).collect::<Vec<_>>(), [true, true, false], "{table}");
        assert!(lines[2]["reason"].as_str().unwrap().contains("cannot allocate"), "{table}");
    }
}

#[test]
fn the_least_that_a_call_takes_needs_no_device() {
    let table = succeed(&mut bench(&Machine::file(""), &["ioctl", "--json"])).json();
    assert!(table["mode"].is_null());
    assert!(is_measured(&table["results"][0]), "{table}");
}

#[test]
fn people_get_a_table() {
    let text = succeed(&mut bench(&Machine::file(MACHINE), &["interrupt"])).text().to_owned();
    for words in ["embedded machine, iommufd-noiommu", "median", "MSI to its waiter", "1000"] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
}

#[test]
fn bad_input_is_named() {
    let error = fail(&mut bench(&Machine::file(""), &["map"]));
    assert!(error.starts_with("the machine has no device that is bound to vfio-pci"), "{error}");
    let error = fail(ioasis().args(["bench", "map"]));
    assert!(error.starts_with("no device was named to measure with: --device ADDRESS"), "{error}");
    let machine = Machine::file(MACHINE);
    let error = fail(&mut bench(&machine, &["run"]));
    assert!(error.starts_with("`bench run` has a machine of its own"), "{error}");
    let error = fail(&mut bench(&machine, &["ioctl", "--quick"]));
    assert!(error.starts_with("--quick is for `bench run` alone"), "{error}");
    let error = fail(&mut bench(&machine, &["map", "--mode", "group"]));
    assert!(error.contains("group"), "{error}");
}
