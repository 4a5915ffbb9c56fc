//! Interrupts as eventfds.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use sys::{Sys, Tailed};
use uapi::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VfioIrqInfo, VfioIrqSet,
};
use uapi::{Command as _, Errno};

use crate::error::Attempt;
use crate::{Device, Error, Result};

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

    const fn index(self) -> u32 {
        match self {
            InterruptKind::Line => VFIO_PCI_INTX_IRQ_INDEX,
            InterruptKind::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            InterruptKind::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
        }
    }

    const fn bit(self) -> u8 {
        1 << self.index()
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

/// The interrupts of a device.
pub struct Interrupts<'a, S: Sys> {
    device: &'a Device<S>,
}

impl<'a, S: Sys> Interrupts<'a, S> {
    pub(crate) fn new(device: &'a Device<S>) -> Self {
        Interrupts { device }
    }

    /// How many vectors of a kind the device has; 0 if it has not the kind.
    pub fn count(&self, kind: InterruptKind) -> Result<u32> {
        let argument = VfioIrqInfo { index: kind.index(), ..VfioIrqInfo::new() };
        let device = self.device;
        device
            .calls
            .ioctl(&device.file, argument, |done| format!("{kind}: {} vectors", done.count))
            .attempt(|| format!("cannot ask about {kind} of {}", device.label))
            .map(|done| done.count)
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
        let argument = Tailed::new(
            VfioIrqSet {
                flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
                index: VFIO_PCI_INTX_IRQ_INDEX,
                count: 1,
                ..VfioIrqSet::new()
            },
            0,
        );
        self.set(argument, "INTx unmasked")
            .attempt(|| format!("cannot unmask the interrupt line of {}", self.device.label))
    }

    /// Disables the interrupts of a kind, so that those of another can be enabled. Nothing happens if they are not
    /// enabled.
    pub fn disable(&self, kind: InterruptKind) -> Result<()> {
        if self.device.enabled.load(Ordering::Relaxed) & kind.bit() == 0 {
            return Ok(());
        }
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        let argument = Tailed::new(VfioIrqSet { flags, index: kind.index(), ..VfioIrqSet::new() }, 0);
        self.set(argument, "disabled")
            .attempt(|| format!("cannot disable {kind} of {}", self.device.label))?;
        self.device.enabled.fetch_and(!kind.bit(), Ordering::Relaxed);
        Ok(())
    }

    fn enable(&self, kind: InterruptKind, count: u32) -> Result<Vec<Interrupt<S>>> {
        let device = self.device;
        let offered = self.count(kind)?;
        if count == 0 || count > offered {
            return Err(Error::TooFewInterrupts {
                device: device.label.clone(),
                kind,
                asked: count,
                offered,
            });
        }
        let vectors: Vec<_> =
            (0..count).map(|index| Interrupt::new(&device.calls.sys, kind, index)).collect::<Result<_>>()?;
        let descriptors = size_of::<i32>() * vectors.len();
        let mut argument = Tailed::new(
            VfioIrqSet {
                argsz: (size_of::<VfioIrqSet>() + descriptors) as u32,
                flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                index: kind.index(),
                start: 0,
                count,
            },
            descriptors,
        );
        for (place, vector) in argument.tail_mut().chunks_exact_mut(size_of::<i32>()).zip(&vectors) {
            place.copy_from_slice(&vector.event.as_raw_fd().to_ne_bytes());
        }
        self.set(argument, &format!("{count} {kind} vectors"))
            .attempt(|| format!("cannot enable {count} {kind} vectors of {}", device.label))?;
        device.enabled.fetch_or(kind.bit(), Ordering::Relaxed);
        Ok(vectors)
    }

    fn set(&self, mut argument: Tailed<VfioIrqSet>, words: &str) -> sys::Result<()> {
        let device = self.device;
        device.calls.ioctl_tailed(&device.file, &mut argument, || words.to_owned()).map(drop)
    }
}

/// Disables whatever interrupts are enabled.
pub(crate) fn disable_all<S: Sys>(device: &Device<S>) {
    for kind in InterruptKind::ALL {
        // A device that has gone refuses it, and interrupts nobody any more.
        let _gone = device.interrupts().disable(kind);
    }
}

/// One interrupt vector: an eventfd that counts how often it fired.
///
/// It may outlive the device; nothing comes any more then.
pub struct Interrupt<S: Sys> {
    sys: S,
    event: OwnedFd,
    kind: InterruptKind,
    index: u32,
}

impl<S: Sys> Interrupt<S> {
    fn new(sys: &S, kind: InterruptKind, index: u32) -> Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|answer| refused("eventfd", kind, index, answer))
            .attempt(|| "cannot make an eventfd".to_owned())?;
        Ok(Interrupt { sys: sys.clone(), event, kind, index })
    }

    /// The kind of interrupt.
    #[must_use]
    pub fn kind(&self) -> InterruptKind {
        self.kind
    }

    /// Which vector.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Waits until it has fired: how often since it was last taken, or `None` when the time is over. Without a
    /// `timeout` it waits without end.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<u64>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(count) = self.try_take()? {
                return Ok(Some(count));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let ready = self
                .sys
                .wait(&[self.event.as_fd()], left)
                .attempt(|| format!("cannot wait for {} vector {}", self.kind, self.index))?;
            // Time that is over is over only after a last look.
            if !ready.contains(&true) && left.is_some_and(|left| left.is_zero()) {
                return self.try_take();
            }
        }
    }

    /// How often it has fired since it was last taken; `None` if it has not.
    pub fn try_take(&self) -> Result<Option<u64>> {
        let mut count = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.event, &mut count)) {
            Ok(_) => Ok(Some(u64::from_ne_bytes(count))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(answer) => Err(refused("read", self.kind, self.index, answer))
                .attempt(|| "cannot read an eventfd".to_owned()),
        }
    }
}

impl<S: Sys> AsFd for Interrupt<S> {
    /// The eventfd, non-blocking, to hand to any runtime. After it is readable, [`Interrupt::try_take`] resets it.
    ///
    /// On an embedded machine whose device models run inline, models work only while this crate waits; a foreign
    /// runtime needs devices that run on threads.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl<S: Sys> fmt::Debug for Interrupt<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({} vector {})", self.kind, self.index)
    }
}

fn refused(call: &'static str, kind: InterruptKind, index: u32, answer: rustix::io::Errno) -> sys::Error {
    let errno = Errno::from_raw(answer.raw_os_error()).unwrap_or(Errno::EIO);
    sys::Error::new(call, format_args!("eventfd of {kind} vector {index}"), errno)
}
