//! What is wrong with a machine file.

use std::fmt;
use std::path::{Path, PathBuf};

use super::PciAddress;

/// A machine cannot be built as specified: which file, which key, what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    file: Option<PathBuf>,
    line: Option<usize>,
    key: Option<&'static str>,
    problem: String,
}

impl SpecError {
    /// The value of a key does not do.
    pub(crate) fn key(key: &'static str, problem: impl fmt::Display) -> Self {
        SpecError { file: None, line: None, key: Some(key), problem: problem.to_string() }
    }

    /// Two devices have one address.
    pub(crate) fn duplicate(address: PciAddress) -> Self {
        Self::key("device.address", format_args!("\"{address}\" is given to two devices"))
    }

    /// The machine cannot be built for a reason that no single key has.
    pub(crate) fn other(problem: impl fmt::Display) -> Self {
        SpecError { file: None, line: None, key: None, problem: problem.to_string() }
    }

    /// The file cannot be read.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::other(format_args!("cannot read the machine file: {error}")).in_file(path)
    }

    /// The text is not what a machine file looks like.
    pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let line =
            error.span().map(|span| text.bytes().take(span.start).filter(|&byte| byte == b'\n').count() + 1);
        SpecError { file: None, line, key: None, problem: error.message().to_string() }
    }

    /// The same, in this file.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        SpecError { file: Some(path.to_path_buf()), ..self }
    }

    /// The key whose value does not do, such as `device.image`; `None` where the text itself is malformed, and the message
    /// names the line.
    #[must_use]
    pub fn key_name(&self) -> Option<&'static str> {
        self.key
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        match self.key {
            Some(key) => write!(f, "{key}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for SpecError {}
