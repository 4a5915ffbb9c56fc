//! What can go wrong.

use std::fmt;
use std::time::Duration;

use crate::status::Status;

/// An error of the driver. Each one names the controller.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be opened or used.
    #[error(transparent)]
    Device(#[from] ioasis::Error),

    /// The function is not an NVMe controller.
    #[error("{device} is not an NVMe controller: its class code is {class:#08x}, not 0x010802")]
    NotNvme {
        /// The function.
        device: String,
        /// Its class code.
        class: u32,
    },

    /// The controller cannot be run by this driver.
    #[error("{device}: the controller cannot be used: {why}")]
    Unsuitable {
        /// The controller.
        device: String,
        /// What it lacks.
        why: &'static str,
    },

    /// The controller did not answer in time.
    #[error("{device}: {what} did not happen within {within:?}; controller status register {csts:#x}")]
    Timeout {
        /// The controller.
        device: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
        /// CSTS at the end.
        csts: u32,
    },

    /// The controller is not there any more.
    #[error("{device}: the controller is gone: its registers read as all ones")]
    Gone {
        /// The controller.
        device: String,
    },

    /// The controller reports that it has failed (CSTS.CFS).
    #[error("{device}: the controller has failed (CSTS.CFS is set, CSTS is {csts:#x}); reset it to go on")]
    Fatal {
        /// The controller.
        device: String,
        /// CSTS.
        csts: u32,
    },

    /// A command failed.
    #[error("{device}: {command} failed: {status}")]
    Command {
        /// The controller.
        device: String,
        /// The command, with what it was asked to do.
        command: String,
        /// The controller's answer.
        status: Status,
    },

    /// The blocks are not there.
    #[error(
        "{device}: {count} blocks from block {lba} on were asked for, but the namespace has {blocks} blocks"
    )]
    OutOfRange {
        /// The controller.
        device: String,
        /// First block.
        lba: u64,
        /// How many.
        count: u64,
        /// How many the namespace has.
        blocks: u64,
    },

    /// The argument of a call does not fit.
    #[error("{device}: {what}")]
    Argument {
        /// The controller.
        device: String,
        /// What does not fit, and what would.
        what: String,
    },
}

/// The message, so that a `main` that answers with an error prints it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The result of a call of the driver.
pub type Result<T> = std::result::Result<T, Error>;
