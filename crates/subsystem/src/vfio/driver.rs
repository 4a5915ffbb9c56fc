//! What drives a device, behind its files.

use super::device::{Identity, IommuKind};
use super::emulated::EmulatedDevice;
use super::pci::{PciDevice, PciOptions};
use super::{MapRequest, MappedRegion};
use crate::ctx::CallCtx;
use crate::host::Host;
use crate::rules::{Refusal, vfio as rules};

/// The driver of a device.
pub(crate) enum Driver<H: Host> {
    /// vfio-pci.
    Pci(PciDevice<H>),
    /// One that emulates the device.
    Emulated(EmulatedDevice),
}

impl<H: Host> Driver<H> {
    /// That of a device that is not open.
    pub(crate) fn new(host: &H, identity: Identity, options: PciOptions) -> Self {
        match identity.iommu {
            IommuKind::Hardware | IommuKind::None => {
                Driver::Pci(PciDevice::new(host, identity.function, options))
            }
            IommuKind::Emulated => Driver::Emulated(EmulatedDevice::new(identity.function)),
        }
    }

    /// Opens the device, which is as at first then.
    pub(crate) fn open(&self, host: &H) -> Result<(), Refusal> {
        match self {
            Driver::Pci(pci) => pci.open(host),
            Driver::Emulated(device) => {
                device.reset(host);
                Ok(())
            }
        }
    }

    /// Closes it. What its driver has pinned goes with what it is attached to.
    pub(crate) fn close(&self, host: &H) {
        match self {
            Driver::Pci(pci) => pci.close(host),
            Driver::Emulated(_) => {}
        }
    }

    /// Asks the user to close the device, who was asked `round` times before.
    pub(crate) fn request(&self, host: &H, round: u32) {
        match self {
            Driver::Pci(pci) => pci.request(host, round),
            Driver::Emulated(_) => {}
        }
    }

    /// A call is about to be made on the device: if it is suspended, it wakes up.
    pub(crate) fn wake(&self, host: &H) {
        match self {
            Driver::Pci(pci) => pci.wake(host),
            Driver::Emulated(_) => {}
        }
    }

    /// An ioctl on a device file that is bound, or that a group gave out, other than those of binding, attaching and hot
    /// reset.
    pub(crate) fn ioctl(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match self {
            Driver::Pci(pci) => pci.ioctl(host, ctx, command, argument),
            Driver::Emulated(device) => device.ioctl(host, ctx, command, argument),
        }
    }

    /// `pread(2)` on a bound device file.
    pub(crate) fn read(&self, host: &H, offset: u64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        match self {
            Driver::Pci(pci) => pci.read(host, offset, bytes),
            Driver::Emulated(device) => device.read(host, offset, bytes),
        }
    }

    /// `pwrite(2)` on a bound device file.
    pub(crate) fn write(&self, host: &H, offset: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Driver::Pci(pci) => pci.write(host, offset, bytes),
            Driver::Emulated(device) => device.write(host, offset, bytes),
        }
    }

    /// `mmap(2)` on a bound device file.
    pub(crate) fn map(&self, host: &H, request: MapRequest) -> Result<MappedRegion, Refusal> {
        match self {
            Driver::Pci(pci) => pci.map(host, request.offset, request.length, request.shared),
            Driver::Emulated(_) => Err(rules::MAP_EMULATED),
        }
    }
}
