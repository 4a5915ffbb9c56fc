//! The thread of a device goes to sleep while somebody rings its doorbells. One that is never woken is a deadlock, which
//! `loom` finds.

use std::sync::Arc;

use loom::thread;

use crate::doorbells::Doorbells;
use crate::explore;
use crate::parker::Parker;

#[test]
fn no_doorbell_is_missed() {
    explore(|| {
        let shared = Arc::new((Doorbells::new(4), Parker::default()));
        let device = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (doorbells, parker) = &*shared;
                parker.begin();
                let mut seen = 0;
                while seen < 2 {
                    let value = doorbells.load(0);
                    if value == seen {
                        parker.park(|| doorbells.load(0) != seen);
                    }
                    seen = value;
                }
            }
        });
        let (doorbells, parker) = &*shared;
        for value in 1..=2 {
            doorbells.store(0, value);
            parker.wake_if_asleep();
        }
        device.join().unwrap();
    });
}

/// With two drivers, or two queues of one.
#[test]
fn no_doorbell_of_several_is_missed() {
    explore(|| {
        let shared = Arc::new((Doorbells::new(8), Parker::default()));
        let device = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (doorbells, parker) = &*shared;
                parker.begin();
                let all = || doorbells.load(0) + doorbells.load(4);
                let mut seen = 0;
                while seen < 2 {
                    let value = all();
                    if value == seen {
                        parker.park(|| all() != seen);
                    }
                    seen = value;
                }
            }
        });
        let driver = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.0.store(4, 1);
                shared.1.wake_if_asleep();
            }
        });
        shared.0.store(0, 1);
        shared.1.wake_if_asleep();
        driver.join().unwrap();
        device.join().unwrap();
    });
}

#[test]
fn a_thread_that_is_to_end_does_not_sleep_on() {
    explore(|| {
        let parker = Arc::new(Parker::default());
        // The second thread is another one, as after a fork.
        for _ in 0..2 {
            parker.renew();
            let device = thread::spawn({
                let parker = Arc::clone(&parker);
                move || {
                    parker.begin();
                    while !parker.is_over() {
                        parker.park(|| false);
                    }
                }
            });
            parker.end();
            device.thread().unpark();
            device.join().unwrap();
        }
    });
}
