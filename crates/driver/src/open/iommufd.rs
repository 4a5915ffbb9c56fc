//! Devices that have a node of their own, tied to a context of IOMMUFD (kernel document `driver-api/vfio.rst`).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::{Access, Sys};
use uapi::Command as _;
use uapi::vfio::VfioDeviceAttachIommufdPt;

use super::survey::IOMMU;
use crate::calls::Calls;
use crate::error::Attempt;
use crate::memory::{Addressing, Ioas};
use crate::reach::{Hold, Reach, VfioDevice};
use crate::{Device, Errno, Error, Mode, Options, PciAddress, Result};

/// Opens a device by its node.
pub(super) fn enter<S: Sys>(
    calls: &Calls<S>,
    address: PciAddress,
    mode: Mode,
    node: &Path,
) -> Result<(Reach<S>, Addressing<S>)> {
    let label = address.to_string();
    let file = calls.open(node, Access::ReadWrite).attempt(|| format!("cannot open {label}"))?;
    let iommufd = calls
        .open(Path::new(IOMMU), Access::ReadWrite)
        .attempt(|| format!("cannot open an IOMMUFD context for {label}"))?;
    bind(calls, &file, &iommufd, &label)?;
    attach(calls, file, iommufd, mode, &label)
}

/// Takes over a device node and a context that somebody else opened.
pub(crate) fn adopt<S: Sys>(
    sys: &S,
    device: OwnedFd,
    iommufd: OwnedFd,
    options: &Options,
) -> Result<Device<S>> {
    let calls = Calls::new(sys, options.trace);
    let label = format!("the device of descriptor {}", device.as_raw_fd());
    let file = take_over(sys, device, "device")?;
    let iommufd = take_over(sys, iommufd, "IOMMUFD context")?;
    let id = bind(&calls, &file, &iommufd, &label)?;
    let mode = ask_mode(&calls, &iommufd, id, &label)?;
    if !mode.has_iommu() && !options.allow_noiommu {
        return Err(Error::NoiommuNotAllowed { device: label, mode });
    }
    let (reach, addressing) = attach(&calls, file, iommufd, mode, &label)?;
    Ok(Device::new(calls, label, (mode, Vec::new()), reach, addressing))
}

fn take_over<S: Sys>(sys: &S, fd: OwnedFd, what: &str) -> Result<S::File> {
    let path = PathBuf::from(format!("{what} (descriptor {})", fd.as_raw_fd()));
    sys.adopt(fd, &path).attempt(|| format!("cannot take over the {what}"))
}

/// Ties the device to its context: its id there.
fn bind<S: Sys>(calls: &Calls<S>, file: &S::File, iommufd: &S::File, label: &str) -> Result<u32> {
    calls
        .bind(file, iommufd.as_fd().as_raw_fd())
        .attempt(|| format!("cannot bind {label} to its IOMMUFD context"))
}

/// Which of the two modes of IOMMUFD a bound device is in: one without an IOMMU has no hardware information.
fn ask_mode<S: Sys>(calls: &Calls<S>, iommufd: &S::File, id: u32, label: &str) -> Result<Mode> {
    match calls.hardware(iommufd, id) {
        Err(refusal) if refusal.errno() == Errno::EOPNOTSUPP => Ok(Mode::IommufdNoiommu),
        answer => {
            answer.map(|_| Mode::Iommufd).attempt(|| format!("cannot learn whether {label} has an IOMMU"))
        }
    }
}

/// Gives a bound device an address space.
fn attach<S: Sys>(
    calls: &Calls<S>,
    file: S::File,
    iommufd: S::File,
    mode: Mode,
    label: &str,
) -> Result<(Reach<S>, Addressing<S>)> {
    let ioas = Ioas::new(calls, iommufd, mode.has_iommu())?;
    let attach = VfioDeviceAttachIommufdPt { pt_id: ioas.id(), ..VfioDeviceAttachIommufdPt::new() };
    calls
        .ioctl(&file, attach, |done| format!("page table {}", done.pt_id))
        .attempt(|| format!("cannot attach {label} to its address space"))?;
    let device = VfioDevice::new(calls, file, Hold::Attachment);
    Ok((Reach::Vfio(device), Addressing::Ioas(ioas)))
}
