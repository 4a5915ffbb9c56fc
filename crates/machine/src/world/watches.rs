//! What waits for eventfds of the program.
#![forbid(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use subsystem::{Function, Watch};

use crate::bus::Event;
use crate::lock::lock;

/// The eventfds that something of a function waits for.
#[derive(Default)]
pub(super) struct Watches {
    some: AtomicBool,
    events: Mutex<Vec<(Function, Watch, Event)>>,
}

impl Watches {
    /// All of the events.
    pub(super) fn events(&self) -> Vec<Event> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        lock(&self.events).iter().map(|(.., event)| event.clone()).collect()
    }

    pub(super) fn set(&self, function: Function, watch: Watch, event: Option<Event>) {
        let mut events = lock(&self.events);
        events.retain(|(other, kind, _)| (*other, *kind) != (function, watch));
        events.extend(event.map(|event| (function, watch, event)));
        self.some.store(!events.is_empty(), Ordering::Release);
    }

    pub(super) fn take(&self) -> Vec<(Function, Watch)> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let events = lock(&self.events);
        // Several may wait for one eventfd: all are looked at before any is set back.
        let ready: Vec<_> = events.iter().filter(|(.., event)| event.is_signalled()).collect();
        let taken = ready.iter().map(|(function, watch, event)| {
            event.take();
            (*function, *watch)
        });
        taken.collect()
    }
}
