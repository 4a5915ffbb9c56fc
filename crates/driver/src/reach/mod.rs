//! How a device is reached: its configuration space, registers, interrupts and reset.
#![forbid(unsafe_code)]

mod called;
mod sysfs;
mod uio;
mod vfio;

pub(crate) use sysfs::SysfsDevice;
pub(crate) use uio::UioEvents;
pub(crate) use vfio::{Hold, VfioDevice};

use std::os::fd::{AsFd, BorrowedFd};

use sys::{Mmio, Sys};

use crate::InterruptKind;

/// How a device is reached. Dropping it detaches the device, or undoes what else was done to have it, and closes it.
pub(crate) enum Reach<S: Sys> {
    /// By a device file of VFIO.
    Vfio(VfioDevice<S>),
    /// By its files in sysfs.
    Sysfs(SysfsDevice<S>),
}

impl<S: Sys> Reach<S> {
    /// The length of configuration space in bytes.
    pub(crate) fn config_length(&self) -> sys::Result<usize> {
        match self {
            Reach::Vfio(device) => device.config_extent().map(|(_, length)| length),
            Reach::Sysfs(device) => device.config_length(),
        }
    }

    /// Reads configuration space: how many bytes.
    pub(crate) fn read_config(&self, bytes: &mut [u8], offset: u16) -> sys::Result<usize> {
        match self {
            Reach::Vfio(device) => device.read_config(bytes, offset),
            Reach::Sysfs(device) => device.read_config(bytes, offset),
        }
    }

    /// Writes configuration space: how many bytes.
    pub(crate) fn write_config(&self, bytes: &[u8], offset: u16, words: &str) -> sys::Result<usize> {
        match self {
            Reach::Vfio(device) => device.write_config(bytes, offset, words),
            Reach::Sysfs(device) => device.write_config(bytes, offset, words),
        }
    }

    /// The registers behind a BAR; `None` if the device has no such BAR.
    pub(crate) fn map_bar(&self, index: u8) -> sys::Result<Option<Mmio>> {
        match self {
            Reach::Vfio(device) => device.map_bar(index),
            Reach::Sysfs(device) => device.map_bar(index),
        }
    }

    /// How many interrupt vectors of a kind there are.
    pub(crate) fn vectors(&self, kind: InterruptKind) -> sys::Result<u32> {
        match self {
            Reach::Vfio(device) => device.vectors(kind),
            Reach::Sysfs(device) => device.vectors(kind),
        }
    }

    pub(crate) fn reset(&self) -> sys::Result<()> {
        match self {
            Reach::Vfio(device) => device.reset(),
            Reach::Sysfs(device) => device.reset(),
        }
    }
}

impl<S: Sys> AsFd for Reach<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Reach::Vfio(device) => device.as_fd(),
            Reach::Sysfs(device) => device.as_fd(),
        }
    }
}
