//! What was asked of the system, in order.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uapi::Errno;

/// A call that was made, or a run of equal calls on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The system call or ioctl, such as `IOMMU_IOAS_MAP`.
    pub call: &'static str,
    /// What it was made on.
    pub object: PathBuf,
    /// How many times in a row.
    pub times: u64,
    /// What the last of them answered: a few words, or the errno.
    pub answer: Result<String, Errno>,
    /// How long all of them took.
    pub duration: Duration,
}

/// Where steps are recorded, if anywhere. Cloning gives another handle; it may outlive the device, and then shows how
/// that was closed.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Mutex<Vec<Step>>>>);

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Trace(on.then(Arc::default))
    }

    /// What was recorded so far, in order; nothing unless [`Options::trace`](crate::Options::trace) is on.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        match &self.0 {
            Some(steps) => steps.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => Vec::new(),
        }
    }

    /// Makes a call and records it; `words` tells what it answered.
    pub(crate) fn record<T>(
        &self,
        call: &'static str,
        object: impl FnOnce() -> PathBuf,
        make: impl FnOnce() -> sys::Result<T>,
        words: impl FnOnce(&T) -> String,
    ) -> sys::Result<T> {
        let Some(steps) = &self.0 else {
            return make();
        };
        let start = Instant::now();
        let result = make();
        let duration = start.elapsed();
        let answer = result.as_ref().map(words).map_err(sys::Error::errno);
        let object = object();
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        match steps.last_mut() {
            Some(last) if last.call == call && last.object == object && last.answer.is_ok() => {
                last.times += 1;
                last.answer = answer;
                last.duration += duration;
            }
            _ => steps.push(Step { call, object, times: 1, answer, duration }),
        }
        result
    }
}
