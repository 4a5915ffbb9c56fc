//! What can go wrong, with what it went wrong on and what to do about it.
#![forbid(unsafe_code)]

use std::fmt;

use uapi::Errno;

use crate::help::help;
use crate::{DeviceAddr, InterruptKind, Looked, MmioError, Mode, PassedOver, PciAddress, UserVa};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a device could not be had or used.
///
/// The message says what was attempted, on which object, what the system answered and what to do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a call.
    #[error("{attempt}: {refusal}{}", help(refusal).map(|help| format!("; {help}")).unwrap_or_default())]
    Refused {
        /// What was attempted.
        attempt: String,
        /// The call, its object and the answer.
        refusal: sys::Error,
    },

    /// There is no such device.
    #[error("there is no PCI device {address}; looked for:{}", list(looked))]
    NoDevice {
        /// The device asked for.
        address: PciAddress,
        /// Where it was looked for and what was found.
        looked: Vec<Looked>,
    },

    /// The device is there, and none of the modes is open to it.
    #[error(
        "PCI device {address} cannot be opened in any mode:{}\nlooked for:{}",
        list(passed_over),
        list(looked)
    )]
    NoMode {
        /// The device.
        address: PciAddress,
        /// Each mode and why not.
        passed_over: Vec<PassedOver>,
        /// What was looked for and found.
        looked: Vec<Looked>,
    },

    /// No descriptors of a device were passed to this process.
    #[error(
        "no device was passed to this process: {why}; start it by `ioasis open ADDRESS -- COMMAND`, or by what passes \
         descriptors named vfio-device and iommufd as `sd_listen_fds(3)` describes"
    )]
    NotPassed {
        /// What there was instead.
        why: String,
    },

    /// The device has no IOMMU, and the caller has not said that this is all right.
    #[error(
        "{device} has no IOMMU: in mode {mode} it reaches all of physical memory; allow it with \
         `Options::allow_noiommu(true)`, on the command line `--allow-noiommu`"
    )]
    NoiommuNotAllowed {
        /// The device.
        device: String,
        /// The mode that it could be opened in.
        mode: Mode,
    },

    /// The device has not what was asked for.
    #[error("{device} has no {what}")]
    Missing {
        /// The device.
        device: String,
        /// What it has not, such as `BAR 3`.
        what: String,
    },

    /// The device has fewer interrupts of this kind.
    #[error("{device} offers {offered} {kind} vectors, and {asked} were asked for")]
    TooFewInterrupts {
        /// The device.
        device: String,
        /// The kind of interrupt.
        kind: InterruptKind,
        /// How many were asked for.
        asked: u32,
        /// How many there are.
        offered: u32,
    },

    /// An access to configuration space or registers that is unaligned or out of bounds, or to what is gone.
    #[error("{device}: {error}")]
    Register {
        /// The device.
        device: String,
        /// What is wrong with the access.
        error: MmioError,
    },

    /// Memory was found, but the device cannot reach it.
    #[error(
        "memory at device address {address} is beyond the {bits}-bit mask of the device, after {tries} tries; the kernel \
         cannot be asked for low memory: ask for less, reserve huge pages at boot, or use an IOMMU"
    )]
    OutOfReach {
        /// The first address out of reach.
        address: DeviceAddr,
        /// How many address bits the device has.
        bits: u8,
        /// How many times memory was allocated and looked at.
        tries: u32,
    },

    /// Memory was found, but not in pieces as long as was asked for.
    #[error(
        "{needed} bytes contiguous for the device were asked for, and the longest run is {largest} bytes; ask for less, \
         or for memory in huge pages"
    )]
    NotContiguous {
        /// How many bytes in a row were needed.
        needed: usize,
        /// The longest run of bytes that there was.
        largest: usize,
    },

    /// A container has no IOVA left for memory.
    #[error(
        "no room for {length} bytes among the IOVAs that the IOMMU has and a {bits}-bit mask of the device reaches; free \
         other memory of the device first"
    )]
    NoIova {
        /// How many bytes were to be mapped.
        length: u64,
        /// How many address bits the device has.
        bits: u8,
    },

    /// The kernel does not tell where in physical memory a page of this process is.
    #[error("cannot learn the physical address of memory at {at} from /proc/self/pagemap: {why}")]
    Frame {
        /// The page.
        at: UserVa,
        /// What the kernel told instead, and what to do.
        why: &'static str,
    },

    /// The IOMMU group of the device cannot be had, since the host uses another device of it.
    #[error(
        "group {group} of {device} is not viable: a device in it is bound to a driver of the host; unbind all devices in \
         /sys/kernel/iommu_groups/{group}/devices, or bind them to vfio-pci"
    )]
    NotViable {
        /// The device.
        device: String,
        /// The number of its group.
        group: String,
    },

    /// A pool has no room left.
    #[error(
        "no room for {needed} bytes in a pool of {size} bytes, of which {free} are free; make the pool larger"
    )]
    PoolFull {
        /// How many bytes were asked for.
        needed: usize,
        /// How many are free, maybe not in one piece.
        free: usize,
        /// How many bytes it has in all.
        size: usize,
    },

    /// An argument that makes no sense.
    #[error("{0}")]
    Argument(String),
}

impl Error {
    /// The errno, where the system refused a call.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.refusal().map(sys::Error::errno)
    }

    /// The refused call with its object, errno and, on an embedded machine, the rule that was broken.
    #[must_use]
    pub fn refusal(&self) -> Option<&sys::Error> {
        match self {
            Error::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// What to do about a refused call, where that is known. It is part of the message.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        self.refusal().and_then(help)
    }
}

/// The message, so that a `main` that answers with an error prints it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says what was attempted when a call is refused.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for sys::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|refusal| Error::Refused { attempt: what(), refusal })
    }
}

/// A line for each.
fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

#[cfg(test)]
mod tests {
    use uapi::Errno;

    use super::Error;

    #[test]
    fn a_refusal_is_debugged_as_its_message_with_help() {
        let refusal = sys::Error::new("VFIO_GROUP_GET_DEVICE_FD", "/dev/vfio/noiommu-0", Errno::EPERM);
        let error = Error::Refused { attempt: "cannot open 0000:01:00.0".into(), refusal };
        assert_eq!(format!("{error:?}"), error.to_string());
        let help = error.help().unwrap();
        assert!(help.contains("CAP_SYS_RAWIO") && error.to_string().ends_with(help), "{error}");
    }
}
