//! Descriptors that the machine keeps for itself, as opposed to those of the program in whose process it is: which they are matters to
//! whoever forks a process that keeps the machine alone.
#![forbid(unsafe_code)]

use crate::lock::lock;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Mutex;

static NUMBERS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The numbers of the descriptors that the machines of this process keep.
#[must_use]
pub fn kept_descriptors() -> Vec<RawFd> {
    lock(&NUMBERS).iter().copied().collect()
}

/// A file that the machine keeps open.
#[derive(Debug)]
pub(crate) struct Kept<F: AsFd>(F);

impl<F: AsFd> Kept<F> {
    pub(crate) fn new(file: F) -> Self {
        lock(&NUMBERS).insert(file.as_fd().as_raw_fd());
        Kept(file)
    }
}

impl<F: AsFd> Drop for Kept<F> {
    // The number is forgotten first: once the file is closed it may be another one's.
    fn drop(&mut self) {
        lock(&NUMBERS).remove(&self.0.as_fd().as_raw_fd());
    }
}

impl<F: AsFd> Deref for Kept<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: AsFd> AsFd for Kept<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
