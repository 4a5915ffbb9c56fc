//! The interrupts of a device.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use sys::Sys;

use crate::error::Attempt;
use crate::reach::Reach;
use crate::{Command, Device, Error, Interrupt, Result};

/// A kind of interrupt. One kind is in use at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterruptKind {
    /// The line of the function's pin. It masks itself each time it fires; see [`Interrupts::unmask_line`].
    Line,
    /// Message-signalled interrupts.
    Msi,
    /// Message-signalled interrupts with a table, up to 2048.
    Msix,
}

impl InterruptKind {
    const ALL: [InterruptKind; 3] = [InterruptKind::Line, InterruptKind::Msi, InterruptKind::Msix];

    const fn bit(self) -> u8 {
        match self {
            InterruptKind::Line => 1 << 0,
            InterruptKind::Msi => 1 << 1,
            InterruptKind::Msix => 1 << 2,
        }
    }
}

impl fmt::Display for InterruptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            InterruptKind::Line => "INTx",
            InterruptKind::Msi => "MSI",
            InterruptKind::Msix => "MSI-X",
        })
    }
}

/// The interrupts of a device. In the mode `uio` there is the line alone, and only where the device is bound to
/// `uio_pci_generic`.
pub struct Interrupts<'a, S: Sys> {
    device: &'a Device<S>,
}

impl<'a, S: Sys> Interrupts<'a, S> {
    pub(crate) fn new(device: &'a Device<S>) -> Self {
        Interrupts { device }
    }

    /// How many vectors of a kind the device has; 0 if it has not the kind.
    pub fn count(&self, kind: InterruptKind) -> Result<u32> {
        let device = self.device;
        device.reach.vectors(kind).attempt(|| format!("cannot ask about {kind} of {}", device.label))
    }

    /// Enables the first `count` MSI-X vectors. Messages need bus mastering on.
    ///
    /// # Errors
    ///
    /// [`Error::TooFewInterrupts`] if the device has fewer; [`Error::Refused`] if interrupts of another kind are enabled.
    pub fn msix(&self, count: u32) -> Result<Vec<Interrupt<S>>> {
        self.enable(InterruptKind::Msix, count)
    }

    /// Enables the first `count` MSI vectors. Messages need bus mastering on.
    ///
    /// # Errors
    ///
    /// As for [`Interrupts::msix`].
    pub fn msi(&self, count: u32) -> Result<Vec<Interrupt<S>>> {
        self.enable(InterruptKind::Msi, count)
    }

    /// Enables the line interrupt.
    ///
    /// # Errors
    ///
    /// As for [`Interrupts::msix`].
    pub fn line(&self) -> Result<Interrupt<S>> {
        let mut vectors = self.enable(InterruptKind::Line, 1)?;
        vectors.pop().ok_or_else(|| Error::Missing {
            device: self.device.label.clone(),
            what: "line interrupt".to_owned(),
        })
    }

    /// Lets the line fire again, after the device has been made to lower it. It masks itself each time it fires.
    pub fn unmask_line(&self) -> Result<()> {
        let device = self.device;
        match &device.reach {
            Reach::Vfio(vfio) => {
                vfio.unmask_line().attempt(|| format!("cannot unmask the interrupt line of {}", device.label))
            }
            Reach::Sysfs(_) => self.gate_line(true),
        }
    }

    /// Disables the interrupts of a kind, so that those of another can be enabled. Nothing happens if they are not
    /// enabled.
    pub fn disable(&self, kind: InterruptKind) -> Result<()> {
        let device = self.device;
        if device.enabled.load(Ordering::Relaxed) & kind.bit() == 0 {
            return Ok(());
        }
        match &device.reach {
            Reach::Vfio(vfio) => {
                vfio.disable(kind).attempt(|| format!("cannot disable {kind} of {}", device.label))?;
            }
            Reach::Sysfs(_) => self.gate_line(false)?,
        }
        device.enabled.fetch_and(!kind.bit(), Ordering::Relaxed);
        Ok(())
    }

    fn enable(&self, kind: InterruptKind, count: u32) -> Result<Vec<Interrupt<S>>> {
        let device = self.device;
        let offered = self.count(kind)?;
        let too_few =
            || Error::TooFewInterrupts { device: device.label.clone(), kind, asked: count, offered };
        if count == 0 || count > offered {
            return Err(too_few());
        }
        let vectors = match &device.reach {
            Reach::Vfio(vfio) => {
                let make = |index| Interrupt::eventfd(&device.calls.sys, kind, index);
                let vectors: Vec<_> = (0..count).map(make).collect::<Result<_>>()?;
                let events: Vec<_> = vectors.iter().map(AsFd::as_fd).collect();
                vfio.enable(kind, &events)
                    .attempt(|| format!("cannot enable {count} {kind} vectors of {}", device.label))?;
                vectors
            }
            Reach::Sysfs(sysfs) => {
                let events = sysfs.line().ok_or_else(too_few)?;
                self.gate_line(true)?;
                vec![Interrupt::uio(&device.calls.sys, events)]
            }
        };
        device.enabled.fetch_or(kind.bit(), Ordering::Relaxed);
        Ok(vectors)
    }

    /// Lets the function raise its line, or not. That is how `uio_pci_generic` masks it.
    fn gate_line(&self, open: bool) -> Result<()> {
        let config = self.device.config();
        let command = config.command()?;
        config.set_command(if open {
            command - Command::INTX_DISABLE
        } else {
            command | Command::INTX_DISABLE
        })
    }
}

/// Disables whatever interrupts are enabled.
pub(crate) fn disable_all<S: Sys>(device: &Device<S>) {
    for kind in InterruptKind::ALL {
        // A device that has gone refuses it, and interrupts nobody any more.
        let _gone = device.interrupts().disable(kind);
    }
}
