//! Devices that have a node of their own, tied to a context of IOMMUFD (kernel document `driver-api/vfio.rst`).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::{Access, Sys};
use uapi::Command as _;
use uapi::vfio::VfioDeviceAttachIommufdPt;

use super::choose;
use super::survey::{IOMMU, Survey};
use crate::calls::Calls;
use crate::error::Attempt;
use crate::memory::{Addressing, Ioas, Translation};
use crate::reach::{Hold, Reach, VfioDevice};
use crate::translate::Translator;
use crate::{Device, Errno, Error, Mode, Options, Passed, PciAddress, Result};

/// The files of a device that has a node of its own, opened for somebody else and used by nobody yet.
#[derive(Debug)]
pub struct DeviceFiles<S: Sys> {
    /// Which of the two modes of IOMMUFD the device is in.
    pub mode: Mode,
    /// Its node.
    pub device: S::File,
    /// A context of IOMMUFD, empty.
    pub iommufd: S::File,
}

impl<S: Sys> DeviceFiles<S> {
    /// Opens the node of the device at an address, and a context for it, to be passed on ([`Passed`]).
    ///
    /// # Errors
    ///
    /// As for [`Device::open`]; [`NoMode`](Error::NoMode) too where the device has no node of its own.
    pub fn open(sys: &S, address: PciAddress, options: &Options) -> Result<Self> {
        let found = Survey::make(sys, address)?;
        let modes = [Mode::Iommufd, Mode::IommufdNoiommu];
        let (mode, node, _) = choose(&found, address, &modes, Survey::node_for, options)?;
        open(&Calls::new(sys, options.trace), address, mode, node)
    }
}

fn open<S: Sys>(calls: &Calls<S>, address: PciAddress, mode: Mode, node: &Path) -> Result<DeviceFiles<S>> {
    let device = calls.open(node, Access::ReadWrite).attempt(|| format!("cannot open {address}"))?;
    let iommufd = calls
        .open(Path::new(IOMMU), Access::ReadWrite)
        .attempt(|| format!("cannot open an IOMMUFD context for {address}"))?;
    Ok(DeviceFiles { mode, device, iommufd })
}

/// Opens a device by its node.
pub(super) fn enter<S: Sys>(
    calls: &Calls<S>,
    address: PciAddress,
    mode: Mode,
    node: &Path,
) -> Result<(Reach<S>, Addressing<S>)> {
    let label = address.to_string();
    let DeviceFiles { device, iommufd, .. } = open(calls, address, mode, node)?;
    bind(calls, &device, &iommufd, &label)?;
    let translation = if mode.has_iommu() { Translation::Iommu } else { Translation::Kernel };
    attach(calls, device, iommufd, translation, &label)
}

/// Takes over a device node and a context that somebody else opened. `label` names the device in messages.
pub(crate) fn adopt<S: Sys>(sys: &S, label: String, passed: Passed, options: &Options) -> Result<Device<S>> {
    let calls = Calls::new(sys, options.trace);
    let file = take_over(sys, passed.device, "device")?;
    let iommufd = take_over(sys, passed.iommufd, "IOMMUFD context")?;
    let id = bind(&calls, &file, &iommufd, &label)?;
    let mode = ask_mode(&calls, &iommufd, id, &label)?;
    if let Some(wanted) = options.mode.filter(|wanted| *wanted != mode) {
        return Err(Error::Argument(format!(
            "mode {wanted} was asked for, and {label} was passed on in mode {mode}"
        )));
    }
    if !mode.has_iommu() && !options.allow_noiommu {
        return Err(Error::NoiommuNotAllowed { device: label, mode });
    }
    let translation = match passed.translator {
        _ if mode.has_iommu() => Translation::Iommu,
        None => Translation::Kernel,
        Some(socket) => Translation::Translator(Translator::new(socket)),
    };
    let (reach, addressing) = attach(&calls, file, iommufd, translation, &label)?;
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
    translation: Translation,
    label: &str,
) -> Result<(Reach<S>, Addressing<S>)> {
    let ioas = Ioas::new(calls, iommufd, translation)?;
    let attach = VfioDeviceAttachIommufdPt { pt_id: ioas.id(), ..VfioDeviceAttachIommufdPt::new() };
    calls
        .ioctl(&file, attach, |done| format!("page table {}", done.pt_id))
        .attempt(|| format!("cannot attach {label} to its address space"))?;
    let device = VfioDevice::new(calls, file, Hold::Attachment);
    Ok((Reach::Vfio(device), Addressing::Ioas(ioas)))
}
