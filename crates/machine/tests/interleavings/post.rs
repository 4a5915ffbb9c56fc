//! Devices post while somebody takes what they posted.

use std::sync::Arc;

use loom::thread;
use subsystem::Function;

use crate::explore;
use crate::outbox::Outbox;

#[test]
fn what_is_posted_is_taken_once() {
    explore(|| {
        let outbox = Arc::new(Outbox::default());
        let devices = [1, 2].map(|number| {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                outbox.post(Function(number));
                // As a device thread does after each turn.
                if outbox.waits() { outbox.take() } else { Vec::new() }
            })
        });
        let mut taken = outbox.take();
        devices.into_iter().for_each(|device| taken.extend(device.join().unwrap()));
        assert!(!outbox.waits(), "whoever posts last takes what is left");
        taken.sort_by_key(|function| function.0);
        assert_eq!(taken, [Function(1), Function(2)]);
    });
}
