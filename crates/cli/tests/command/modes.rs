//! `--mode`

use crate::common::*;

#[test]
fn the_mode_that_is_asked_for_is_taken() {
    let machine = Machine::with("size = \"1MiB\"");
    let identity = succeed(&mut machine.nvme("identify", &["--mode", "iommufd-noiommu", "--json"])).json();
    assert_eq!(identity["mode"], "iommufd-noiommu");
}

#[test]
fn a_device_is_had_from_its_group() {
    // Physical addresses are shown to the privileged.
    let capabilities = "capabilities = [\"CAP_SYS_RAWIO\", \"CAP_SYS_ADMIN\"]";
    let device = format!("[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"nvme\"\nsize = \"1MiB\"");
    let machine = Machine::file(&format!("{capabilities}\n{device}\n"));
    let [identity, blocks] = [&["identify", "--json"][..], &["read", "--blocks", "8", "-o", "-"]]
        .map(|command| succeed(machine.nvme(command[0], &command[1..]).args(["--mode", "group-noiommu"])));
    assert_eq!(identity.json()["mode"], "group-noiommu");
    assert_eq!(blocks.stdout.len(), 4096);
}

#[test]
fn a_mode_that_is_not_offered_is_an_error() {
    let machine = Machine::with("size = \"1MiB\"");
    for mode in ["iommufd", "group"] {
        let error = fail(&mut machine.nvme("identify", &["--mode", mode]));
        assert!(error.contains(mode), "{error}");
    }
    let outcome = run(&mut machine.nvme("identify", &["--mode", "best"]));
    assert_eq!(outcome.status.code(), Some(2));
    assert!(
        outcome.stderr.contains("iommufd, iommufd-noiommu, group, group-noiommu, uio"),
        "{}",
        outcome.stderr
    );
}
