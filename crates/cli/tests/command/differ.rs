//! `ioasis replay`, `ioasis differ`

use crate::common::*;

const MACHINE: &str = "[[device]]\naddress = \"0000:00:03.0\"\nmodel = \"edu\"\n";

fn replay(machine: &Machine, script: &str) -> std::process::Command {
    std::fs::write(machine.path("script.txt"), script).unwrap();
    let mut command = ioasis();
    command.current_dir(machine.folder.path()).args(["--machine", "machine.toml", "replay", "script.txt"]);
    command
}

#[test]
fn a_script_is_played_with_what_came_of_each_call() {
    let machine = Machine::file(MACHINE);
    let script = "# ids count from 1
        f0 = open iommufd rw
        f1 = open device:0 rw
        ioctl f1 VFIO_DEVICE_BIND_IOMMUFD iommufd=f0
        aside ioctl f0 IOMMU_IOAS_ALLOC
        ioctl f0 IOMMU_IOAS_MAP flags=0x6 ioas_id=0x2 user_va=buffer+0x1000 length=0x1001
        ioctl f1 VFIO_DEVICE_ATTACH_IOMMUFD_PT pt_id=0x2
        ioctl f0 IOMMU_IOAS_NOIOMMU_GET_PA ioas_id=0x2 iova=0x9000 length=0x1000
        read f1 0x70000000000 4
        close f7";
    let outcome = succeed(&mut replay(&machine, script));
    let text = outcome.text();
    for part in [
        "ioctl f1 VFIO_DEVICE_BIND_IOMMUFD iommufd=f0\n    0 out_devid=0x1\n",
        "aside ioctl f0 IOMMU_IOAS_ALLOC\n    0 out_ioas_id=0x2\n",
        "ATTACH_IOMMUFD_PT pt_id=0x2\n    EADDRINUSE [attach.alignment]\n",
        "length=0x1000\n    ENOENT [get-pa.unmapped]\n",
        "read f1 0x70000000000 4\n    4 3412e811\n",
        "close f7\n    EBADF\n",
        "KiB left pinned: 0\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn bad_input_is_named() {
    let machine = Machine::file(MACHINE);
    let fails = |command: &mut std::process::Command, part: &str| {
        let error = fail(command);
        assert!(error.contains(part), "{part} is not in {error}");
    };
    fails(&mut replay(&machine, "fly f0"), "script.txt is no script of calls: line 1: fly is no call");
    fails(
        ioasis().args(["replay", "/nonexistent", "--device", "0000:99:00.0"]),
        for_root("there is no PCI device"),
    );
    fails(ioasis().arg("differ"), "name its file with --machine");
    let mut alone = ioasis();
    alone.current_dir(machine.folder.path()).args(["--machine", "machine.toml", "differ"]);
    fails(&mut alone, "--device ADDRESS asks the host's kernel");
}
