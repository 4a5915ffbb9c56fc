//! The machine file: what it says, and what is wrong with it.

use std::path::Path;

use machine::DmaMode as Mode;
use machine::LayoutKind;
use machine::{
    CdevName, DeviceSpec, Driver, Iommu, Machine, MachineSpec, ModelSpec, NvmeBacking, Size, SpecError,
    Type1Spec,
};
use proptest::prelude::*;
use sys::Sys;

const COMPLETE: &str = r#"
iommu = "none"
unsafe_noiommu_mode = false
enable_sriov = false
capabilities = ["CAP_SYS_RAWIO"]
dma = "report"
cdev_name = "vfio"
[vfio_iommu_type1]
allow_unsafe_interrupts = true
dma_entry_limit = 9
[memory]
size = "1GiB"
layout = "hugepage"
seed = 9
[[device]]
address = "0000:01:00.0"
model = "nvme"
size = "64MiB"
dma_mask = 40
thread = false
driver = "none"
present = false
[[device]]
address = "0001:02:1f.7"
model = "edu"
driver = "uio_pci_generic"
[limits]
memlock = 65536
"#;

fn refused(text: &str) -> String {
    let spec = text.parse::<MachineSpec>();
    spec.and_then(|spec| Machine::from_spec(spec).map(drop)).expect_err("a refusal").to_string()
}

#[test]
fn every_key_is_taken() {
    let spec: MachineSpec = COMPLETE.parse().unwrap();
    assert_eq!((spec.iommu, spec.unsafe_noiommu_mode, spec.dma), (Iommu::None, false, Mode::Report));
    assert_eq!((spec.cdev_name, &*spec.capabilities), (CdevName::Vfio, &["CAP_SYS_RAWIO".to_string()][..]));
    assert!(!spec.enable_sriov);
    let memory = spec.memory;
    assert_eq!((memory.size, memory.layout, memory.seed), (Size(1 << 30), LayoutKind::Hugepage, 9));
    assert_eq!(spec.limits.memlock, Some(Size(65536)));
    assert_eq!(spec.type1, Type1Spec { allow_unsafe_interrupts: true, dma_entry_limit: 9 });
    let nvme = DeviceSpec {
        address: "0000:01:00.0".parse().unwrap(),
        model: ModelSpec::Nvme(NvmeBacking::Memory(Size(64 << 20))),
        dma_mask: Some(40),
        thread: false,
        driver: Driver::None,
        present: false,
        behind_iommu: true,
        group: None,
        vfs: 0,
    };
    let edu = DeviceSpec::new("0001:02:1f.7".parse().unwrap(), ModelSpec::Edu);
    let edu = DeviceSpec { driver: Driver::Host("uio_pci_generic".into()), ..edu };
    assert_eq!(spec.devices, [nvme, edu]);
}

#[test]
fn an_empty_file_is_a_machine_without_devices() {
    let spec: MachineSpec = "".parse().unwrap();
    assert_eq!(spec, MachineSpec::default());
    assert_eq!(spec.capabilities, ["CAP_SYS_RAWIO", "CAP_IPC_LOCK"]);
    assert!(Machine::from_spec(spec).is_ok());
}

#[test]
fn each_mistake_is_named() {
    let device = |rest: &str| format!("[[device]]\naddress = \"0000:01:00.0\"\n{rest}");
    for (text, message) in [
        (
            "unsafe_mode = true".into(),
            "line 1: unknown field `unsafe_mode`, expected one of `iommu`, `unsafe_noiommu_mode`, \
             `allow_unsafe_interrupts`, `enable_sriov`, `vfio_iommu_type1`, `capabilities`, `dma`, `cdev_name`, `kconfig`, `iommufd_test`, `memory`, `port`, `device`, `mediated`, `limits`",
        ),
        (
            device("model = \"edu\"\nmask = 3"),
            "line 4: unknown field `mask`, expected one of `address`, `model`, `image`, `size`, `dma_mask`, `thread`, \
             `driver`, `present`, `behind_iommu`, `group`, `vfs`",
        ),
        (
            "iommu = \"amd\"".into(),
            "line 1: invalid value: string \"amd\", expected \"none\", \"translating\", or a table of properties",
        ),
        ("[iommu]\naddress_width = 40".into(), "line 2: address_width = 40: 39, 48 or 57 is needed"),
        (
            "[iommu]\nsnoop = true".into(),
            "line 2: unknown field `snoop`, expected one of `address_width`, `coherent`, `snoop_control`, \
             `interrupt_remapping`, `dirty_tracking`",
        ),
        (
            device("model = \"edu\"\ngroup = 1"),
            "device.group: device 0000:01:00.0 is not behind an IOMMU, and in no group",
        ),
        (
            device("model = \"edu\"\nvfs = 1"),
            "device.vfs: device 0000:01:00.0: model \"igb\" can have up to 8 of them, the others none",
        ),
        (
            device("model = \"igb\"\nvfs = 9"),
            "device.vfs: device 0000:01:00.0: model \"igb\" can have up to 8 of them, the others none",
        ),
        (
            "[[device]]\naddress = \"0000:01:0f.0\"\nmodel = \"igb\"\nvfs = 8".into(),
            "device.vfs: device 0000:01:0f.0 has no room on its bus for virtual function 4",
        ),
        (
            device("model = \"igb\"\nvfs = 2\n[[device]]\naddress = \"0000:01:10.2\"\nmodel = \"edu\""),
            "device.vfs: device 0000:01:00.0 has no room on its bus for virtual function 1",
        ),
        (
            "capabilities = [\"CAP_SYS_RAWIO\", \"CAP_IPC_LOK\"]".into(),
            "capabilities: \"CAP_IPC_LOK\" is not a capability of Linux",
        ),
        (
            "[limits]\nmemlock = \"8Mb\"".into(),
            "line 2: \"8Mb\" is not a size: a whole number with B, KiB, MiB, GiB or TiB is needed",
        ),
        (
            "[memory]\nsize = \"99999999999TiB\"".into(),
            "line 2: \"99999999999TiB\" is more than 64 bits can count",
        ),
        ("[limits]\nmemlock = -1".into(), "line 2: -1 is not a size"),
        (
            "[memory]\nsize = \"1MiB\"".into(),
            "memory.size: RAM of 0x100000 bytes: the size must be a multiple of 2 MiB, from 16 MiB to 64 GiB",
        ),
        (
            "[[device]]\naddress = \"1:0.0\"\nmodel = \"edu\"".into(),
            "line 2: \"1:0.0\" is not a PCI address: domain:bus:device.function in hexadecimal is needed, as in 0000:01:00.0",
        ),
        (
            device("model = \"edu\"") + "\n" + &device("model = \"edu\""),
            "device.address: \"0000:01:00.0\" is given to two devices",
        ),
        (
            device("model = \"nvme\""),
            "line 1: device 0000:01:00.0: `image` or `size` is needed for model \"nvme\"",
        ),
        (
            device("model = \"nvme\"\nsize = \"1MiB\"\nimage = \"x\""),
            "line 1: device 0000:01:00.0: `image` and `size` exclude each other",
        ),
        (
            device("model = \"edu\"\nsize = \"1MiB\""),
            "line 1: device 0000:01:00.0: `image` and `size` are for model \"nvme\" only",
        ),
        (
            device("model = \"edu\"\ndma_mask = 65"),
            "line 4: dma_mask = 65: a number of address bits from 12 to 64 is needed",
        ),
        (device("model = \"edu\"\ndriver = \"../nvme\""), "line 4: \"../nvme\" is not the name of a driver"),
        ("iommu = ".into(), "line 1: string values must be quoted, expected literal string"),
    ] {
        assert_eq!(refused(&text), message, "for {text}");
    }
}

/// The error of a machine file with this text, in a folder of its own with an image of `length` bytes.
fn file_error(text: &str, length: u64) -> (tempfile::TempDir, SpecError) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("disk.img")).unwrap().set_len(length).unwrap();
    std::fs::write(folder.path().join("m.toml"), text).unwrap();
    let error = Machine::from_file(&folder.path().join("m.toml")).map(drop).unwrap_err();
    (folder, error)
}

#[test]
fn the_file_and_the_key_are_named() {
    let image = |name: &str| {
        format!("[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"nvme\"\nimage = \"{name}\"\n")
    };
    let (folder, error) = file_error(&image("no.img"), 512);
    let (file, missing) = (folder.path().join("m.toml"), folder.path().join("no.img"));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: device.image: cannot open the image {}: No such file or directory (os error 2)",
            file.display(),
            missing.display()
        )
    );
    assert_eq!(error.key_name(), Some("device.image"));

    let (_folder, error) = file_error(&image("disk.img"), 1000);
    let text = error.to_string();
    assert!(text.contains("has 1000 bytes, which is no multiple of the block size of 512"), "{text}");
    let (_folder, error) = file_error(&image("disk.img"), 0);
    assert!(error.to_string().contains("is empty"), "{error}");
    let (_folder, error) = file_error(&image("."), 0);
    assert_eq!(error.key_name(), Some("device.image"), "{error}");

    let (folder, error) = file_error("\n\nlayout = 3", 0);
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}:3: unknown field", folder.path().join("m.toml").display()))
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Machine::from_file(Path::new("/nonexistent/m.toml")).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/m.toml: cannot read the machine file: No such file or directory (os error 2)"
    );
}

#[test]
fn an_image_is_found_beside_its_machine_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("disk.img")).unwrap().set_len(1 << 20).unwrap();
    let text =
        "[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"nvme\"\nimage = \"disk.img\"\nthread = false\n";
    std::fs::write(folder.path().join("m.toml"), text).unwrap();
    let machine = Machine::from_file(&folder.path().join("m.toml")).unwrap();
    assert_eq!(machine.read(Path::new("/sys/bus/pci/devices/0000:01:00.0/class")).unwrap(), b"0x010802\n");
}

proptest! {
    #[test]
    fn any_text_is_a_machine_or_an_error(text in "[a-z_\\[\\]= \"0-9:.\n]{0,200}") {
        // What counts is that it returns.
        let _either = text.parse::<MachineSpec>();
    }

    #[test]
    fn any_change_of_one_byte_is_a_machine_or_an_error(at in 0..COMPLETE.len(), byte in 0x20u8..0x7f) {
        let mut text = COMPLETE.as_bytes().to_vec();
        text[at] = byte;
        let _either = String::from_utf8(text).unwrap().parse::<MachineSpec>();
    }

    #[test]
    fn a_size_is_written_as_it_is_read(bytes in any::<u64>(), shift in 0..50u32) {
        let size = Size(bytes >> shift << shift);
        prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
    }

    #[test]
    fn an_address_is_written_as_it_is_read(domain in any::<u16>(), bus in any::<u8>(), device in 0..32u8, function in 0..8u8) {
        let text = format!("{domain:04x}:{bus:02x}:{device:02x}.{function}");
        prop_assert_eq!(text.parse::<machine::PciAddress>().unwrap().to_string(), text);
    }
}

#[test]
fn ports_lead_to_buses_of_their_own() {
    let port = |address: &str, bus: u8| format!("[[port]]\naddress = \"{address}\"\nbus = {bus}\n");
    let edu = |address: &str| format!("[[device]]\naddress = \"{address}\"\nmodel = \"edu\"\n");
    for (text, problem) in [
        (port("0000:00:1c.0", 0), "port.bus: 0: the bus behind port 0000:00:1c.0 is another one's"),
        (
            port("0000:00:1c.0", 1) + &port("0000:00:1d.0", 1),
            "port.bus: 1: the bus behind port 0000:00:1d.0 is another one's",
        ),
        (
            port("0000:00:1c.0", 1) + &port("0000:01:00.0", 2),
            "port.address: \"0000:01:00.0\" is behind another port; a root port is on a root bus",
        ),
        (
            port("0000:00:1c.0", 1) + &edu("0000:01:02.0"),
            "device.address: \"0000:01:02.0\": behind a port there is device 00 only",
        ),
        (
            port("0000:00:1c.0", 1) + &edu("0000:00:1c.0"),
            "device.address: \"0000:00:1c.0\" is given to two devices",
        ),
    ] {
        assert_eq!(refused(&text), problem);
    }
    let machine = port("0001:00:1c.0", 1) + &edu("0000:01:00.0") + &edu("0001:01:00.1");
    Machine::from_spec(machine.parse().unwrap()).expect("another domain has a bus 1 of its own");
}
