//! The library that `ioasis run` puts under programs: a workspace of its own, for its own choice of features.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::run::{Steps, build_ioasis, cargo_in, ioasis, ioasis_path, root, run, target};

const NAME: &str = "libioasis_preload.so";

fn folder() -> PathBuf {
    root().join("crates/preload")
}

/// Runs cargo there. What it builds stays there too, wherever else things are built.
fn cargo(words: &[&str]) -> Result<()> {
    run(cargo_in(&folder(), words)
        .env("CARGO_TARGET_DIR", folder().join("target"))
        .env("IOASIS", ioasis_path()))
}

/// Builds it and puts it beside the command.
pub(crate) fn build() -> Result<()> {
    cargo(&["build", "--release"])?;
    for profile in ["debug", "release"] {
        let beside = target().join(profile);
        fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
        let built = folder().join("target/release").join(NAME);
        fs::copy(&built, beside.join(NAME)).with_context(|| format!("cannot copy {}", built.display()))?;
    }
    println!("{NAME} is beside ioasis, in debug and release of {}", target().display());
    Ok(())
}

/// What programs pay under it, against what they take without.
pub(crate) fn bench(quick: bool, steps: &mut Steps) -> Result<()> {
    steps.run("programs under a machine", || {
        build()?;
        let words: &[&str] = if quick { &["bench", "run", "--quick"] } else { &["bench", "run"] };
        ioasis(words)
    })
}

/// Its format, its lints and its tests: what it emulates, and programs on machines.
pub(crate) fn test() -> Result<()> {
    build_ioasis()?;
    cargo(&["fmt", "--check"])?;
    cargo(&["clippy", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&["test"])
}
