//! One interrupt vector, to wait for.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use sys::Sys;

use crate::error::Attempt;
use crate::reach::UioEvents;
use crate::{Errno, InterruptKind, Result};

/// One interrupt vector: a file that counts how often it fired.
///
/// It may outlive the device; nothing comes any more then. In the mode `uio` nobody can open the device until it is gone.
pub struct Interrupt<S: Sys> {
    sys: S,
    events: Events<S>,
    kind: InterruptKind,
    index: u32,
}

/// Where the count is.
enum Events<S: Sys> {
    Eventfd(OwnedFd),
    Uio(Arc<UioEvents<S>>),
}

impl<S: Sys> Interrupt<S> {
    /// A vector that VFIO signals by an eventfd.
    pub(crate) fn eventfd(sys: &S, kind: InterruptKind, index: u32) -> Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|answer| refused("eventfd", kind, index, answer))
            .attempt(|| "cannot make an eventfd".to_owned())?;
        Ok(Interrupt { sys: sys.clone(), events: Events::Eventfd(event), kind, index })
    }

    /// The line, as UIO tells of it.
    pub(crate) fn uio(sys: &S, events: Arc<UioEvents<S>>) -> Self {
        Interrupt { sys: sys.clone(), events: Events::Uio(events), kind: InterruptKind::Line, index: 0 }
    }

    /// The kind of interrupt.
    #[must_use]
    pub fn kind(&self) -> InterruptKind {
        self.kind
    }

    /// Which vector.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Waits until it has fired: how often since it was last taken, or `None` when the time is over. Without a
    /// `timeout` it waits without end.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(count) = self.try_take()? {
                return Ok(Some(count));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let ready = self
                .sys
                .wait(&[self.as_fd()], left)
                .attempt(|| format!("cannot wait for {} vector {}", self.kind, self.index))?;
            // Time that is over is over only after a last look.
            if !ready.contains(&true) && left.is_some_and(|left| left.is_zero()) {
                return self.try_take();
            }
        }
    }

    /// How often it has fired since it was last taken; `None` if it has not.
    pub fn try_take(&self) -> Result<Option<u64>> {
        match &self.events {
            Events::Eventfd(event) => self.take_eventfd(event),
            Events::Uio(events) => events.try_take(),
        }
        .attempt(|| format!("cannot read how often {} vector {} has fired", self.kind, self.index))
    }

    fn take_eventfd(&self, event: &OwnedFd) -> sys::Result<Option<u64>> {
        let mut count = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(event, &mut count)) {
            Ok(_) => Ok(Some(u64::from_ne_bytes(count))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(answer) => Err(refused("read", self.kind, self.index, answer)),
        }
    }
}

impl<S: Sys> AsFd for Interrupt<S> {
    /// The file that is readable when it has fired, to hand to any runtime: an eventfd, or the node of UIO. After it is
    /// readable, [`Interrupt::try_take`] resets it.
    ///
    /// On an embedded machine whose device models run inline, models work only while this crate waits; a foreign
    /// runtime needs devices that run on threads.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.events {
            Events::Eventfd(event) => event.as_fd(),
            Events::Uio(events) => events.as_fd(),
        }
    }
}

impl<S: Sys> fmt::Debug for Interrupt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({} vector {})", self.kind, self.index)
    }
}

fn refused(call: &'static str, kind: InterruptKind, index: u32, answer: rustix::io::Errno) -> sys::Error {
    let errno = Errno::from_raw(answer.raw_os_error()).unwrap_or(Errno::EIO);
    sys::Error::new(call, format_args!("eventfd of {kind} vector {index}"), errno)
}
