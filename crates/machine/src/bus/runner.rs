//! The thread that a device model runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::PciFunction;
use crate::model::Work;

/// How long an idle thread looks for work before it sleeps: longer than a busy driver takes between two commands, and
/// short enough that a machine at rest costs nothing.
const LINGER: Duration = Duration::from_micros(50);

/// A running thread; dropping it ends the thread after the piece of work that it is at.
pub(crate) struct Runner {
    function: Arc<PciFunction>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// Runs the model of `function` on a thread of its own. `after` is called after each turn, with no lock held.
    pub(crate) fn spawn(
        function: Arc<PciFunction>,
        after: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (worker, stopped) = (Arc::clone(&function), Arc::clone(&stop));
        let thread = thread::Builder::new().name(function.address().to_string()).spawn(move || {
            let _first = worker.thread.set(thread::current());
            while !stopped.load(Ordering::SeqCst) {
                let work = worker.turn();
                after();
                if work == Work::Idle && !linger(&worker) {
                    sleep(&worker, &stopped);
                }
            }
        })?;
        Ok(Runner { function, stop, thread: Some(thread) })
    }
}

/// Looks for work for a short while. True if there is some.
fn linger(function: &PciFunction) -> bool {
    let end = Instant::now() + LINGER;
    while Instant::now() < end {
        if function.turn() == Work::More {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Sleeps until somebody writes to a register. It says so first and looks once more then, so that no write is missed.
fn sleep(function: &PciFunction, stop: &AtomicBool) {
    function.asleep.store(true, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if function.turn() == Work::More {
        function.asleep.store(false, Ordering::SeqCst);
        return;
    }
    while function.asleep.load(Ordering::SeqCst) && !stop.load(Ordering::SeqCst) {
        thread::park();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.function.wake();
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // The thread itself drops the last handle if that is its own: it ends by itself then.
        if thread.thread().id() != thread::current().id() {
            // A panic of the model is caught on the thread; there is nothing else to learn from it.
            let _joined = thread.join();
        }
    }
}
