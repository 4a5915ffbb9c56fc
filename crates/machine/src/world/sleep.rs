//! Waiting until the users of a function are gone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use subsystem::{Function, Slept};

use crate::bus::Event;

/// How it is asked whether a signal has come for the calling thread, where signals interrupt no call.
static INTERRUPTED: OnceLock<fn() -> bool> = OnceLock::new();
/// How often.
const SLICE: Duration = Duration::from_millis(10);

/// From now on sleepers ask whether they are interrupted: signals do not do it, in threads that have them blocked.
pub fn ask_for_interruptions(interrupted: fn() -> bool) {
    let _first = INTERRUPTED.set(interrupted);
}

/// One sleeper for each function: whoever unbinds its driver.
pub(super) struct Sleepers(Vec<Sleeper>);

struct Sleeper {
    /// Wakes the sleeper, or the next one: an eventfd, so that a signal interrupts the sleep as it does in a kernel.
    wake: Event,
    /// A signal has come already.
    interrupted: AtomicBool,
}

impl Sleepers {
    pub(super) fn new(functions: usize) -> rustix::io::Result<Self> {
        let sleeper = |_| Ok(Sleeper { wake: Event::create()?, interrupted: AtomicBool::new(false) });
        Ok(Sleepers((0..functions).map(sleeper).collect::<Result<_, Errno>>()?))
    }

    /// A new wait begins, which a signal may interrupt once.
    pub(super) fn begin(&self, function: Function) {
        if let Some(sleeper) = self.0.get(function.0 as usize) {
            sleeper.interrupted.store(false, Ordering::SeqCst);
        }
    }

    pub(super) fn wake(&self, function: Function) {
        if let Some(sleeper) = self.0.get(function.0 as usize) {
            sleeper.wake.signal();
        }
    }

    pub(super) fn sleep(&self, function: Function, seconds: u32) -> Slept {
        let Some(sleeper) = self.0.get(function.0 as usize) else { return Slept::Over };
        let end = Instant::now() + Duration::from_secs(u64::from(seconds));
        let interrupted = INTERRUPTED.get();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let slice = interrupted.map_or(left, |_| left.min(SLICE));
            let timeout = rustix::event::Timespec::try_from(slice).ok();
            let slept = match poll(&mut [PollFd::new(&sleeper.wake, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if interrupted.is_some_and(|interrupted| interrupted()) => Err(Errno::INTR),
                slept => slept,
            };
            match slept {
                Err(Errno::INTR) if !sleeper.interrupted.swap(true, Ordering::SeqCst) => {
                    return Slept::Interrupted;
                }
                Err(Errno::INTR) => {}
                Ok(0) if slice < left => {}
                Ok(_) | Err(_) => {
                    let _woken = sleeper.wake.take();
                    return Slept::Over;
                }
            }
        }
    }
}
