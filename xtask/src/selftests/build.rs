//! Building the self-tests.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::folder;
use crate::packages::{self, Need};
use crate::run::alone_in;
use crate::vm::kernel;

/// What the build needs, and Debian's package of each.
const NEEDS: [(Need, &str); 6] = [
    (Need::Program("make"), "make"),
    (Need::Program("gcc"), "gcc"),
    (Need::Program("tar"), "tar"),
    (Need::Program("xz"), "xz-utils"),
    (Need::Header("uuid/uuid.h"), "uuid-dev"),
    (Need::Header("sys/capability.h"), "libcap-dev"),
];

/// The folders of `tools/testing/selftests` that are built.
const SUITES: [&str; 2] = ["vfio", "iommu"];

/// Names what is missing.
pub(super) fn check_tools() -> Result<()> {
    packages::check(&NEEDS)
}

/// Builds the programs. The source stays as it is: everything made is in the cache.
pub(super) fn build(source: Option<&Path>) -> Result<()> {
    check_tools()?;
    let source = kernel::source(source)?;
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let _alone = alone_in(&folder)?;
    let headers = folder.join("headers");
    fs::create_dir_all(&headers)?;

    println!("the kernel's headers for programs (a minute)");
    let objects = format!("O={}", headers.display());
    make(
        &folder,
        "headers",
        Command::new("make").arg("-C").arg(&source).args([&objects, "ARCH=x86_64", "headers"]),
    )?;
    for suite in SUITES {
        println!("{suite}");
        let output = folder.join(suite);
        fs::create_dir_all(&output)?;
        let mut command = Command::new("make");
        command.arg("-C").arg(source.join("tools/testing/selftests").join(suite));
        command.arg(format!("OUTPUT={}", output.display()));
        command.arg(format!("KHDR_INCLUDES=-isystem {}", headers.join("usr/include").display()));
        make(&folder, suite, &mut command)?;
    }
    println!("the programs are in {}; cargo xtask selftests run", folder.display());
    Ok(())
}

/// Runs make; what it says is in a log, which is named where it fails.
fn make(folder: &Path, name: &str, command: &mut Command) -> Result<()> {
    let path = folder.join(name).with_extension("log");
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = command.status().context("cannot start make")?;
    ensure!(status.success(), "the build failed ({status}); its log is {}", path.display());
    Ok(())
}
