//! Behaviours of VFIO and IOMMUFD, each one a test with an id, run on any [`sys::Sys`].
//!
//! `rows.tsv` holds the assertions, as they were read from Linux 7.3 and seen on a running kernel: given, when, then, and
//! what is expected. A [`Case`] asks one of them of a system. What is expected stands in the row alone; a case answers
//! what it got, so that a test cannot pass by expecting what it saw.
#![deny(clippy::unwrap_used)]

mod call;
mod case;
mod cases;
mod config;
mod driver;
mod fixture;
mod group;
mod interrupts;
mod memory;
mod outcome;
mod pci;
mod process;
mod row;
mod run;
mod space;

pub use case::Case;
pub use fixture::Target;
pub use outcome::{Got, Outcome, Stop, Verdict};
pub use row::{Expect, Mode, Row, rows};
pub use run::{Report, cases, run};
