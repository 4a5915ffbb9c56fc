//! What threads do to each other where they share no lock, in every order that the memory model allows: explored by `loom`.
//!
//! The files under test are those of the crate. Here their `crate::sync` holds atomics and threads of the model checker.

mod sync {
    pub(crate) use loom::sync::{Mutex, atomic};
    pub(crate) use loom::thread;
}

#[expect(dead_code, unreachable_pub, reason = "the machine uses more of it, and shows it to models")]
#[path = "../../src/bus/doorbells.rs"]
mod doorbells;
#[path = "../../src/dma/gate.rs"]
mod gate;
#[path = "../../src/bus/outbox.rs"]
mod outbox;
#[path = "../../src/bus/parker.rs"]
mod parker;
#[path = "../../src/ram/table.rs"]
mod table;

mod access;
mod post;
mod sleep;

/// Explores what `run` does, in every order that takes a thread off the processor against its will no more than three times:
/// few enough to be through in seconds, and more than any known fault of such code needs.
fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(run);
}
