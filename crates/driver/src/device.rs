//! An open device.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;

use sys::{Linux, Sys};
use uapi::Command as _;
use uapi::vfio::{VfioDeviceAttachIommufdPt, VfioDeviceDetachIommufdPt};

use crate::calls::Calls;
use crate::error::Attempt;
use crate::interrupts::disable_all;
use crate::{
    AddressSpace, Bar, Command, Config, Errno, Error, Interrupts, Mode, Options, PassedOver, PciAddress,
    Result, Trace,
};

/// An open PCI device.
///
/// Dropping it stops the device from mastering the bus, disables its interrupts, detaches it from its memory and closes
/// it, in this order. [`DmaBuffer`](crate::DmaBuffer)s may live on; the device does not reach them any more. A
/// [`Bar`] that lives on keeps the device file open, and nobody else can have the device until it is gone.
pub struct Device<S: Sys = Linux> {
    pub(crate) calls: Calls<S>,
    pub(crate) file: S::File,
    pub(crate) label: String,
    /// The kinds of interrupts that were enabled, one bit each.
    pub(crate) enabled: AtomicU8,
    /// Where configuration space is in the device file, and its length, once asked.
    pub(crate) config_extent: OnceLock<(u64, usize)>,
    mode: Mode,
    passed_over: Vec<PassedOver>,
    space: AddressSpace<S>,
}

/// What a device is made from.
pub(crate) struct Opened<S: Sys> {
    pub(crate) calls: Calls<S>,
    pub(crate) file: S::File,
    pub(crate) iommufd: S::File,
    pub(crate) label: String,
}

impl<S: Sys> Device<S> {
    /// Opens the device at an address, in the best [`Mode`] that the host offers, and gives it an empty address space.
    ///
    /// The device is found in sysfs; it has to be bound to a driver of the VFIO family, such as `vfio-pci`. Bus
    /// mastering and interrupts are off at first.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`], [`Error::NoMode`] with what was looked for and found, [`Error::NoiommuNotAllowed`] where the
    /// device has no IOMMU and `options` do not allow it, and [`Error::Refused`] by the system.
    pub fn open(sys: &S, address: PciAddress, options: &Options) -> Result<Self> {
        crate::open::open(sys, address, options)
    }

    /// Takes over descriptors that somebody else opened: a device node of `/dev/vfio/devices` that is not bound yet, and
    /// a context of `/dev/iommu`, which may be shared (pass a duplicate).
    ///
    /// The kernel is asked whether the device has an IOMMU, so that the right mode is taken.
    ///
    /// # Errors
    ///
    /// As for [`Device::open`].
    pub fn from_fds(sys: &S, device: OwnedFd, iommufd: OwnedFd, options: &Options) -> Result<Self> {
        let calls = Calls::new(sys, options.trace);
        let label = format!("the device of descriptor {}", device.as_raw_fd());
        let opened = Opened {
            file: adopt(sys, device, "device")?,
            iommufd: adopt(sys, iommufd, "IOMMUFD context")?,
            label,
            calls,
        };
        let id = opened.bind()?;
        let mode = opened.ask_mode(id)?;
        if !mode.has_iommu() && !options.allow_noiommu {
            return Err(Error::NoiommuNotAllowed { device: opened.label, mode });
        }
        opened.attach(mode, Vec::new())
    }

    /// The mode that was taken.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The better modes, and why each was passed over.
    #[must_use]
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// What it is called in messages: its address, or the descriptor that it was taken over by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.label
    }

    /// What was asked of the system, if [`Options::trace`] is on.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.calls.trace
    }

    /// The system that it was opened on.
    #[must_use]
    pub fn system(&self) -> &S {
        &self.calls.sys
    }

    /// The memory of the device.
    #[must_use]
    pub fn address_space(&self) -> &AddressSpace<S> {
        &self.space
    }

    /// The configuration space.
    #[must_use]
    pub fn config(&self) -> Config<'_, S> {
        Config::new(self)
    }

    /// The registers behind a BAR, `index` 0 to 5. Decoding (of memory, or of I/O ports) is switched on if it
    /// is off.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if the device has no such BAR (a 64-bit BAR takes the next index too).
    pub fn bar(&self, index: u8) -> Result<Bar> {
        Bar::map(self, index)
    }

    /// The interrupts.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts<'_, S> {
        Interrupts::new(self)
    }

    /// Lets the device read and write memory and signal interrupts by messages, or stops it. Off at first; what was
    /// under way when it is switched off has arrived when this returns.
    pub fn set_bus_master(&self, on: bool) -> Result<()> {
        let config = self.config();
        let command = config.command()?;
        config.set_command(if on { command | Command::BUS_MASTER } else { command - Command::BUS_MASTER })?;
        // A read is answered only after the writes that the device sent before it.
        config.command().map(drop)
    }

    /// Resets the function: its registers are as after power-on, configuration space is as it was before.
    pub fn reset(&self) -> Result<()> {
        self.calls.reset(&self.file).attempt(|| format!("cannot reset {}", self.label)).map(drop)
    }
}

impl<S: Sys> Opened<S> {
    /// Ties the device to its context: its id there.
    pub(crate) fn bind(&self) -> Result<u32> {
        self.calls
            .bind(&self.file, self.iommufd.as_fd().as_raw_fd())
            .attempt(|| format!("cannot bind {} to its IOMMUFD context", self.label))
    }

    /// Which of the two modes of IOMMUFD a bound device is in: one without an IOMMU has no hardware information.
    fn ask_mode(&self, id: u32) -> Result<Mode> {
        match self.calls.hardware(&self.iommufd, id) {
            Err(refusal) if refusal.errno() == Errno::EOPNOTSUPP => Ok(Mode::IommufdNoiommu),
            answer => answer
                .map(|_| Mode::Iommufd)
                .attempt(|| format!("cannot learn whether {} has an IOMMU", self.label)),
        }
    }

    /// Gives a bound device an address space.
    pub(crate) fn attach(self, mode: Mode, passed_over: Vec<PassedOver>) -> Result<Device<S>> {
        let Opened { calls, file, iommufd, label } = self;
        let space = AddressSpace::new(&calls, iommufd, mode)?;
        let attach = VfioDeviceAttachIommufdPt { pt_id: space.id(), ..VfioDeviceAttachIommufdPt::new() };
        calls
            .ioctl(&file, attach, |done| format!("page table {}", done.pt_id))
            .attempt(|| format!("cannot attach {label} to its address space"))?;
        Ok(Device {
            calls,
            file,
            label,
            enabled: AtomicU8::new(0),
            config_extent: OnceLock::new(),
            mode,
            passed_over,
            space,
        })
    }
}

fn adopt<S: Sys>(sys: &S, fd: OwnedFd, what: &str) -> Result<S::File> {
    let path = PathBuf::from(format!("{what} (descriptor {})", fd.as_raw_fd()));
    sys.adopt(fd, &path).attempt(|| format!("cannot take over the {what}"))
}

impl<S: Sys> Drop for Device<S> {
    fn drop(&mut self) {
        // A device that has gone refuses all of this, and does no harm any more.
        let _gone = self.set_bus_master(false);
        disable_all(self);
        let _gone = self.calls.ioctl(&self.file, VfioDeviceDetachIommufdPt::new(), |_| "detached".to_owned());
    }
}

impl<S: Sys> AsFd for Device<S> {
    /// The device file, for calls of one's own.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<S: Sys> fmt::Debug for Device<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} in mode {})", self.label, self.mode)
    }
}
