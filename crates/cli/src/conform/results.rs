//! What came of a run of the suite, as it is told to programs and read back from them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use conformance::{Report, Verdict};
use serde::{Deserialize, Serialize};

/// A run of the suite on one system.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Results {
    /// Which system it was, such as `Linux 7.3.4`.
    pub(super) system: String,
    pub(super) results: Vec<Entry>,
}

/// What came of one row in one of its modes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
    /// What it was asked with: a mode's name, such as `noiommu`.
    pub(super) mode: String,
    pub(super) status: Status,
    /// What the row expects.
    pub(super) expected: String,
    /// What the system did, if it came to that.
    pub(super) got: Option<String>,
    /// Why the row could not be asked.
    pub(super) reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    #[serde(rename = "pass")]
    Pass,
    #[serde(rename = "fail")]
    Fail,
    #[serde(rename = "n/a")]
    NotApplicable,
}

impl Results {
    pub(super) fn new(system: String, reports: &[Report]) -> Self {
        Results { system, results: reports.iter().map(Entry::new).collect() }
    }

    /// Reads what `conform --json` has printed.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} is not what `ioasis conform --json` prints", path.display()))
    }
}

impl Entry {
    /// What it is an answer to: the row and the mode.
    pub(super) fn key(&self) -> (&str, &str) {
        (&self.id, &self.mode)
    }

    fn new(report: &Report) -> Self {
        let Report { row, mode, verdict, got, .. } = report.clone();
        let (status, expected, got, reason) = match verdict {
            Verdict::Pass => (Status::Pass, row.expect.to_owned(), got, None),
            Verdict::Fail { expected, got } => (Status::Fail, expected, Some(got), None),
            Verdict::NotApplicable(reason) => {
                (Status::NotApplicable, row.expect.to_owned(), None, Some(reason))
            }
        };
        Entry { id: row.id.to_owned(), mode: mode.to_string(), status, expected, got, reason }
    }
}
