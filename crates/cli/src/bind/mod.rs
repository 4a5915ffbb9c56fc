//! `--bind`: devices of the host are taken from their drivers for the run of a command, and given back afterwards.
//!
//! The command runs as a child, so that the devices are given back however it ends: it may crash, give up its privileges or be killed.

mod driver;
#[cfg(test)]
mod tests;
mod users;

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, ensure};
use ioasis::PciAddress;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output::complain;
use crate::stop::Interrupted;
use driver::{Plan, Taken};

/// The folder that `sys`, `proc` and `dev` are in.
struct Host(PathBuf);

impl Host {
    fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

/// Runs this command once more without `--bind`, while vfio-pci has the devices: its status.
pub(crate) fn run(devices: &[PciAddress]) -> Result<ExitCode> {
    ensure!(!devices.is_empty(), "--bind takes the devices that the command names, and it names none");
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD]).context("cannot watch for Ctrl-C")?;
    let host = Host("/".into());
    // Nothing is changed before all of them can be had.
    let plans: Vec<Plan> = devices
        .iter()
        .map(|address| Plan::make(&host, *address))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let mut taken: Vec<Taken> = Vec::new();
    let outcome = plans
        .into_iter()
        .try_for_each(|plan| plan.take().map(|device| taken.push(device)))
        .and_then(|()| supervise(&mut signals));
    let mut given_back = true;
    for device in taken.into_iter().rev() {
        if let Err(error) = device.give_back() {
            complain(&format!("error: {error:#}"));
            given_back = false;
        }
    }
    match outcome {
        Ok(status) if !status.success() || given_back => Ok(exit_code(status)),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

/// As a shell tells it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let number = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(number).unwrap_or(u8::MAX))
}

/// Runs the command to its end, and passes signals on to it.
fn supervise(signals: &mut Signals) -> Result<ExitStatus> {
    if signals.pending().any(|signal| signal != SIGCHLD) {
        return Err(Interrupted.into());
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ioasis").args(without_bind(env::args_os().skip(1)));
    let mut child = command.spawn().context("cannot start the command")?;
    let pid = Pid::from_child(&child);
    loop {
        for number in signals.wait() {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match Signal::from_named_raw(number) {
                Some(signal) if number != SIGCHLD && !is_from_terminal(number) => kill_process(pid, signal)?,
                _ => {}
            }
        }
    }
}

/// Whether the child has had this signal already: a terminal sends it to all of its foreground processes.
fn is_from_terminal(signal: i32) -> bool {
    let foreground = File::open("/dev/tty").ok().and_then(|terminal| tcgetpgrp(terminal).ok());
    matches!(signal, SIGINT | SIGQUIT) && foreground.is_some_and(|group| group == getpgrp())
}

/// The arguments without `--bind`; what follows `--` is another command's.
fn without_bind(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut others = false;
    arguments.filter(move |argument| {
        others |= argument == "--";
        others || argument != "--bind"
    })
}
