//! `ioasis kconfig`

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::common::*;

/// A configuration as distributions built kernels before.
const BEFORE: &str = "# Linux/x86 6.12.57 Kernel Configuration\nCONFIG_PCI=y\nCONFIG_VFIO=m\nCONFIG_VFIO_GROUP=y\n\
    CONFIG_VFIO_CONTAINER=y\nCONFIG_VFIO_PCI=m\n# CONFIG_IOMMUFD is not set\n# CONFIG_VFIO_NOIOMMU is not set\n";

fn explained(arguments: &[&str]) -> String {
    succeed(ioasis().arg("kconfig").args(arguments)).text().to_owned()
}

#[test]
fn the_matrix() {
    let text = explained(&[]);
    let mut lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    for expected in [
        "1 y y n n yes /dev/vfio/noiommu-0",
        "2 y n n n no nothing",
        "3 y y y n yes /dev/vfio/noiommu-0, /dev/vfio/devices/noiommu-vfio0, GET_PA",
        "4 y n y n no nothing",
        "5 n - y n yes /dev/vfio/devices/noiommu-vfio0, GET_PA",
        "6 n - n n - nothing",
        "1 y y n y yes /dev/vfio/noiommu-0",
        "3 y y y y yes /dev/vfio/noiommu-0",
        "5 n - y y no nothing",
    ] {
        assert_eq!(lines.next().as_deref(), Some(expected));
    }
    assert!(
        text.contains("6: CONFIG_VFIO_DEVICE_CDEV cannot be n: VFIO selects it if !VFIO_GROUP"),
        "{text}"
    );
}

#[test]
fn a_combination_is_explained() {
    let text = explained(&["VFIO_DEVICE_CDEV=n"]);
    assert!(text.contains("has: /dev/vfio/noiommu-0\n"), "{text}");
    assert!(text.ends_with("under IOMMUFD: CONFIG_VFIO_DEVICE_CDEV=y\n"), "{text}");
    let text = explained(&["VFIO_GROUP=n"]);
    assert!(
        text.contains("has: /dev/vfio/devices/noiommu-vfio0, GET_PA\n") && text.ends_with(": as it is\n")
    );
    let text = explained(&["CONFIG_GENERIC_ATOMIC64=y"]);
    assert!(text.contains("under IOMMUFD: no configuration with CONFIG_GENERIC_ATOMIC64=y"), "{text}");
}

#[test]
fn what_kconfig_refuses_is_an_error_with_its_reason() {
    let error =
        fail(ioasis().args(["kconfig", "VFIO_NOIOMMU=y", "VFIO_CONTAINER=n", "IOMMUFD_VFIO_CONTAINER=n"]));
    assert!(
        error.contains("it depends on !VFIO_GROUP || VFIO_CONTAINER || IOMMUFD_VFIO_CONTAINER"),
        "{error}"
    );
    for (bad, reason) in [
        ("VFIO_GROUP", "is no setting"),
        ("VFIO_GROUP=maybe", "\"y\", \"m\" or \"n\" is needed"),
        ("VFIO_NONSENSE=y", "is none of the options known here: GENERIC_ATOMIC64, "),
    ] {
        let error = fail(ioasis().args(["kconfig", bad]));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_configuration_is_read_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("config");
    std::fs::write(&plain, BEFORE).unwrap();
    let compressed = folder.path().join("config.gz");
    let mut encoder = GzEncoder::new(std::fs::File::create(&compressed).unwrap(), Compression::default());
    encoder.write_all(BEFORE.as_bytes()).unwrap();
    encoder.finish().unwrap();
    for path in [&plain, &compressed] {
        let text = explained(&["--config", path.to_str().unwrap()]);
        assert!(text.contains("Linux 6.12\n") && text.contains("has: nothing\n"), "{text}");
        let needs = "Linux 7.3 or newer, this is 6.12, CONFIG_IOMMUFD=y, CONFIG_VFIO_DEVICE_CDEV=y, CONFIG_VFIO_NOIOMMU=y\n";
        assert!(text.ends_with(needs), "{text}");
    }
    let text = explained(&["--config", plain.to_str().unwrap(), "VFIO_NOIOMMU=y"]);
    assert!(text.contains("has: /dev/vfio/noiommu-0\n"), "{text}");
}

#[test]
fn a_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, reason) in [
        ("text", Some(&b"hello"[..]), "is no configuration of a kernel"),
        ("broken.gz", Some(&[0x1f, 0x8b, 8, 0][..]), "cannot read the configuration"),
        ("absent", None, "cannot read the configuration"),
    ] {
        let path = folder.path().join(name);
        content.into_iter().for_each(|content| std::fs::write(&path, content).unwrap());
        let error = fail(ioasis().arg("kconfig").arg("--config").arg(&path));
        assert!(error.contains(reason) && error.contains(name), "{error}");
    }
}

#[test]
fn a_machine_file_is_explained() {
    let machine = Machine::file("[kconfig]\nCONFIG_VFIO_GROUP = \"n\"\n");
    let outcome =
        succeed(ioasis().current_dir(machine.folder.path()).args(["--machine", "machine.toml", "kconfig"]));
    assert!(outcome.text().contains("has: /dev/vfio/devices/noiommu-vfio0, GET_PA\n"));
}
