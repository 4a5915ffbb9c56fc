//! What `cargo xtask vm` itself promises, asked of its own process.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run::{run, scratch};
use crate::vm;

/// Streams, exit status and files come back, with either way of passing them.
pub(super) fn passes_results() -> Result<()> {
    let back = scratch("vm-harness")?.join("back");
    let fetch = format!("/tmp/back:{}", back.display());
    for kernel in ["A", "debian"] {
        let script = "echo out; echo err >&2; echo $((6 * 7)) >/tmp/back; exit 7";
        let options = ["--kernel", kernel, "--device", "edu", "--no-bind", "--fetch", &fetch];
        let outcome = Vm::new(&options).end(&["sh", "-c", script])?;
        outcome.is(7, "")?;
        ensure!(outcome.stdout == "out\n" && outcome.stderr == "err\n", "kernel {kernel}: {outcome:?}");
        ensure!(
            fs::read_to_string(&back)? == "42\n",
            "kernel {kernel}: the file that came back is not right"
        );
        fs::remove_file(&back)?;
    }
    Vm::new(&["--fetch", "/tmp/none"]).end(&["true"])?.is(1, "the guest has no file /tmp/none")
}

/// Whatever does not end by itself is ended, with a word on what the kernel said last.
pub(super) fn ends_what_hangs() -> Result<()> {
    const LAST: &str = "The kernel's last lines:\n";
    let hang = Vm::new(&["--timeout", "15"]).end(&["sleep", "1000"])?;
    hang.is(1, "within 15 s (--timeout).")?;
    hang.is(1, LAST)?;
    let dead = Vm::new(&[]).end(&["poweroff", "-f"])?;
    dead.is(1, "the guest ended before the command did")?;
    dead.is(1, LAST)?;
    let unbound = Vm::new(&["--append", "vfio.enable_unsafe_noiommu_mode=0"]).end(&["true"])?;
    unbound.is(1, "did not run the command: vfio-pci did not take 0000:00:03.0: its driver is none")?;
    unbound.is(1, "probe with driver vfio-pci failed with error -22")
}

/// Ctrl-C ends the guest, and what the command had printed by then was passed on at once.
pub(super) fn ends_when_interrupted() -> Result<()> {
    let mut child = Vm::new(&[]).start(&["sh", "-c", "echo begun; sleep 1000"])?;
    let mut first = String::new();
    let output = child.stdout.take().context("no standard output")?;
    BufReader::new(output).read_line(&mut first)?;
    ensure!(first == "begun\n", "the first line is {first:?}");
    let id = child.id().to_string();
    run(Command::new("kill").args(["-INT", &id]))?;
    let outcome = Outcome::of(child)?;
    outcome.is(1, "interrupted; the guest is ended")?;
    ensure!(!scratch(&format!("vm-{id}"))?.join("share").exists(), "files of the guest are left");
    Ok(fs::remove_dir(scratch(&format!("vm-{id}"))?)?)
}

/// What is missing is named, with what to do.
pub(super) fn names_what_is_missing() -> Result<()> {
    let nowhere = ("XDG_CACHE_HOME", "/nonexistent");
    let no_kernel = Vm::new(&[]).env("IOASIS_KERNELS", "/nonexistent").env(nowhere.0, nowhere.1);
    no_kernel.end(&["true"])?.is(
        1,
        "there is no kernel A in /nonexistent or /nonexistent/ioasis/kernels; `cargo xtask kernel A`",
    )?;
    let ioasis = vm::build()?;
    let no_qemu = Vm::new(&["--ioasis", path(&ioasis)?]).env("PATH", "/nonexistent");
    no_qemu
        .end(&["true"])?
        .is(1, "qemu-system-x86_64 is missing: install QEMU (Debian's package qemu-system-x86)")?;
    let dynamic = env::current_exe()?;
    let not_static = Vm::new(&["--ioasis", path(&dynamic)?]).end(&["true"])?;
    not_static.is(1, "is not a statically linked x86-64 program")
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// A run of `cargo xtask vm`.
struct Vm(Command);

impl Vm {
    fn new(options: &[&str]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
        command.arg("vm").args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    fn start(mut self, command: &[&str]) -> Result<Child> {
        self.0.arg("--").args(command).spawn().context("cannot start cargo xtask vm")
    }

    fn end(self, command: &[&str]) -> Result<Outcome> {
        Outcome::of(self.start(command)?)
    }
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(child: Child) -> Result<Self> {
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    fn is(&self, status: i32, words: &str) -> Result<()> {
        ensure!(
            self.status == Some(status) && self.stderr.contains(words),
            "exit status {status} and {words:?} were expected: {self:?}"
        );
        Ok(())
    }
}
