//! An NVMe driver in userspace, written only with [`ioasis`].
//!
//! [`Controller::new`] brings a controller up; [`Controller::queue`] gives a pair of I/O queues, which take
//! reads and writes by the batch and are polled or waited for; [`Stream`] moves many blocks in order. Data
//! goes straight between the controller and [`ioasis::DmaBuffer`]s, whose pages need not be neighbours: PRP
//! lists describe them page by page.
//!
//! ```
//! use std::time::Duration;
//!
//! use ioasis::{Device, DmaOptions, Options};
//! use machine::{Machine, MachineSpec};
//! use nvme::{Completions, Controller, Operation, Transfer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An embedded machine with one controller; `ioasis::Linux` in its place is the host.
//! let spec: MachineSpec =
//!     "device = [{ address = '0000:01:00.0', model = 'nvme', size = '1MiB' }]".parse()?;
//! let system = Machine::from_spec(spec)?;
//! let options = Options::new().allow_noiommu(true);
//! let device = Device::open(&system, "0000:01:00.0".parse()?, &options)?;
//!
//! let controller = Controller::new(device, 1)?;
//! let namespace = controller.namespaces()?[0];
//! let mut queue = controller.queue(32, Completions::Interrupt)?;
//! let buffer = controller.device().address_space().allocate(8192, &DmaOptions::new())?;
//! buffer.write_at(0, b"hello");
//! for (operation, offset) in [(Operation::Write, 0), (Operation::Read, 4096)] {
//!     let transfer =
//!         Transfer { operation, namespace: &namespace, lba: 7, blocks: 1, buffer: &buffer, offset };
//!     queue.submit(&transfer, 0)?;
//!     queue.wait(Duration::from_secs(10), |completion| assert_eq!(completion.status, None))?;
//! }
//! let mut back = [0; 5];
//! buffer.read_at(4096, &mut back);
//! assert_eq!(&back, b"hello");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod controller;
mod error;
mod lease;
mod link;
mod namespace;
mod prp;
mod queue;
mod registers;
mod ring;
mod spec;
mod status;
mod stream;

pub use controller::{Controller, ControllerInfo};
pub use error::{Error, Result};
pub use lease::Completions;
pub use namespace::Namespace;
pub use queue::{Completion, Operation, Queue, Transfer};
pub use status::Status;
pub use stream::Stream;
