//! The kernel's log of a machine, and the two forms in which programs read it: `/dev/kmsg`, record by record
//! (`Documentation/ABI/testing/dev-kmsg`), and `syslog(2)`, as text.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use rustix::time::{ClockId, clock_gettime};
use subsystem::Level;
use uapi::Errno;

use crate::lock::lock;

/// How many records are kept.
const KEPT: usize = 4096;
/// How large the text of all of them may be, for who asks how much there is to read.
const SIZE: u64 = 512 << 10;
/// What a program writes at most in one record.
const LONGEST: usize = 1024;

/// What stands before a record: its importance, and in the bits above whose it is, which is 0 for the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priority(u32);

impl Priority {
    /// `KERN_ERR`
    pub(crate) const ERROR: Self = Priority(3);
    /// `KERN_WARNING`
    pub(crate) const WARNING: Self = Priority(4);
    /// `KERN_INFO`
    pub(crate) const INFO: Self = Priority(6);
    /// Of what a program writes who says no other: a warning of a user.
    const OF_PROGRAMS: Self = Priority(1 << 3 | 4);
}

impl From<Level> for Priority {
    fn from(level: Level) -> Self {
        match level {
            Level::Warn => Priority::WARNING,
            Level::Notice => Priority(5),
            Level::Info => Priority::INFO,
        }
    }
}

/// A ring of records, by number.
#[derive(Debug, Default)]
pub(crate) struct Log {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// How many were dropped at the front.
    dropped: u64,
    kept: VecDeque<Record>,
    /// The first that was not cleared.
    cleared: u64,
    /// The first that `syslog(2)` has not read one by one.
    unread: u64,
}

#[derive(Debug)]
struct Record {
    priority: Priority,
    /// Since the start of the host.
    microseconds: u64,
    text: String,
}

/// Where a reader of records goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the first record that is kept.
    First,
    /// To the first that was not cleared.
    Cleared,
    /// Behind the last.
    End,
}

impl Record {
    /// As `syslog(2)` tells it.
    fn line(&self) -> String {
        let Record { priority: Priority(priority), microseconds, text } = self;
        format!("<{priority}>[{:5}.{:06}] {text}\n", microseconds / 1_000_000, microseconds % 1_000_000)
    }
}

impl Records {
    fn end(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    /// Those from a number on that are still kept.
    fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = &Record> {
        let skip = number.saturating_sub(self.dropped);
        self.kept.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    fn push(&mut self, priority: Priority, text: String) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.dropped += 1;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
        self.kept.push_back(Record { priority, microseconds, text });
    }
}

impl Log {
    /// Appends a record of the kernel's; the oldest goes when there are too many.
    pub(crate) fn line(&self, priority: Priority, line: fmt::Arguments<'_>) {
        let text = line.to_string();
        self.with(|records| records.push(priority, text));
    }

    /// The number of the next record.
    pub(crate) fn mark(&self) -> u64 {
        self.with(|records| records.end())
    }

    /// The texts from a number on, as far as they are still kept.
    pub(crate) fn since(&self, mark: u64) -> Vec<String> {
        self.with(|records| records.from(mark).map(|record| record.text.clone()).collect())
    }

    /// The number of a place.
    pub(crate) fn place(&self, place: Place) -> u64 {
        self.with(|records| match place {
            Place::First => records.dropped,
            Place::Cleared => records.cleared.max(records.dropped),
            Place::End => records.end(),
        })
    }

    /// `read(2)` of `/dev/kmsg`: the record `next`, which is the one behind it then. EPIPE if records were dropped before they were
    /// read, EAGAIN if there is none yet, EINVAL if it does not fit.
    pub(crate) fn read(&self, next: &mut u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.with(|records| {
            if *next < records.dropped {
                *next = records.dropped;
                return Err(Errno::EPIPE);
            }
            let record = records.from(*next).next().ok_or(Errno::EAGAIN)?;
            let Record { priority: Priority(priority), microseconds, text } = record;
            let text = text.replace('\n', "\\x0a");
            let line = format!("{priority},{next},{microseconds},-;{text}\n");
            let room = bytes.get_mut(..line.len()).ok_or(Errno::EINVAL)?;
            room.copy_from_slice(line.as_bytes());
            *next += 1;
            Ok(line.len())
        })
    }

    /// `write(2)` to `/dev/kmsg`: a record of a program's, which may begin with its priority.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.len() > LONGEST {
            return Err(Errno::EINVAL);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let told = text.strip_prefix('<').and_then(|text| text.split_once('>'));
        let told = told.and_then(|(priority, text)| Some((priority.parse::<u32>().ok()?, text)));
        let (priority, text) = match told {
            // Nobody but the kernel speaks as the kernel.
            Some((priority, text)) if priority >> 3 == 0 => (Priority(priority | 1 << 3), text),
            Some((priority, text)) => (Priority(priority), text),
            None => (Priority::OF_PROGRAMS, text),
        };
        self.with(|records| records.push(priority, text.to_owned()));
        Ok(())
    }

    /// `syslog(2)` but for waiting: the text, or a number. EAGAIN if it is to be waited for.
    pub(crate) fn call(&self, action: i32, length: u64) -> Result<Told, Errno> {
        const READ: i32 = 2;
        const READ_ALL: i32 = 3;
        const READ_CLEAR: i32 = 4;
        const CLEAR: i32 = 5;
        const SIZE_UNREAD: i32 = 9;
        const SIZE_BUFFER: i32 = 10;
        self.with(|records| {
            let room = |total: &mut u64, record: &Record| {
                *total += record.line().len() as u64;
                (*total <= length).then_some(())
            };
            let text = |records: &Records, first, count| -> Told {
                Told::Text(records.from(first).take(count).map(Record::line).collect())
            };
            Ok(match action {
                READ => {
                    let first = records.unread.max(records.dropped);
                    if first == records.end() {
                        return Err(Errno::EAGAIN);
                    }
                    let count = records.from(first).scan(0, room).count();
                    records.unread = first + count as u64;
                    text(records, first, count)
                }
                READ_ALL | READ_CLEAR => {
                    // The newest that there is room for.
                    let count = records.from(records.cleared).rev().scan(0, room).count();
                    let newest = text(records, records.end() - count as u64, count);
                    if action == READ_CLEAR {
                        records.cleared = records.end();
                    }
                    newest
                }
                CLEAR => {
                    records.cleared = records.end();
                    Told::Number(0)
                }
                SIZE_UNREAD => {
                    Told::Number(records.from(records.unread).map(|record| record.line().len() as u64).sum())
                }
                SIZE_BUFFER => Told::Number(SIZE),
                // To open and close it, and what comes to the console, of which there is none.
                0 | 1 | 6 | 7 => Told::Number(0),
                8 if (1..=8).contains(&length) => Told::Number(0),
                _ => return Err(Errno::EINVAL),
            })
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Records) -> R) -> R {
        f(&mut lock(&self.records))
    }
}

/// What `syslog(2)` answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Lines.
    Text(String),
    /// What was asked for, or 0.
    Number(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        let log = Log::default();
        lines.iter().for_each(|line| log.line(Priority::INFO, format_args!("{line}")));
        log
    }

    #[test]
    fn a_mark_outlives_the_lines_before_it() {
        let log = log(&["first"]);
        let mark = log.mark();
        for number in 0..KEPT {
            log.line(Priority::INFO, format_args!("{number}"));
        }
        let lines = log.since(mark);
        assert_eq!((lines.len(), lines[0].as_str()), (KEPT, "0"));
        log.line(Priority::INFO, format_args!("one more"));
        assert_eq!(log.since(mark).len(), KEPT);
        assert_eq!(log.since(log.mark()), [""; 0]);
    }

    #[test]
    fn records_are_read_one_by_one() {
        let log = log(&["first"]);
        log.write(b"<3>of a program\n").unwrap();
        let (mut next, mut bytes) = (0, [0; 64]);
        let mut read = |bytes: &mut [u8]| {
            log.read(&mut next, bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned())
        };
        assert_eq!(read(&mut bytes[..8]), Err(Errno::EINVAL));
        let first = read(&mut bytes).unwrap();
        assert!(first.starts_with("6,0,") && first.ends_with(",-;first\n"), "{first}");
        let second = read(&mut bytes).unwrap();
        assert!(second.starts_with("11,1,") && second.ends_with(",-;of a program\n"), "{second}");
        assert_eq!(read(&mut bytes), Err(Errno::EAGAIN));
        for number in 0..KEPT {
            log.line(Priority::INFO, format_args!("{number}"));
        }
        let (mut late, mut bytes) = (1, [0; 64]);
        assert_eq!(log.read(&mut late, &mut bytes), Err(Errno::EPIPE));
        assert_eq!(late, 2);
    }

    #[test]
    fn the_newest_lines_that_there_is_room_for() {
        let log = log(&["one", "two", "three"]);
        let text = |action, length| match log.call(action, length) {
            Ok(Told::Text(text)) => {
                text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(text(3, 1 << 20), ["one", "two", "three"]);
        assert_eq!(text(3, 50), ["two", "three"]);
        assert_eq!(text(2, 30), ["one"]);
        assert_eq!(text(4, 1 << 20), ["one", "two", "three"]);
        assert_eq!(text(3, 1 << 20), [""; 0]);
        assert_eq!(text(2, 1 << 20), ["two", "three"]);
        assert_eq!(log.call(2, 1 << 20), Err(Errno::EAGAIN));
        assert_eq!(log.call(9, 0), Ok(Told::Number(0)));
        assert_eq!(log.call(11, 0), Err(Errno::EINVAL));
    }
}
