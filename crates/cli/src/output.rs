//! What a command prints, and files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use comfy_table::{ContentArrangement, Table, presets};
use ioasis::PassedOver;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::stop::{StopFlag, is_ready};

const STDOUT: &str = "standard output";

/// Prints text to standard output. A reader that went away is an error, not a panic.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| refused(STDOUT, "", error))
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints a line to standard error.
pub(crate) fn complain(line: &str) {
    // Where standard error does not take it there is nobody left to tell.
    let _ = writeln!(stderr(), "{line}");
}

/// An empty table that fits the terminal, or is as wide as its content in a pipe and where the terminal does not know its
/// width, as a serial one.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if stdout().is_terminal() && table.width() != Some(0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Two columns, of names and values, as lines that fit the terminal.
pub(crate) fn print_facts<N: Into<String>>(facts: impl IntoIterator<Item = (N, String)>) -> Result<()> {
    let mut table = table();
    for (name, value) in facts {
        table.add_row([name.into(), value]);
    }
    print(&format!("{}\n", table.trim_fmt()))
}

/// The modes that were not taken, for programs.
pub(crate) fn passed_over_json(passed_over: &[PassedOver]) -> Value {
    passed_over.iter().map(|it| json!({ "mode": it.mode.name(), "reason": it.reason })).collect()
}

/// A file that is being written.
pub(crate) enum Output {
    /// Standard output, a device, a pipe: written in place.
    Stream { name: String, file: File },
    /// A regular file: written under another name, and renamed when it is whole.
    Whole { path: PathBuf, file: NamedTempFile },
}

impl Output {
    /// Opens an output; `-` is standard output. A pipe without a reader is waited for until somebody asks to stop.
    pub(crate) fn create(path: &Path, stop: &StopFlag) -> Result<Output> {
        let cannot = || format!("cannot write {}", path.display());
        if path == Path::new("-") {
            if stdout().is_terminal() {
                bail!("{STDOUT} is a terminal; name a file with -o, or pipe it somewhere");
            }
            let file = stdout().as_fd().try_clone_to_owned().with_context(cannot)?.into();
            return Ok(Output::Stream { name: STDOUT.to_owned(), file });
        }
        match path.metadata() {
            Ok(data) if data.is_dir() => bail!("cannot write {}: it is a directory", path.display()),
            Ok(data) if !data.is_file() => {
                let file = if data.file_type().is_fifo() {
                    open_fifo(path, stop)
                } else {
                    File::options().write(true).open(path).map_err(Error::from)
                }
                .with_context(cannot)?;
                Ok(Output::Stream { name: path.display().to_string(), file })
            }
            Ok(_) => {
                // What may not be written is not replaced either.
                File::options().write(true).open(path).with_context(cannot)?;
                // What a link leads to is replaced, not the link.
                Self::whole(&path.canonicalize().with_context(cannot)?)
            }
            Err(_) => Self::whole(path),
        }
        .with_context(cannot)
    }

    fn whole(path: &Path) -> Result<Output> {
        path.file_name().context("it names no file")?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".ioasis-part-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Output::Whole { path: path.to_owned(), file })
    }

    /// Writes bytes, unless somebody asks to stop.
    pub(crate) fn write(&mut self, bytes: &[u8], stop: &StopFlag) -> Result<()> {
        stop.check()?;
        let written = match self {
            Output::Stream { file, .. } => write_stream(file, bytes, stop),
            Output::Whole { file, .. } => file.as_file_mut().write_all(bytes),
        };
        written.map_err(|error| self.refused(error))?;
        // What was asked for while a stream was written left it incomplete.
        stop.check()
    }

    /// The file is whole: lets it appear, durable.
    pub(crate) fn finish(self) -> Result<()> {
        let Output::Whole { path, file } = self else { return Ok(()) };
        file.as_file()
            .sync_all()
            .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error))
            .map_err(|error| refused(path.display(), "; it was not written", error))
    }

    /// What there is of it if it ends before it is whole.
    pub(crate) fn remains(&self) -> String {
        match self {
            Output::Stream { name, .. } => format!("{name} got only a part"),
            Output::Whole { path, .. } => format!("{} was not written", path.display()),
        }
    }

    fn refused(&self, error: io::Error) -> Error {
        match self {
            Output::Stream { name, .. } => refused(name, "", error),
            Output::Whole { path, .. } => refused(path.display(), "; it was not written", error),
        }
    }
}

/// Opens a named pipe. Without a reader the system would wait for one, and not let go at a signal.
fn open_fifo(path: &Path, stop: &StopFlag) -> Result<File> {
    const A_MOMENT: Duration = Duration::from_millis(20);
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    loop {
        stop.check()?;
        match File::options().write(true).custom_flags(nonblocking).open(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => sleep(A_MOMENT),
            opened => return Ok(opened?),
        }
    }
}

/// Writes until all is written or somebody asks to stop.
fn write_stream(file: &mut File, bytes: &[u8], stop: &StopFlag) -> io::Result<()> {
    /// What a pipe that is ready takes without blocking (`PIPE_BUF`, `pipe(7)`).
    const PIECE: usize = 4096;
    let mut rest = bytes;
    while !rest.is_empty() && !stop.is_raised() {
        if !is_ready(file, PollFlags::OUT)? {
            continue;
        }
        match file.write(&rest[..rest.len().min(PIECE)]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refused(object: impl std::fmt::Display, outcome: &str, error: io::Error) -> Error {
    let what = match error.kind() {
        ErrorKind::BrokenPipe => "its reader went away before the end".to_owned(),
        ErrorKind::StorageFull => "the disk is full".to_owned(),
        ErrorKind::FileTooLarge => {
            "it would be larger than the file system or the limit of this process (ulimit -f) allows"
                .to_owned()
        }
        _ => error.to_string(),
    };
    Error::msg(format!("cannot write {object}: {what}{outcome}"))
}
