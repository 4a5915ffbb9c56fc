//! Asynchronous events (NVMe 1.4, section 5.2): requests that the host leaves with the controller, to be completed
//! when there is something to tell.

use super::command::Completion;
use super::status::Status;

/// Most requests that are kept.
pub(super) const LIMIT: usize = 4;

/// What an event is about. Reading the log page that belongs to it allows the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// An error that no command is to blame for.
    Error = 0,
    /// A critical warning.
    Health = 1,
}

impl EventKind {
    const ALL: [EventKind; 2] = [EventKind::Error, EventKind::Health];

    /// The log page that explains it.
    const fn log_page(self) -> u8 {
        match self {
            EventKind::Error => 0x01,
            EventKind::Health => 0x02,
        }
    }
}

/// Information of an error event: a doorbell was written that belongs to no queue.
pub(super) const WRITE_TO_INVALID_DOORBELL: u8 = 0x00;
/// Information of an error event: a doorbell was given a value that its queue cannot have.
pub(super) const INVALID_DOORBELL_VALUE: u8 = 0x01;
/// Information of a health event: the temperature passed a threshold.
pub(super) const TEMPERATURE_THRESHOLD: u8 = 0x01;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing happened.
    #[default]
    Quiet,
    /// To be told, with this information.
    Raised(u8),
    /// Told; what happens until the log page is read is found there.
    Told,
}

/// Requests and events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Command identifiers, oldest first.
    requests: Vec<u16>,
    aborted: Vec<u16>,
    states: [State; EventKind::ALL.len()],
}

impl Events {
    /// Takes a request.
    pub(super) fn request(&mut self, command: u16) -> Result<(), Status> {
        if self.requests.len() == LIMIT {
            return Err(Status::ASYNC_EVENT_LIMIT);
        }
        self.requests.push(command);
        Ok(())
    }

    /// Whether the request with this identifier is outstanding.
    pub(super) fn is_outstanding(&self, command: u16) -> bool {
        self.requests.contains(&command) || self.aborted.contains(&command)
    }

    /// Gives up a request. False if there is none of that identifier.
    pub(super) fn abort(&mut self, command: u16) -> bool {
        let Some(at) = self.requests.iter().position(|&request| request == command) else { return false };
        self.aborted.push(self.requests.remove(at));
        true
    }

    /// Something happened.
    pub(super) fn raise(&mut self, kind: EventKind, information: u8) {
        let state = &mut self.states[kind as usize];
        if *state == State::Quiet {
            *state = State::Raised(information);
        }
    }

    /// The host has read a log page, and thereby knows.
    pub(super) fn log_page_was_read(&mut self, page: u8) {
        for kind in EventKind::ALL {
            if kind.log_page() == page {
                self.states[kind as usize] = State::Quiet;
            }
        }
    }

    /// A request that can be completed now.
    pub(super) fn next(&mut self) -> Option<Completion> {
        if let Some(command) = self.aborted.pop() {
            return Some(Completion { result: 0, command, status: Status::ABORT_REQUESTED });
        }
        if self.requests.is_empty() {
            return None;
        }
        EventKind::ALL.into_iter().find_map(|kind| {
            let State::Raised(information) = self.states[kind as usize] else { return None };
            self.states[kind as usize] = State::Told;
            let result = kind as u32 | u32::from(information) << 8 | u32::from(kind.log_page()) << 16;
            Some(Completion { result, command: self.requests.remove(0), status: Status::SUCCESS })
        })
    }
}
