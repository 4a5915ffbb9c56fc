//! The thread that a device model runs on.

use std::sync::Arc;
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
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// Runs the model of `function` on a thread of its own. `after` is called after each turn, with no lock held.
    pub(crate) fn spawn(
        function: Arc<PciFunction>,
        after: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        function.parker.renew();
        let worker = Arc::clone(&function);
        let thread = thread::Builder::new().name(function.address().to_string()).spawn(move || {
            worker.parker.begin();
            while !worker.parker.is_over() {
                let work = worker.turn();
                after();
                if work == Work::Idle && !linger(&worker) {
                    worker.parker.park(|| worker.turn() == Work::More);
                }
            }
        })?;
        Ok(Runner { function, thread: Some(thread) })
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

impl Drop for Runner {
    fn drop(&mut self) {
        self.function.parker.end();
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // The thread itself drops the last handle if that is its own: it ends by itself then.
        if thread.thread().id() != thread::current().id() {
            // A panic of the model is caught on the thread; there is nothing else to learn from it.
            let _joined = thread.join();
        }
    }
}
