//! What `ioasis run` is told: a line each, through a pipe.

use std::fmt::{self, Write as _};
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

    /// The number of the pipe.
    pub(crate) fn number(&self) -> RawFd {
        self.pipe
    }

    /// Tells a line. Nobody who listens any more is no reason to stop.
    pub(crate) fn tell(&self, kind: Kind, words: impl fmt::Display) {
        let mut line = Line { bytes: [0; LINE], length: 0 };
        // What does not fit is cut off.
        let _whole = write!(line, "{}{words}", kind as u8 as char);
        line.bytes[line.length] = b'\n';
        // SAFETY: the bytes are those of a live array. A pipe takes a line whole or makes the caller wait.
        let _told = unsafe { raw!(SYS_write, self.pipe, line.bytes.as_ptr(), line.length + 1) };
    }
}

/// How long a line may be.
const LINE: usize = 2048;

/// A line that takes no memory: the allocator may be what has failed.
struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte is left for the end of the line.
        let room = &mut self.bytes[self.length..LINE - 1];
        let count = text.len().min(room.len());
        for (into, byte) in room.iter_mut().zip(text.bytes()) {
            *into = if byte == b'\n' { b' ' } else { byte };
        }
        self.length += count;
        if count == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
