//! The kernel's log, as far as a machine has one.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// How many lines are kept.
const KEPT: usize = 4096;

/// A ring of lines. A mark is the number of lines that were logged before it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    /// How many were dropped at the front.
    dropped: u64,
    kept: VecDeque<String>,
}

impl Log {
    /// Appends a line; the oldest goes when there are too many.
    pub(crate) fn line(&self, line: fmt::Arguments<'_>) {
        let line = line.to_string();
        self.with(|lines| {
            if lines.kept.len() == KEPT {
                lines.kept.pop_front();
                lines.dropped += 1;
            }
            lines.kept.push_back(line);
        });
    }

    /// A mark behind the last line.
    pub(crate) fn mark(&self) -> u64 {
        self.with(|lines| lines.dropped + lines.kept.len() as u64)
    }

    /// The lines behind a mark, as far as they are still kept.
    pub(crate) fn since(&self, mark: u64) -> Vec<String> {
        self.with(|lines| {
            let skip = mark.saturating_sub(lines.dropped);
            lines.kept.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).cloned().collect()
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Lines) -> R) -> R {
        f(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_outlives_the_lines_before_it() {
        let log = Log::default();
        log.line(format_args!("first"));
        let mark = log.mark();
        for number in 0..KEPT {
            log.line(format_args!("{number}"));
        }
        let lines = log.since(mark);
        assert_eq!((lines.len(), lines[0].as_str()), (KEPT, "0"));
        log.line(format_args!("one more"));
        assert_eq!(log.since(mark).len(), KEPT);
        assert_eq!(log.since(log.mark()), [""; 0]);
    }
}
