//! Running commands.

use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Steps, each announced, timed and named where it fails.
pub(crate) struct Steps {
    /// Only steps whose name contains this are done.
    only: Option<String>,
    done: usize,
}

impl Steps {
    pub(crate) fn new(only: Option<String>) -> Self {
        Self { only, done: 0 }
    }

    /// Whether a step of this name is done.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Says what is done next, does it, and says how long it took.
    pub(crate) fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        self.done += 1;
        println!("\n== {name}");
        let start = Instant::now();
        work().with_context(|| format!("step `{name}` failed"))?;
        println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// How many steps were done; an error if none was.
    pub(crate) fn done(&self) -> Result<usize> {
        ensure!(self.done > 0, "no step is called {:?}", self.only.as_deref().unwrap_or_default());
        Ok(self.done)
    }
}

/// Runs cargo in the workspace, with warnings of rustdoc denied.
pub(crate) fn cargo(words: &[&str]) -> Result<()> {
    run(cargo_in(&root(), words).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Cargo in a folder.
pub(crate) fn cargo_in(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(folder);
    command
}

/// Runs a command; an exit status other than 0 is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Builds the `ioasis` command, for release.
pub(crate) fn build_ioasis() -> Result<()> {
    cargo(&["build", "--quiet", "--release", "--package", "ioasis-cli"])
}

/// Runs the `ioasis` command of the release build, which is up to date then.
pub(crate) fn ioasis(words: &[&str]) -> Result<()> {
    build_ioasis()?;
    run(Command::new(ioasis_path()).args(words))
}

/// The `ioasis` command of the release build.
pub(crate) fn ioasis_path() -> PathBuf {
    target().join("release/ioasis")
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The demo's time, from start to exit, and its memory, as the kernel counts it.
pub(crate) fn demo_cost() -> Result<()> {
    const SECONDS: f64 = 5.0;
    const BYTES: u64 = 200 << 20;
    let start = Instant::now();
    let output =
        Command::new(ioasis_path()).args(["demo", "--json"]).output().context("cannot start the demo")?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(output.status.success(), "the demo failed: {}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let bytes = report["peak_memory"].as_u64().context("the demo tells no peak_memory")?;
    println!(
        "{seconds:.2} s in all (at most {SECONDS}), {} MiB resident (at most {})",
        bytes >> 20,
        BYTES >> 20
    );
    ensure!(seconds < SECONDS && bytes < BYTES, "the demo takes more than that");
    Ok(())
}

/// `ioasis nvme bench` on a memory-backed controller.
pub(crate) fn random_reads(seconds: u32) -> Result<()> {
    let folder = scratch("bench")?;
    let machine = folder.join("machine.toml");
    std::fs::write(
        &machine,
        "[memory]\nlayout = \"scattered\"\nseed = 7\n\n[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"nvme\"\nsize = \"1GiB\"\n",
    )?;
    let seconds = seconds.to_string();
    let bench = ["nvme", "bench", "0000:01:00.0", "--rw", "randread", "--bs", "4k", "--qd", "32"];
    run(Command::new(ioasis_path()).arg("--machine").arg(&machine).args(bench).args(["--seconds", &seconds]))
}

/// A folder below the target folder, empty.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = target().join("xtask").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What chores keep from run to run, for all work trees.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("no cache folder: neither XDG_CACHE_HOME nor HOME names an absolute path")?;
    Ok(folder.join("ioasis"))
}

/// Waits until no other chore works in a folder, and keeps others out of it until the answer is dropped.
pub(crate) fn alone_in(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        println!("another chore works in {}: waiting for it", folder.display());
    }
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(lock)
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
