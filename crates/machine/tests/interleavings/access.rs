//! A device accesses memory while it is taken away.

use std::ptr::{NonNull, without_provenance_mut};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;

use crate::explore;
use crate::gate::Gate;
use crate::table::{Place, Table};

/// A page that a device may reach until it is taken away. `loom` panics if an access overlaps that, or is not ordered with
/// it.
#[derive(Default)]
struct Page(UnsafeCell<()>);

// SAFETY: there is nothing in the cell but what `loom` notes of its uses, and it runs one thread at a time.
unsafe impl Sync for Page {}

impl Page {
    fn access(&self) {
        self.0.with(|_| ());
    }

    fn take_away(&self) {
        self.0.with_mut(|_| ());
    }
}

/// A page, whether it is mapped, and the gate of the device that it is mapped for.
struct Mapping {
    gate: Gate,
    mapped: Mutex<bool>,
    page: Page,
}

impl Mapping {
    fn new() -> Arc<Self> {
        Arc::new(Mapping { gate: Gate::new(), mapped: Mutex::new(true), page: Page::default() })
    }

    /// Accesses the page twice, if it may, and remembers between them whether it may, as a port does.
    fn access_twice(&self) {
        let mut known = (0, false);
        for _ in 0..2 {
            let inside = self.gate.enter();
            if known.0 != inside.epoch() {
                known = (inside.epoch(), *self.mapped.lock().unwrap());
            }
            if known.1 {
                self.page.access();
            }
        }
    }
}

#[test]
fn what_was_taken_away_is_not_accessed() {
    explore(|| {
        let mapping = Mapping::new();
        let device = thread::spawn({
            let mapping = Arc::clone(&mapping);
            move || mapping.access_twice()
        });
        *mapping.mapped.lock().unwrap() = false;
        mapping.gate.quiesce();
        mapping.page.take_away();
        device.join().unwrap();
    });
}

/// A device that is always in some access keeps nobody waiting.
#[test]
fn later_accesses_are_not_waited_for() {
    explore(|| {
        let gate = Arc::new(Gate::new());
        let taker = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.quiesce()
        });
        let later = loop {
            let inside = gate.enter();
            if inside.epoch() > 1 {
                break inside;
            }
            drop(inside);
            thread::yield_now();
        };
        taker.join().unwrap();
        drop(later);
    });
}

/// A frame is being moved: it is accessed where it is, or not at all.
#[test]
fn a_frame_that_moves_is_accessed_where_it_is() {
    explore(|| {
        let place = |number| Place::At(NonNull::new(without_provenance_mut(number)).expect("not null"));
        let shared = Arc::new((Gate::new(), Table::new(1), [Page::default(), Page::default()]));
        shared.1.set(0, place(0x2000));
        let device = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (gate, table, [before, after]) = &*shared;
                for _ in 0..2 {
                    let _inside = gate.enter();
                    match table.get(0) {
                        found if found == place(0x2000) => before.access(),
                        found if found == place(0x3000) => after.access(),
                        found => assert_eq!(found, Place::Moving),
                    }
                }
            }
        });
        let (gate, table, [before, after]) = &*shared;
        table.set(0, Place::Moving);
        gate.quiesce();
        before.take_away();
        after.take_away();
        table.set(0, place(0x3000));
        device.join().unwrap();
    });
}

/// A frame is mapped in two places, and one of them goes; or the only one does.
#[test]
fn a_frame_that_has_moved_is_not_accessed_where_it_was() {
    for left in [1, 0] {
        explore(move || {
            let start = |number| NonNull::<u8>::new(without_provenance_mut(number));
            let place = move |number| start(number).map_or(Place::Nowhere, Place::At);
            let shared = Arc::new((Gate::new(), Table::new(1), Page::default()));
            shared.1.set(0, place(0x2000));
            let device = thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let (gate, table, page) = &*shared;
                    for _ in 0..2 {
                        let _inside = gate.enter();
                        if table.get(0) == place(2) {
                            page.access();
                        }
                    }
                }
            });
            let (gate, table, page) = &*shared;
            table.set(0, place(left));
            gate.quiesce();
            page.take_away();
            device.join().unwrap();
        });
    }
}
