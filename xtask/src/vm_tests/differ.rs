//! The same calls on a real kernel and on an embedded machine.

use std::{env, fs};

use anyhow::Result;

use super::{Boot, Files};
use crate::run::root;

/// A boot, and the machine of `vm/differ` with the same devices.
pub(super) struct Pair {
    pub(super) boot: Boot,
    pub(super) machine: &'static str,
}

const fn pair(machine: &'static str, name: &'static str, options: &'static str) -> Pair {
    Pair { boot: Boot { name, options, script: "differ.sh" }, machine }
}

pub(super) const PAIRS: [Pair; 6] = [
    pair("edu.toml", "the same calls on kernel A and a machine, without an IOMMU", "--kernel A --device edu"),
    pair("edu.toml", "the same calls on kernel C and a machine, without an IOMMU", "--kernel C --device edu"),
    pair("edu.toml", "the same calls on kernel D and a machine, without an IOMMU", "--kernel D --device edu"),
    pair(
        "edu.toml",
        "the same calls on kernel D and a machine, with an IOMMU",
        "--kernel D --device edu --iommu",
    ),
    pair(
        "edu-pair.toml",
        "the same calls on kernel A and a machine, with an IOMMU and groups of one and two devices",
        "--kernel A --device edu,edu-pair --iommu",
    ),
    // A device that bypasses an IOMMU which remaps interrupts gets none: docs/kernel-findings.md. A hot reset takes a second
    // there.
    pair(
        "edu-bypassing.toml",
        "the same calls on kernel A and a machine, with devices of both kinds",
        "--kernel A --device edu,edu-bypassing --iommu --no-interrupt-remapping \
         --append iommufd.allow_unsafe_interrupts=1 --append vfio_iommu_type1.allow_unsafe_interrupts=1 --append SEQUENCES=50",
    ),
];

/// Runs a boot with the machine file and the scripts of what once differed.
pub(super) fn run(Pair { boot, machine }: &Pair, files: &Files) -> Result<()> {
    let folder = root().join("vm/differ");
    let file = |from: &str, to: &str| ["--file".to_owned(), format!("{}:{to}", folder.join(from).display())];
    let mut words: Vec<String> = file(machine, "/etc/devices.toml").into();
    for script in fs::read_dir(folder.join("scripts"))? {
        let name = script?.file_name().display().to_string();
        words.extend(file(&format!("scripts/{name}"), &format!("/etc/differ/{name}")));
    }
    // What the kernel does not know of its command line is in the environment of the guest's first process.
    for name in ["SEQUENCES", "SEED"] {
        if let Ok(value) = env::var(format!("IOASIS_{name}")) {
            words.extend(["--append".to_owned(), format!("{name}={value}")]);
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    boot.run(files, &words)
}
