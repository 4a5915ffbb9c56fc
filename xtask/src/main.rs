//! Chores of the project: `cargo xtask test`, `bench`, `vm`, `kernel`, `preload`, `selftests`.
#![forbid(unsafe_code)]

mod image;
mod packages;
mod preload;
mod run;
mod selftests;
mod vm;
mod vm_tests;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::{Steps, cargo};

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs every check: format, clippy, tests, doc tests, docs, unmodified programs, the demo, a real disk image
    Test {
        /// And what is to be seen on real kernels, in virtual machines (see vm/README.md)
        #[arg(long)]
        vm: bool,
        /// And the kernel's own self-tests, on machines (see selftests/README.md)
        #[arg(long)]
        selftests: bool,
        /// Only the steps whose name contains this
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Prints the numbers that the README names (release builds, about six minutes)
    Bench {
        /// Small sizes only, to see that the benches run
        #[arg(long)]
        quick: bool,
        /// System calls alone, of a real kernel and of an embedded machine, in one virtual machine
        #[arg(long, conflicts_with = "quick")]
        vm: bool,
    },
    /// Runs a command in a virtual machine with a real kernel, this project's `ioasis` and PCI devices bound to vfio-pci
    Vm(vm::Options),
    /// Builds the library that `ioasis run` puts under programs, and puts it beside the command
    Preload,
    /// Builds kernels for `vm`
    Kernel(vm::kernel::Options),
    /// The kernel's own tests of VFIO and IOMMUFD, unmodified, on embedded machines (see selftests/README.md)
    #[command(subcommand)]
    Selftests(selftests::Chore),
}

fn main() -> ExitCode {
    run(Arguments::parse().chore).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Test { vm, selftests, only } => test(vm, selftests, Steps::new(only))?,
        Chore::Bench { vm: true, .. } => vm_tests::bench()?,
        Chore::Bench { quick, .. } => bench(quick, &mut Steps::new(None))?,
        Chore::Vm(options) => return Ok(vm::run(&options)?.into()),
        Chore::Preload => preload::build()?,
        Chore::Kernel(options) => vm::kernel::run(&options)?,
        Chore::Selftests(chore) => selftests::run(&chore)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn test(vm: bool, selftests: bool, mut steps: Steps) -> Result<()> {
    let start = Instant::now();
    image::check_tools()?;
    if vm {
        vm_tests::check_kernels(&steps)?;
    }
    if selftests {
        selftests::check_tools()?;
    }
    steps.run("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.run("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
    })?;
    steps.run("tests", || cargo(&["test", "--workspace", "--all-features", "--all-targets"]))?;
    steps.run("doc tests", || cargo(&["test", "--workspace", "--all-features", "--doc"]))?;
    steps.run("docs", || cargo(&["doc", "--workspace", "--all-features", "--no-deps"]))?;
    steps.run("release build", run::build_ioasis)?;
    steps.run("unmodified programs", preload::test)?;
    steps.run("demo", || run::ioasis(&["demo"]))?;
    steps.run("a real ext4 image, read and written through the driver", image::round_trip)?;
    // The other benches have run among the tests, small and without their aims.
    whole(true, &mut steps)?;
    if selftests {
        selftests::test(&mut steps)?;
    }
    if vm {
        vm_tests::run(&mut steps)?;
    }
    println!("\n{} checks passed in {} s.", steps.done()?, start.elapsed().as_secs());
    if !selftests {
        println!("The kernel's self-tests were not run: cargo xtask test --selftests");
    }
    if !vm {
        println!("Real kernels were not asked: cargo xtask test --vm");
    }
    Ok(())
}

fn bench(quick: bool, steps: &mut Steps) -> Result<()> {
    for (package, name) in
        [("ioasis-subsystem", "areas"), ("ioasis-subsystem", "ioctls"), ("ioasis-machine", "mapping")]
    {
        let mut words = vec!["bench", "--quiet", "--package", package, "--bench", name, "--", "--quiet"];
        words.extend(quick.then_some("--quick"));
        steps.run(name, || cargo(&words))?;
    }
    run::build_ioasis()?;
    preload::bench(quick, steps)?;
    whole(quick, steps)
}

/// What the command costs as a whole.
fn whole(quick: bool, steps: &mut Steps) -> Result<()> {
    steps.run("the demo, whole", run::demo_cost)?;
    steps.run("4 KiB random reads against memcpy", || run::random_reads(if quick { 1 } else { 5 }))
}
