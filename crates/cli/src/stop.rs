//! Signals: the first Ctrl-C asks long work to stop in order, the second one ends the process at once.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// The work was stopped by a signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether somebody asked to stop.
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// From now on the first SIGINT or SIGTERM only raises the flag.
    pub(crate) fn install() -> Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: a signal that finds the flag raised ends the process, then the flag is raised.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&raised))
                .and_then(|_| flag::register(signal, Arc::clone(&raised)))
                .context("cannot watch for Ctrl-C")?;
        }
        Ok(StopFlag(raised))
    }

    /// Whether the flag is up.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`Interrupted`] if the flag is up.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_raised() { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// Waits until a file can be read or written, but not so long that a signal goes unnoticed: a read or write would
/// go on after it.
pub(crate) fn is_ready(file: &File, way: PollFlags) -> io::Result<bool> {
    const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    match poll(&mut [PollFd::new(file, way)], Some(&A_MOMENT)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Lets a write beyond the largest size of a file (`ulimit -f`) fail, where the process would be killed
/// otherwise.
pub(crate) fn outlive_large_files() -> Result<()> {
    let seen = Arc::new(AtomicBool::new(false));
    flag::register(SIGXFSZ, seen).map(drop).context("cannot watch for files that grow too large")
}
