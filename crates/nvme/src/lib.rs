//! An NVMe driver in userspace, written only with [`ioasis`].
//!
//! [`Controller::new`] brings a controller up; [`Controller::queue`] gives a pair of I/O queues, which take reads and writes
//! by the batch and are polled or waited for; [`Stream`] moves many blocks in order. Data goes straight between the
//! controller and [`ioasis::DmaBuffer`]s, whose pages need not be neighbours: PRP lists describe them page by page.
#![forbid(unsafe_code)]

mod controller;
mod error;
mod lease;
mod link;
mod prp;
mod queue;
mod registers;
mod ring;
mod spec;
mod status;
mod stream;

pub use controller::{Controller, ControllerInfo, Namespace};
pub use error::{Error, Result};
pub use queue::{Completion, Completions, Operation, Queue, Transfer};
pub use status::Status;
pub use stream::Stream;
