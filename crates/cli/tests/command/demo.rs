//! `ioasis demo`

use crate::common::*;

#[test]
fn it_tells_its_steps_and_a_verdict() {
    let outcome = succeed(ioasis().arg("demo"));
    let text = outcome.text();
    for call in [
        "VFIO_DEVICE_BIND_IOMMUFD",
        "IOMMU_IOAS_ALLOC",
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        "VFIO_DEVICE_SET_IRQS",
        "IOMMU_IOAS_MAP",
        "IOMMU_IOAS_NOIOMMU_GET_PA",
        "IOMMU_IOAS_UNMAP",
        "VFIO_DEVICE_DETACH_IOMMUFD_PT",
        "IOMMU_DESTROY",
        "/dev/vfio/devices/noiommu-vfio0",
        "every byte was right",
        "random reads of 4 KiB per second",
    ] {
        assert!(text.contains(call), "{call} is missing:\n{text}");
    }
    assert!(text.lines().count() < 30, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn it_tells_the_same_to_programs() {
    let report = succeed(ioasis().args(["demo", "--json"])).json();
    assert_eq!(report["verified"], true);
    assert_eq!(report["mode"], "iommufd-noiommu");
    assert_eq!(report["bytes"], 16 << 20);
    // Two buffers of 4096 pages each, hardly two of which are neighbours.
    let segments = report["segments"].as_u64().unwrap();
    assert!((8000..=8192).contains(&segments), "{segments}");
    assert!(report["iops"].as_f64().unwrap() > 0.0);
    assert!((10_u64 << 20..200 << 20).contains(&report["peak_memory"].as_u64().unwrap()), "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps[0]["call"], "open");
    assert_eq!(steps[0]["object"], "/dev/vfio/devices/noiommu-vfio0");
    assert!(steps.iter().all(|step| step["errno"].is_null() && step["microseconds"].is_f64()));
    let asked: u64 = steps
        .iter()
        .filter(|step| step["call"] == "IOMMU_IOAS_NOIOMMU_GET_PA")
        .map(|step| step["times"].as_u64().unwrap())
        .sum();
    assert!(asked > segments, "{asked}");
}

#[test]
fn a_machine_of_the_users_is_left_alone() {
    let before = pattern(32 << 20);
    let machine = Machine::with_image(&before);
    let error = fail(ioasis().arg("--machine").arg(machine.path("machine.toml")).arg("demo"));
    let other = "or name devices: --nvme ADDRESS --edu ADDRESS --overwrite";
    assert_eq!(error, format!("demo uses a machine of its own: run it without --machine, {other}"));
    let named = ["--nvme", ADDRESS, "--edu", "0000:02:00.0"];
    let outcome = run(ioasis().arg("--machine").arg(machine.path("machine.toml")).arg("demo").args(named));
    assert_eq!(outcome.status.code(), Some(2));
    assert!(outcome.stderr.contains("--overwrite"), "{}", outcome.stderr);
    assert!(read(&machine.path("disk.img")) == before);
    let error = fail(ioasis().args(["--allow-noiommu", "demo"]));
    assert_eq!(error, format!("demo uses a machine of its own: run it without --allow-noiommu, {other}"));
}

#[test]
fn devices_that_are_named_are_driven() {
    let nvme =
        |size: &str| format!("[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"nvme\"\nsize = \"{size}\"\n");
    let edu = "[[device]]\naddress = \"0000:02:00.0\"\nmodel = \"edu\"\n";
    let demo = |machine: &Machine, edu: &str| {
        let mut command = ioasis();
        command
            .arg("--machine")
            .arg(machine.path("machine.toml"))
            .args(["demo", "--json", "--nvme", ADDRESS]);
        run(command.args(["--edu", edu, "--overwrite"]))
    };
    let machine = Machine::file(&format!("{}{edu}", nvme("32MiB")));
    let outcome = demo(&machine, "0000:02:00.0");
    assert_eq!(outcome.stderr, "the first 16.00 MiB of 0000:01:00.0 are being overwritten\n");
    let report = outcome.json();
    assert_eq!((&report["verified"], &report["passed_over"][0]["mode"]), (&true.into(), &"iommufd".into()));
    assert_eq!(
        (&report["interrupts"]["nvme"], &report["interrupts"]["edu"]),
        (&"MSI-X".into(), &"MSI".into())
    );

    let outcome = demo(&machine, ADDRESS);
    assert!(
        outcome.stderr.contains("0000:01:00.0 is no edu device: its vendor and device IDs are"),
        "{}",
        outcome.stderr
    );
    let small = Machine::file(&format!("{}{edu}", nvme("1MiB")));
    let outcome = demo(&small, "0000:02:00.0");
    assert!(outcome.stderr.contains("the namespace of 0000:01:00.0 is too small"), "{}", outcome.stderr);
}

#[test]
fn it_takes_the_mode_that_is_asked_for() {
    let report = succeed(ioasis().args(["demo", "--json", "--mode", "iommufd-noiommu"])).json();
    assert_eq!(report["mode"], "iommufd-noiommu");
    let error = fail(ioasis().args(["demo", "--mode", "group"]));
    assert!(error.contains("group"), "{error}");
}
