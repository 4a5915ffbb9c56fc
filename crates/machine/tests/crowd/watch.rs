//! Threads, and somebody who sees to it that none of them is stuck.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;

/// How long a thread may take for one step before it counts as stuck: far longer than any takes on a loaded machine.
const STUCK: Duration = Duration::from_secs(120);

/// What a thread does, and what it does it with: one round, again and again.
pub(crate) type Actor<'a> = (&'static str, Box<dyn FnMut(&Step, &mut Random) + Send + 'a>);

/// What a thread is doing at the moment.
#[derive(Default)]
pub(crate) struct Step {
    what: Mutex<&'static str>,
    count: AtomicU64,
    done: AtomicBool,
}

impl Step {
    pub(crate) fn now(&self, what: &'static str) {
        *self.what.lock().unwrap() = what;
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has the actors do their rounds for some time, each on a thread; how many each has done. If one is stuck, the process ends
/// with an account of what all of them were doing.
pub(crate) fn run<const N: usize>(actors: [Actor<'_>; N], time: Duration) -> [u64; N] {
    let (steps, over) = (std::array::from_fn(|_| Step::default()), AtomicBool::new(false));
    let steps: &[Step; N] = &steps;
    let names = actors.each_ref().map(|(name, _)| *name);
    let mut seeds = 0..;
    thread::scope(|scope| {
        let mut at = steps.iter();
        let threads = actors.map(|(_, mut act)| {
            let (step, over) = (at.next().expect("one for each"), &over);
            let mut random = Random(seeds.next().expect("there are enough"));
            scope.spawn(move || {
                let mut rounds = 0;
                let result = catch_unwind(AssertUnwindSafe(|| {
                    while !over.load(Ordering::Relaxed) {
                        act(step, &mut random);
                        rounds += 1;
                    }
                }));
                // The others are not to go on for long if this one has failed.
                over.store(true, Ordering::Relaxed);
                step.done.store(true, Ordering::Relaxed);
                result.map(|()| rounds)
            })
        });
        watch(steps, &names, (&over, Instant::now() + time));
        threads.map(|thread| match thread.join() {
            Ok(Ok(rounds)) => rounds,
            Ok(Err(panic)) | Err(panic) => resume_unwind(panic),
        })
    })
}

/// Returns when all threads are done.
fn watch(steps: &[Step], names: &[&str], (over, end): (&AtomicBool, Instant)) {
    let mut seen = vec![(0, Instant::now()); steps.len()];
    while steps.iter().any(|step| !step.done.load(Ordering::Relaxed)) {
        thread::sleep(Duration::from_millis(10));
        if Instant::now() >= end {
            over.store(true, Ordering::Relaxed);
        }
        for (step, (last, since)) in steps.iter().zip(&mut seen) {
            let count = step.count.load(Ordering::Relaxed);
            if count != *last {
                (*last, *since) = (count, Instant::now());
            }
            if !step.done.load(Ordering::Relaxed) && since.elapsed() > STUCK {
                tell(steps, names);
                std::process::exit(101);
            }
        }
    }
}

fn tell(steps: &[Step], names: &[&str]) {
    eprintln!("a thread is stuck; what each one was doing:");
    for (step, name) in steps.iter().zip(names) {
        let done = if step.done.load(Ordering::Relaxed) { " (and is through)" } else { "" };
        eprintln!("  {name}: {}{done}", step.what.lock().unwrap());
    }
}
