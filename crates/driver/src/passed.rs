//! Descriptors that a more privileged program opened and passed on.
#![expect(unsafe_code, reason = "a descriptor that the environment names is taken over by its number")]

use std::env;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::{Error, PciAddress, Result};

/// The name of a device node of `/dev/vfio/devices`.
const DEVICE: &str = "vfio-device";
/// The name of a context of `/dev/iommu`.
const IOMMUFD: &str = "iommufd";
/// The name of a socket of a translator.
const TRANSLATOR: &str = "noiommu-get-pa";

/// The number of the first descriptor that is passed (`sd_listen_fds(3)`).
const FIRST: RawFd = 3;

/// Descriptors that a more privileged program opened for a driver: all that it needs of a device.
///
/// They are passed on as service managers pass sockets on (`sd_listen_fds(3)`): as descriptors from 3 on, with three
/// variables in the environment.
///
/// | variable | |
/// | --- | --- |
/// | `LISTEN_PID` | the process that they are meant for; any other one leaves them alone |
/// | `LISTEN_FDS` | how many there are |
/// | `LISTEN_FDNAMES` | their names, with colons between them |
///
/// The names are `vfio-device`, `iommufd`, and `noiommu-get-pa` for the [`translator`](Passed::translator). `ioasis open ADDRESS --
/// COMMAND` passes all of them to a command without privileges. A unit of systemd can pass the first two of a device behind an IOMMU:
///
/// ```text
/// [Service]
/// User=driver
/// OpenFile=/dev/vfio/devices/vfio0:vfio-device
/// OpenFile=/dev/iommu:iommufd
/// ```
#[derive(Debug)]
pub struct Passed {
    /// A device node of `/dev/vfio/devices` that is not bound yet.
    pub device: OwnedFd,
    /// A context of `/dev/iommu`. It may be shared (pass a duplicate).
    pub iommufd: OwnedFd,
    /// The socket of a translator ([`translate`](crate::translate)), which asks for physical addresses where the driver
    /// itself may not. Nobody needs it behind an IOMMU.
    pub translator: Option<OwnedFd>,
}

/// Taken once: the numbers are anybody's afterwards.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Passed {
    /// The variables that say to process `pid` that descriptors were passed to it from 3 on: the device, the context and,
    /// `with_translator`, its socket.
    #[must_use]
    pub fn variables(pid: u32, with_translator: bool) -> [(&'static str, String); 3] {
        let names = [DEVICE, IOMMUFD, TRANSLATOR];
        let names = &names[..if with_translator { 3 } else { 2 }];
        [
            ("LISTEN_PID", pid.to_string()),
            ("LISTEN_FDS", names.len().to_string()),
            ("LISTEN_FDNAMES", names.join(":")),
        ]
    }

    /// Takes over what was passed to this process, if the device at this address is `wanted`.
    pub(crate) fn take(wanted: impl FnOnce(PciAddress) -> bool) -> Result<(PciAddress, Passed)> {
        let numbers = Numbers::find(|name| env::var(name).ok(), std::process::id())?;
        let device = kernel_object(numbers.device, DEVICE)?;
        let address = device
            .parent()
            .filter(|parent| parent.ends_with("vfio-dev"))
            .and_then(|parent| parent.parent()?.file_name()?.to_str()?.parse().ok())
            .ok_or_else(|| wrong_kind(numbers.device, DEVICE, "a PCI device of VFIO"))?;
        if !wanted(address) {
            return Err(Error::NotPassed { why: format!("the one passed is {address}") });
        }
        if !kernel_object(numbers.iommufd, IOMMUFD)?.ends_with("misc/iommu") {
            return Err(wrong_kind(numbers.iommufd, IOMMUFD, "/dev/iommu"));
        }
        if let Some(number) = numbers.translator
            && !metadata(number, TRANSLATOR)?.file_type().is_socket()
        {
            return Err(wrong_kind(number, TRANSLATOR, "a socket"));
        }
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Err(Error::NotPassed { why: "they were taken over before".to_owned() });
        }
        let own = |number| {
            // SAFETY: whoever started this process says, by its id, that the descriptor was opened for it, and it is open. It is
            // what its name says, of which nothing in a process comes into being by itself. `TAKEN` lets
            // this be reached once, so that nobody else owns it; the numbers differ.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            // Programs that this one starts are not meant. It fails for no open descriptor.
            let _set = fcntl_setfd(&fd, FdFlags::CLOEXEC);
            fd
        };
        let translator = numbers.translator.map(own);
        Ok((address, Passed { device: own(numbers.device), iommufd: own(numbers.iommufd), translator }))
    }
}

/// The numbers of the descriptors.
#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    device: RawFd,
    iommufd: RawFd,
    translator: Option<RawFd>,
}

impl Numbers {
    /// What the environment says to a process.
    fn find(variable: impl Fn(&str) -> Option<String>, process: u32) -> Result<Self> {
        let absent = |why: String| Err(Error::NotPassed { why });
        let (Some(pid), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else {
            return absent("LISTEN_PID and LISTEN_FDS are not set".to_owned());
        };
        let number = |name, text: &str| -> Result<u32> {
            text.parse().map_err(|_| Error::Argument(format!("{name} is {text:?}, which is no number")))
        };
        if number("LISTEN_PID", &pid)? != process {
            return absent(format!(
                "LISTEN_PID is {pid}, and this is process {process}; a shell has to start it with `exec`"
            ));
        }
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let count = number("LISTEN_FDS", &count)?;
        if count as usize != names.len() {
            return Err(Error::Argument(format!(
                "LISTEN_FDS is {count}, and LISTEN_FDNAMES has {} names",
                names.len()
            )));
        }
        let place = |name: &str| {
            let mut places = (FIRST..).zip(&names).filter(|(_, found)| **found == name).map(|(fd, _)| fd);
            match (places.next(), places.next()) {
                (_, Some(_)) => Err(Error::Argument(format!("LISTEN_FDNAMES has {name} more than once"))),
                (place, None) => Ok(place),
            }
        };
        match (place(DEVICE)?, place(IOMMUFD)?) {
            (Some(device), Some(iommufd)) => Ok(Numbers { device, iommufd, translator: place(TRANSLATOR)? }),
            _ => absent(format!("LISTEN_FDNAMES is {:?}, without {DEVICE} and {IOMMUFD}", names.join(":"))),
        }
    }
}

fn metadata(number: RawFd, name: &str) -> Result<fs::Metadata> {
    fs::metadata(format!("/proc/self/fd/{number}"))
        .map_err(|_| Error::Argument(format!("descriptor {number}, passed as {name}, is closed")))
}

/// Where the object of a character device is in sysfs.
fn kernel_object(number: RawFd, name: &str) -> Result<PathBuf> {
    let metadata = metadata(number, name)?;
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let found = metadata.file_type().is_char_device();
    found
        .then(|| fs::canonicalize(format!("/sys/dev/char/{major}:{minor}")).ok())
        .flatten()
        .ok_or_else(|| wrong_kind(number, name, "a character device that sysfs knows"))
}

fn wrong_kind(number: RawFd, name: &str, kind: &str) -> Error {
    let is = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
    Error::Argument(format!("descriptor {number}, passed as {name}, is {}, and not {kind}", is.display()))
}

#[cfg(test)]
mod tests {
    use super::{Error, Numbers, Passed};

    const PID: u32 = 77;

    fn find(pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Result<Numbers, Error> {
        let variable = |name: &str| match name {
            "LISTEN_PID" => pid,
            "LISTEN_FDS" => count,
            "LISTEN_FDNAMES" => names,
            _ => None,
        };
        Numbers::find(|name| variable(name).map(str::to_owned), PID)
    }

    #[test]
    fn what_one_side_says_the_other_understands() {
        for (with_translator, translator) in [(false, None), (true, Some(5))] {
            let variables = Passed::variables(PID, with_translator);
            let variable =
                |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, text)| text.clone());
            let numbers = Numbers { device: 3, iommufd: 4, translator };
            assert_eq!(Numbers::find(variable, PID), Ok(numbers));
        }
    }

    #[test]
    fn descriptors_may_be_among_others_in_any_order() {
        let numbers = Numbers { device: 6, iommufd: 4, translator: None };
        assert_eq!(find(Some("77"), Some("4"), Some("http:iommufd::vfio-device")), Ok(numbers));
    }

    #[test]
    fn what_is_not_for_this_process_is_not_there() {
        for (pid, count, names) in [
            (None, None, None),
            (Some("77"), None, None),
            (Some("78"), Some("2"), Some("vfio-device:iommufd")),
            (Some("77"), Some("1"), None),
            (Some("77"), Some("2"), Some("vfio-device:http")),
        ] {
            let error = find(pid, count, names).unwrap_err();
            assert!(matches!(error, Error::NotPassed { .. }), "{error}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (pid, count, names, message) in [
            ("x", "2", "vfio-device:iommufd", "LISTEN_PID is \"x\""),
            ("77", "-2", "vfio-device:iommufd", "LISTEN_FDS is \"-2\""),
            ("77", "3", "vfio-device:iommufd", "LISTEN_FDS is 3, and LISTEN_FDNAMES has 2 names"),
            ("77", "3", "vfio-device:iommufd:iommufd", "has iommufd more than once"),
        ] {
            let error = find(Some(pid), Some(count), Some(names)).unwrap_err();
            assert!(matches!(&error, Error::Argument(text) if text.contains(message)), "{error}");
        }
    }
}
