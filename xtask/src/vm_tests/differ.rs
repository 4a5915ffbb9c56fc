//! The same calls on a real kernel and on an embedded machine.

use std::fs;

use anyhow::Result;

use super::{Boot, Files};
use crate::run::root;

pub(super) const BOOTS: [Boot; 3] = [
    Boot {
        name: "the same calls on kernel A and a machine, without an IOMMU",
        options: "--kernel A --device edu",
        script: "differ.sh",
    },
    Boot {
        name: "the same calls on kernel A and a machine, with an IOMMU",
        options: "--kernel A --device edu --iommu",
        script: "differ.sh",
    },
    Boot {
        name: "the same calls on kernel D and a machine, without an IOMMU",
        options: "--kernel D --device edu",
        script: "differ.sh",
    },
];

/// Runs a boot with the machine file and the scripts of what once differed.
pub(super) fn run(boot: &Boot, files: &Files) -> Result<()> {
    let folder = root().join("vm/differ");
    let mut words = vec!["--file".to_owned(), format!("{}:/etc/edu.toml", folder.join("edu.toml").display())];
    for script in fs::read_dir(folder.join("scripts"))? {
        let script = script?;
        let inside = format!("{}:/etc/differ/{}", script.path().display(), script.file_name().display());
        words.extend(["--file".to_owned(), inside]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    boot.run(files, &words)
}
