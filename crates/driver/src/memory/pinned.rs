//! Memory that a device was given.
#![forbid(unsafe_code)]

use std::sync::Arc;

use sys::{Memory, Sys};

use super::addressing::Addressing;
use crate::Iova;

/// Memory that a device was given. It is taken back, then freed.
pub(super) struct Pinned<S: Sys> {
    pub(super) addressing: Arc<Addressing<S>>,
    pub(super) iova: Iova,
    pub(super) memory: Memory,
}

impl<S: Sys> Drop for Pinned<S> {
    fn drop(&mut self) {
        self.addressing.unmap(self.iova, self.memory.length());
    }
}
