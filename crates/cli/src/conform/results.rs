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

/// What came of one row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
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
    fn new(report: &Report) -> Self {
        let Report { row, verdict, got, .. } = report;
        let (id, expected) = (row.id.to_owned(), row.expect.to_owned());
        match verdict.clone() {
            Verdict::Pass => Entry { id, status: Status::Pass, expected, got: got.clone(), reason: None },
            Verdict::Fail { expected, got } => {
                Entry { id, status: Status::Fail, expected, got: Some(got), reason: None }
            }
            Verdict::NotApplicable(reason) => {
                Entry { id, status: Status::NotApplicable, expected, got: None, reason: Some(reason) }
            }
        }
    }
}
