//! Chores of the project: `cargo xtask test`, `bench`, `vm`, `kernel`.
#![forbid(unsafe_code)]

mod image;
mod run;
mod vm;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::{cargo, step};

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs every check: format, clippy, tests, doc tests, docs, the demo, a real disk image, quick benches
    Test,
    /// Prints the numbers that the README names (release builds, about six minutes)
    Bench {
        /// Small sizes only, to see that the benches run
        #[arg(long)]
        quick: bool,
    },
    /// Runs a command in a virtual machine with a real kernel, this project's `ioasis` and PCI devices bound to vfio-pci
    Vm(vm::Options),
    /// Builds kernels for `vm`
    Kernel(vm::kernel::Options),
}

fn main() -> ExitCode {
    run(Arguments::parse().chore).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Test => test()?,
        Chore::Bench { quick } => bench(quick)?,
        Chore::Vm(options) => return Ok(vm::run(&options)?.into()),
        Chore::Kernel(options) => vm::kernel::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn test() -> Result<()> {
    let start = Instant::now();
    image::check_tools()?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
    })?;
    step("tests", || cargo(&["test", "--workspace", "--all-features", "--all-targets"]))?;
    step("doc tests", || cargo(&["test", "--workspace", "--all-features", "--doc"]))?;
    step("docs", || cargo(&["doc", "--workspace", "--all-features", "--no-deps"]))?;
    step("release build", || cargo(&["build", "--release", "--package", "ioasis-cli"]))?;
    step("demo", || run::ioasis(&["demo"]))?;
    step("a real ext4 image, read and written through the driver", image::round_trip)?;
    step("quick benches", || bench(true))?;
    println!("\nAll checks passed in {} s.", start.elapsed().as_secs());
    Ok(())
}

fn bench(quick: bool) -> Result<()> {
    for (package, name) in
        [("ioasis-subsystem", "areas"), ("ioasis-subsystem", "ioctls"), ("ioasis-machine", "mapping")]
    {
        let mut words = vec!["bench", "--quiet", "--package", package, "--bench", name, "--", "--quiet"];
        words.extend(quick.then_some("--quick"));
        step(name, || cargo(&words))?;
    }
    cargo(&["build", "--quiet", "--release", "--package", "ioasis-cli"])?;
    step("the demo, whole", run::demo_cost)?;
    step("4 KiB random reads against memcpy", || run::random_reads(if quick { 1 } else { 5 }))
}
