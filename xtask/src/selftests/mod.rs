//! `cargo xtask selftests`: the kernel's own tests of VFIO and IOMMUFD (`tools/testing/selftests`), unmodified, on embedded machines.

mod build;
mod play;
mod programs;
mod tap;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::run::{Steps, cache};

#[derive(Subcommand)]
pub(crate) enum Chore {
    /// Builds them from the source of Linux, in the cache
    Build {
        /// A source of Linux 7.3 or newer: a folder, or an archive that tar can read; default: Debian's package
        #[arg(long, value_name = "PATH")]
        source: Option<PathBuf>,
    },
    /// Runs them by `ioasis run`, and prints how many tests of each program passed
    Run {
        /// Only programs whose name contains this
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Those too that take minutes
        #[arg(long)]
        all: bool,
    },
}

pub(crate) fn run(chore: &Chore) -> Result<()> {
    match chore {
        Chore::Build { source } => build::build(source.as_deref()),
        Chore::Run { only, all } => play::run(only.as_deref(), *all),
    }
}

/// What their build needs, before anything else is done.
pub(crate) fn check_tools() -> Result<()> {
    build::check_tools()
}

/// Builds and runs them, as checks.
pub(crate) fn test(steps: &mut Steps) -> Result<()> {
    steps.run("the kernel's self-tests, built", || build::build(None))?;
    steps.run("the kernel's self-tests, unmodified, on machines", || play::run(None, false))
}

/// Where the built programs are.
fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("selftests"))
}
