//! `ioasis run`: a machine under a program that knows nothing of it.
//!
//! The program is started with a library that the dynamic loader puts before libc. The library holds the machine; what it has to
//! say comes through a pipe.

pub(crate) mod library;
mod program;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use machine::{MachineSpec, Size};
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::arguments::{self, Run};
use crate::output::complain;

/// The number that the program finds the pipe under: high enough to be in nobody's way.
const PIPE: i32 = 900;
/// Where in the folder of a run the tree of its machine is. The library has sockets beside it.
const TREE: &str = "tree";

/// What the library has told.
#[derive(Debug, Default)]
struct Told {
    loaded: bool,
    /// The processes that use their machines: number and start.
    uses: HashSet<String>,
    findings: usize,
    trouble: usize,
}

/// Runs a program on a machine.
pub(crate) fn run(system: &arguments::System, arguments: &Run) -> Result<ExitCode> {
    let machine = system.machine.as_deref().context(
        "a program runs on a machine: name its file with --machine (docs/machine.md describes it)",
    )?;
    // An error in it is one of ours, before anything of the program happens.
    let spec = MachineSpec::from_file(machine)?;
    let machine = machine.canonicalize().with_context(|| format!("cannot find {}", machine.display()))?;
    let [name, words @ ..] = arguments.command.as_slice() else { bail!("no program is named") };
    let program = program::find(name)?;
    program::check(&program)?;
    let library = library::find()?;
    let folder = tempfile::Builder::new().prefix("ioasis-run-").tempdir().and_then(|folder| {
        fs::create_dir(folder.path().join(TREE))?;
        Ok(folder)
    });
    let folder =
        folder.context("cannot make a folder for the machine's files; TMPDIR names another place")?;
    let (told, pipe) = std::io::pipe().context("cannot make a pipe")?;
    let pipe = rustix::io::fcntl_dupfd_cloexec(&pipe, PIPE)
        .and_then(|pipe| rustix::io::fcntl_setfd(&pipe, FdFlags::empty()).map(|()| pipe))
        .with_context(|| format!("cannot have a descriptor from {PIPE} on; ulimit -n allows more"))?;

    let mut command = Command::new(&program);
    command
        .args(words)
        .env("LD_PRELOAD", preload(&library))
        .env("IOASIS_RUN_MACHINE", &machine)
        .env("IOASIS_RUN_ROOT", folder.path().join(TREE))
        .env("IOASIS_RUN_REPORT", pipe.as_raw_fd().to_string());
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    for (asked, name) in [
        (arguments.explain, "IOASIS_RUN_EXPLAIN"),
        (arguments.trace, "IOASIS_RUN_TRACE"),
        (arguments.raw, "IOASIS_RUN_RAW"),
    ] {
        if asked {
            command.env(name, "1");
        }
    }
    if let Some(memlock) = spec.limits.memlock {
        limit_locked_memory(memlock)?;
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    drop((pipe, command));
    let (told, status) = accompany(&mut child, told)?;
    finish(&told, status, &program)
}

/// The program begins with the limit of the machine file, which it has from this process.
fn limit_locked_memory(memlock: Size) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let maximum = maximum.map(|maximum| maximum.max(memlock.0));
    setrlimit(Resource::Memlock, Rlimit { current: Some(memlock.0), maximum }).with_context(|| {
        format!(
            "cannot limit locked memory to {memlock}, as limits.memlock of the machine file says: that is more than this process may have \
             (ulimit -Hl); without the key the program has the limit that this process has"
        )
    })
}

/// Our library before what else the program is to have.
fn preload(library: &Path) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        value.push(":");
        value.push(others);
    }
    value
}

/// Waits for the program, passes signals on to it, and prints what the library tells.
fn accompany(child: &mut Child, pipe: PipeReader) -> Result<(Told, ExitStatus)> {
    // From a terminal the program gets these two by itself.
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .context("cannot handle signals")?;
    }
    let process = rustix::process::Pid::from_child(child);
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGHUP]).context("cannot handle signals")?;
    let passing_on = signals.handle();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let passes = thread::spawn(move || {
        for signal in &mut signals {
            if let (false, Some(signal)) =
                (is_over.load(Ordering::SeqCst), rustix::process::Signal::from_named_raw(signal))
            {
                let _gone = rustix::process::kill_process(process, signal);
            }
        }
    });
    let told = Arc::new(Mutex::new(Told::default()));
    let listener = {
        let (told, copy) =
            (Arc::clone(&told), pipe.as_fd().try_clone_to_owned().context("cannot duplicate a pipe")?);
        thread::spawn(move || listen(PipeReader::from(copy), &told))
    };
    let status = child.wait().context("cannot wait for the program");
    over.store(true, Ordering::SeqCst);
    passing_on.close();
    let _passed = passes.join();
    // What it has told is in the pipe by now; processes that it has left behind may have the pipe still.
    wait_until_empty(&pipe);
    drop(listener);
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((told, status?))
}

/// Waits until the listener has read everything.
fn wait_until_empty(pipe: &PipeReader) {
    while rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0) {
        thread::sleep(Duration::from_millis(1));
    }
    // The last line may be on its way to the screen.
    thread::sleep(Duration::from_millis(2));
}

fn listen(pipe: PipeReader, told: &Mutex<Told>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, words) = line.split_at(line.len().min(1));
        match kind {
            "L" => {
                told.loaded = true;
                if told.uses.remove(words) {
                    let process = words.split(' ').next().unwrap_or(words);
                    complain(&format!(
                        "ioasis run: process {process} has started another program, which begins with a machine of its own"
                    ));
                }
            }
            "U" => {
                told.uses.insert(words.to_owned());
            }
            "F" => {
                told.findings += 1;
                complain(&format!("DMA checker: {words}"));
            }
            "T" => {
                told.trouble += 1;
                complain(&format!("ioasis run: {words}"));
            }
            _ => complain(&format!("ioasis run: {words}")),
        }
    }
}

/// The program's own status, unless something is wrong that it does not know of.
fn finish(told: &Told, status: ExitStatus, program: &Path) -> Result<ExitCode> {
    ensure!(
        told.loaded,
        "the dynamic loader has not put the library into {}, which ran without a machine: is LD_PRELOAD kept from it \
         (file capabilities, a loader of its own, a folder that is mounted noexec)?",
        program.display()
    );
    ensure!(
        told.findings == 0,
        "{} accesses of devices to memory that they were not given, see above",
        told.findings
    );
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    };
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    Ok(if code == 0 && told.trouble > 0 { ExitCode::FAILURE } else { ExitCode::from(code) })
}
