//! Keeps what the checks found.
#![forbid(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::finding::Finding;
use crate::lock::lock;

/// What becomes of an access that a device was not entitled to. It is a finding either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is aborted: a read gives all ones, a write is dropped, and the model is told.
    #[default]
    Enforce,
    /// It is made if it falls on machine RAM that is in use, else dropped. What the device cannot send at all (bus
    /// mastering off, more address bits than it has) is aborted here too.
    Report,
}

/// How many findings are kept.
const KEPT: usize = 1000;

/// The findings of a machine.
#[derive(Debug)]
pub(crate) struct Checker {
    mode: Mode,
    calls: AtomicU64,
    count: AtomicU64,
    kept: Mutex<Vec<Finding>>,
}

impl Checker {
    /// No findings yet.
    #[must_use]
    pub(crate) fn new(mode: Mode) -> Self {
        Checker { mode, calls: AtomicU64::new(0), count: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// What becomes of the accesses.
    #[must_use]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The first findings, oldest first; no more than a thousand are kept.
    #[must_use]
    pub(crate) fn findings(&self) -> Vec<Finding> {
        lock(&self.kept).clone()
    }

    /// How many there were: the run has failed if there were any.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A call of the program begins: in calls, findings tell how long ago a thing happened.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, finding: Finding) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut kept = lock(&self.kept);
        if kept.len() < KEPT {
            kept.push(finding);
        }
    }
}
