//! What `ioasis run` is told: a line each, through a pipe.

use std::fmt::Write as _;
use std::os::fd::RawFd;

use crate::raw::raw;

/// A pipe to `ioasis run`.
#[derive(Debug)]
pub(crate) struct Report {
    pipe: RawFd,
    /// Whether each refused call is told.
    pub(crate) explains: bool,
    /// Whether each call is told.
    pub(crate) traces: bool,
}

/// The first letter of a line: what kind of line it is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// The library is there, in a process.
    Loaded = b'L' as isize,
    /// A process uses its machine.
    Uses = b'U' as isize,
    /// A call, or one that was refused.
    Call = b'C' as isize,
    /// Of the DMA checker.
    Finding = b'F' as isize,
    /// Something that the program could not be given.
    Trouble = b'T' as isize,
}

impl Report {
    pub(crate) fn new(pipe: RawFd, explains: bool, traces: bool) -> Self {
        Report { pipe, explains, traces }
    }

    /// Tells a line. Nobody who listens any more is no reason to stop.
    pub(crate) fn tell(&self, kind: Kind, words: impl std::fmt::Display) {
        let mut line = String::new();
        if write!(line, "{}{words}", kind as u8 as char).is_err() {
            return;
        }
        let mut line = line.replace('\n', " ");
        line.push('\n');
        // SAFETY: the bytes are those of a live string. A short pipe of its own takes a line whole or makes the caller wait.
        let _told = unsafe { raw!(SYS_write, self.pipe, line.as_ptr(), line.len()) };
    }
}
