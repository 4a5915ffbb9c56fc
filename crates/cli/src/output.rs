//! What a command prints, and files that appear whole or not at all.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use tempfile::NamedTempFile;

/// Prints text to standard output. A reader that went away is an error, not a panic.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| refused("standard output", error))
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// An empty table that fits the terminal, or is as wide as its content in a pipe.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// A file that is being written.
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// A device, a pipe: written in place.
    Stream(PathBuf, File),
    /// A regular file: written under another name, and renamed when it is whole.
    Whole(PathBuf, NamedTempFile),
}

impl Output {
    /// Opens an output; `-` is standard output.
    pub(crate) fn create(path: &Path) -> Result<Output> {
        if path == Path::new("-") {
            if stdout().is_terminal() {
                bail!("standard output is a terminal; name a file with -o, or pipe it somewhere");
            }
            return Ok(Output::Stdout);
        }
        let cannot = || format!("cannot write {}", path.display());
        match path.metadata() {
            Ok(data) if data.is_dir() => bail!("cannot write {}: it is a directory", path.display()),
            Ok(data) if !data.is_file() => {
                let file = File::options().write(true).open(path).with_context(cannot)?;
                Ok(Output::Stream(path.to_owned(), file))
            }
            _ => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let file = NamedTempFile::with_prefix_in(".ioasis-", folder.unwrap_or(Path::new(".")))
                    .with_context(cannot)?;
                Ok(Output::Whole(path.to_owned(), file))
            }
        }
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Output::Stdout => {
                stdout().lock().write_all(bytes).map_err(|error| refused("standard output", error))
            }
            Output::Stream(path, file) => {
                file.write_all(bytes).map_err(|error| refused(path.display(), error))
            }
            Output::Whole(path, file) => {
                file.as_file_mut().write_all(bytes).map_err(|error| refused(path.display(), error))
            }
        }
    }

    /// The file is whole: lets it appear, durable.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Output::Stdout => stdout().lock().flush().map_err(|error| refused("standard output", error)),
            Output::Stream(..) => Ok(()),
            Output::Whole(path, file) => {
                readable_by_umask(file.as_file());
                file.as_file().sync_all().map_err(|error| refused(path.display(), error))?;
                file.persist(&path).map(drop).map_err(|error| refused(path.display(), error.error))
            }
        }
    }
}

/// A temporary file is its owner's alone; a finished one is what any new file would be.
fn readable_by_umask(file: &File) {
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let mode = rustix::fs::Mode::from_raw_mode(0o666) - umask;
    // A file system without permissions has none to set.
    let _ = rustix::fs::fchmod(file, mode);
}

fn refused(object: impl std::fmt::Display, error: io::Error) -> Error {
    let what = match error.kind() {
        ErrorKind::BrokenPipe => "its reader went away before the end".to_owned(),
        ErrorKind::StorageFull => "the disk is full; nothing of it was kept".to_owned(),
        _ => error.to_string(),
    };
    Error::msg(format!("cannot write {object}: {what}"))
}
