//! An open device.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;

use sys::{Linux, Sys};

use crate::calls::Calls;
use crate::error::Attempt;
use crate::interrupts::disable_all;
use crate::memory::Addressing;
use crate::reach::Reach;
use crate::{
    AddressSpace, Bar, Command, Config, Interrupts, Mode, Options, Passed, PassedOver, PciAddress, Result,
    Trace,
};

/// An open PCI device.
///
/// Dropping it stops the device from mastering the bus, disables its interrupts, detaches it from its memory where the
/// mode has such a call, and closes it, in this order. [`DmaBuffer`](crate::DmaBuffer)s may live on; the device does not reach them any more. A
/// [`Bar`] that lives on keeps the device file open, and nobody else can have the device until it is gone.
pub struct Device<S: Sys = Linux> {
    pub(crate) calls: Calls<S>,
    // Dropped before the address space.
    pub(crate) reach: Reach<S>,
    pub(crate) label: String,
    /// The kinds of interrupts that were enabled, one bit each.
    pub(crate) enabled: AtomicU8,
    /// The length of configuration space, once asked.
    pub(crate) config_length: OnceLock<usize>,
    mode: Mode,
    passed_over: Vec<PassedOver>,
    space: AddressSpace<S>,
}

impl<S: Sys> Device<S> {
    /// Opens the device at an address, in the best [`Mode`] that the host offers, and gives it an empty address space.
    ///
    /// The device is found in sysfs. For all modes but `uio` it has to be bound to a driver of the VFIO family, such as
    /// `vfio-pci`; for `uio` to `uio_pci_generic`, or to none. Bus mastering and interrupts are off at first.
    ///
    /// # Errors
    ///
    /// [`NoDevice`](crate::Error::NoDevice), [`NoMode`](crate::Error::NoMode) with what was looked for and found,
    /// [`NoiommuNotAllowed`](crate::Error::NoiommuNotAllowed) where the device has no IOMMU and `options` do not allow it,
    /// [`NotViable`](crate::Error::NotViable) where the host uses a part of the device's group, and
    /// [`Refused`](crate::Error::Refused) by the system.
    pub fn open(sys: &S, address: PciAddress, options: &Options) -> Result<Self> {
        crate::open::open(sys, address, options)
    }

    /// Takes over descriptors that somebody else opened.
    ///
    /// The kernel is asked whether the device has an IOMMU, so that the right mode is taken.
    ///
    /// # Errors
    ///
    /// As for [`Device::open`].
    pub fn from_fds(sys: &S, passed: Passed, options: &Options) -> Result<Self> {
        let label = format!("the device of descriptor {}", passed.device.as_raw_fd());
        crate::open::adopt(sys, label, passed, options)
    }

    /// Puts a device together.
    pub(crate) fn new(
        calls: Calls<S>,
        label: String,
        (mode, passed_over): (Mode, Vec<PassedOver>),
        reach: Reach<S>,
        addressing: Addressing<S>,
    ) -> Self {
        let space = AddressSpace::new(&calls, mode, addressing);
        let (enabled, config_length) = (AtomicU8::new(0), OnceLock::new());
        Device { calls, reach, label, enabled, config_length, mode, passed_over, space }
    }

    /// The mode that was taken.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The better modes, and why each was passed over, the best first.
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
    /// [`Missing`](crate::Error::Missing) if the device has no such BAR (a 64-bit BAR takes the next index too).
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
        self.reach.reset().attempt(|| format!("cannot reset {}", self.label))
    }
}

impl Device<Linux> {
    /// Takes over the descriptors that were passed to this process when it was started ([`Passed`]), as `ioasis open ADDRESS --
    /// COMMAND` does. They can be taken once.
    ///
    /// # Errors
    ///
    /// [`NotPassed`](crate::Error::NotPassed) if there are none, [`Argument`](crate::Error::Argument) if they are closed or of the
    /// wrong kind, and those of [`Device::from_fds`].
    pub fn from_env(options: &Options) -> Result<Self> {
        let (address, passed) = Passed::take(|_| true)?;
        crate::open::adopt(&Linux, address.to_string(), passed, options)
    }
}

impl<S: Sys> Drop for Device<S> {
    fn drop(&mut self) {
        // A device that has gone refuses all of this, and does no harm any more.
        let _gone = self.set_bus_master(false);
        disable_all(self);
        // `reach` detaches and closes it, and `space` goes after that.
    }
}

impl<S: Sys> AsFd for Device<S> {
    /// The device file, for calls of one's own; in the mode `uio`, where there is none, the file of configuration space.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reach.as_fd()
    }
}

impl<S: Sys> fmt::Debug for Device<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} in mode {})", self.label, self.mode)
    }
}
