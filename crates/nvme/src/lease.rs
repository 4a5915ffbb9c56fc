//! What a pair of I/O queues has of the controller for as long as it lives.

use std::sync::Arc;

use ioasis::{Interrupt, Sys};

use crate::error::{Error, Result};
use crate::link::Link;

/// How a queue tells that commands have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completions {
    /// It does not: the completion queue is polled.
    Polled,
    /// By an MSI-X vector of its own.
    Interrupt,
}

/// A queue ID, and an interrupt vector if the queue has one. Dropping it gives both back.
pub(crate) struct Lease<S: Sys> {
    pub(crate) id: u16,
    pub(crate) interrupt: Option<Interrupt<S>>,
    pub(crate) link: Arc<Link<S>>,
    lost: bool,
}

impl<S: Sys> Lease<S> {
    pub(crate) fn take(link: &Arc<Link<S>>, completions: Completions) -> Result<Self> {
        let argument = |what: &str| Error::Argument { device: link.name(), what: what.to_owned() };
        let mut spare = link.spare();
        let id =
            *spare.ids.last().ok_or_else(|| argument("all I/O queue pairs of the controller are in use"))?;
        let interrupt = match completions {
            Completions::Polled => None,
            Completions::Interrupt => {
                let none = || argument("no MSI-X vector is left; ask for more in Controller::new");
                Some(spare.vectors.pop().ok_or_else(none)?)
            }
        };
        spare.ids.pop();
        Ok(Lease { id, interrupt, link: Arc::clone(link), lost: false })
    }

    /// Gives nothing back: the controller still has a queue of that ID.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }
}

impl<S: Sys> Drop for Lease<S> {
    fn drop(&mut self) {
        if !self.lost {
            let mut spare = self.link.spare();
            spare.ids.push(self.id);
            spare.vectors.extend(self.interrupt.take());
        }
    }
}
