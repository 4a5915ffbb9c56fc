//! When devices work: on threads of their own, or inside calls.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Machine, Shared};
use crate::bus::{Outbox, Runner};
use crate::lock::lock;
use crate::model::Work;

/// How long a caller may sleep while there are devices that work inside calls only: the longest that they wait for their turn.
const SLICE: Duration = Duration::from_millis(10);

impl Machine {
    /// Starts the threads of the devices that have one, where they do not run already.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started; its device and those behind it have none then.
    pub fn start_threads(&self) -> io::Result<()> {
        let mut runners = lock(&self.shared.runners);
        for function in self.shared.threaded.iter().skip(runners.len()) {
            let shared = Arc::downgrade(&self.shared);
            let outbox = Arc::clone(self.world().bus().outbox());
            let address = function.address();
            let runner = Runner::spawn(Arc::clone(function), move || settle(&outbox, &shared));
            runners.push(runner.map_err(|error| {
                io::Error::new(error.kind(), format!("device {address}: cannot start its thread: {error}"))
            })?);
        }
        Ok(())
    }

    /// Ends the threads of devices, each between two pieces of work. What is left to do they do when they start again: after a fork, in which
    /// a thread would be lost with whatever lock it holds.
    pub fn stop_threads(&self) {
        lock(&self.shared.runners).clear();
    }

    /// Devices that work inside calls only get their turn. Answers how long a caller who waits for one of them may sleep before it asks again;
    /// `None` if there are no such devices.
    #[must_use]
    pub fn take_turns(&self) -> Option<Duration> {
        match self.shared.settle() {
            Work::More => Some(Duration::ZERO),
            Work::Idle if self.shared.inline.is_empty() => None,
            Work::Idle => Some(SLICE),
        }
    }
}

/// After a turn of a device thread. Once the machine is going there is nobody left to tell.
fn settle(outbox: &Outbox, shared: &Weak<Shared>) {
    if outbox.waits()
        && let Some(shared) = shared.upgrade()
    {
        shared.settle();
    }
}
