//! A running guest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::machine::Machine;
use super::share::Share;

const EMULATOR: &str = "qemu-system-x86_64";
/// How often the streams are looked at.
const TICK: Duration = Duration::from_millis(30);
/// What `vm/init` says on the console when it comes to the command.
const BEGINNING: &str = "init: the command begins";
/// How many of the kernel's last lines an error shows.
const LAST_LINES: usize = 25;

/// Boots the machine, prints what its command prints, and returns the command's exit status.
pub(crate) fn run(machine: &Machine<'_>, share: &Share, limit: Duration, show_console: bool) -> Result<u8> {
    File::create(machine.console)?;
    let complaints = machine.console.with_extension("qemu");
    let stop = stop_signals()?;
    let mut streams = Streams::open(machine, share, show_console)?;
    let mut guest = Guest::start(machine, &complaints)?;
    let start = Instant::now();
    loop {
        let ended = guest.0.try_wait()?;
        streams.copy().context("cannot pass on the guest's output")?;
        ensure!(!stop.load(Ordering::Relaxed), "interrupted; the guest is ended");
        if let Some(status) = ended {
            share.collect(machine.disk.as_deref())?;
            return match share.status() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => bail!(
                    "the guest ended before the command did ({EMULATOR}: {status}).{}{}",
                    last_lines(&complaints, "QEMU said"),
                    last_lines(machine.console, "The kernel's last lines")
                ),
                Err(error) => bail!("{error:#}.{}", last_lines(machine.console, "The kernel's last lines")),
            };
        }
        if start.elapsed() > limit {
            let what = if String::from_utf8_lossy(&fs::read(machine.console)?).contains(BEGINNING) {
                "the command did not end"
            } else {
                "the kernel did not come to the command"
            };
            bail!(
                "{what} within {} s (--timeout).{}",
                limit.as_secs(),
                last_lines(machine.console, "The kernel's last lines")
            );
        }
        thread::sleep(TICK);
    }
}

/// Set by the signals that ask for an end, so that the guest and its files go too.
fn stop_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// QEMU's process; it does not outlive this value.
struct Guest(Child);

impl Guest {
    fn start(machine: &Machine<'_>, complaints: &Path) -> Result<Self> {
        let mut command = Command::new(EMULATOR);
        command
            .args(machine.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(complaints)?);
        match command.spawn() {
            Ok(child) => Ok(Self(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{EMULATOR} is missing: install QEMU (Debian's package qemu-system-x86)")
            }
            Err(error) => Err(error).with_context(|| format!("cannot start {EMULATOR}")),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The files that grow while the guest runs.
struct Streams {
    stdout: File,
    stderr: File,
    console: Option<File>,
}

impl Streams {
    fn open(machine: &Machine<'_>, share: &Share, show_console: bool) -> Result<Self> {
        let console = if show_console { Some(File::open(machine.console)?) } else { None };
        Ok(Self { stdout: share.stream("stdout")?, stderr: share.stream("stderr")?, console })
    }

    /// Copies what is new since the last time.
    fn copy(&mut self) -> io::Result<()> {
        if let Some(console) = &mut self.console {
            io::copy(console, &mut io::stderr())?;
        }
        io::copy(&mut self.stderr, &mut io::stderr())?;
        let mut stdout = io::stdout().lock();
        io::copy(&mut self.stdout, &mut stdout)?;
        stdout.flush()
    }
}

/// The end of a log under a heading; nothing for an empty log.
fn last_lines(path: &Path, heading: &str) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    if last.is_empty() { String::new() } else { format!("\n{heading}:\n  {}", last.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_without_empty_lines() {
        let path = std::env::temp_dir().join(format!("ioasis-console-{}", std::process::id()));
        let log: String = (0..100).map(|line| format!("line {line}\r\n\r\n")).collect();
        fs::write(&path, log).unwrap();
        let shown = last_lines(&path, "Last");
        assert!(shown.starts_with("\nLast:\n  line 75\n") && shown.ends_with("\n  line 99"), "{shown}");
        fs::remove_file(&path).unwrap();
        assert_eq!(last_lines(&path, "Last"), "");
    }
}
