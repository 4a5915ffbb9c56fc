//! A device behind a device file of VFIO, from its own node or from a group.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use sys::{Mapping, Mmio, Sys, Tailed};
use uapi::Command as _;
use uapi::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VfioDeviceDetachIommufdPt, VfioIrqInfo, VfioIrqSet, VfioRegionInfo,
};

use super::called::Called;
use crate::InterruptKind;
use crate::calls::Calls;

/// A device file of VFIO.
pub(crate) struct VfioDevice<S: Sys> {
    calls: Calls<S>,
    // Closed before the group file.
    file: S::File,
    hold: Hold<S>,
    /// Where configuration space is in the device file, and its length, once asked.
    config: OnceLock<(u64, usize)>,
}

/// What the device is held by.
pub(crate) enum Hold<S: Sys> {
    /// It is attached to an address space of IOMMUFD.
    Attachment,
    /// Its group has joined a container, and leaves it when the group file is closed.
    Group {
        /// Kept open.
        _file: S::File,
    },
}

impl<S: Sys> VfioDevice<S> {
    pub(crate) fn new(calls: &Calls<S>, file: S::File, hold: Hold<S>) -> Self {
        VfioDevice { calls: calls.clone(), file, hold, config: OnceLock::new() }
    }

    /// Where configuration space starts in the device file, and its length.
    pub(super) fn config_extent(&self) -> sys::Result<(u64, usize)> {
        if let Some(extent) = self.config.get() {
            return Ok(*extent);
        }
        let region = self.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        let extent = (region.offset, usize::try_from(region.size).unwrap_or(usize::MAX));
        Ok(*self.config.get_or_init(|| extent))
    }

    pub(super) fn read_config(&self, bytes: &mut [u8], offset: u16) -> sys::Result<usize> {
        let (start, _) = self.config_extent()?;
        self.calls.sys.pread(&self.file, bytes, start + u64::from(offset))
    }

    pub(super) fn write_config(&self, bytes: &[u8], offset: u16, words: &str) -> sys::Result<usize> {
        let (start, _) = self.config_extent()?;
        self.calls.write(&self.file, bytes, start + u64::from(offset), words)
    }

    pub(super) fn map_bar(&self, index: u8) -> sys::Result<Option<Mmio>> {
        let region = self.region(index.into())?;
        let readable = region.flags & VFIO_REGION_INFO_FLAG_READ != 0;
        let length = usize::try_from(region.size).ok().filter(|&length| length != 0 && readable);
        let Some(length) = length else { return Ok(None) };
        if region.flags & VFIO_REGION_INFO_FLAG_MMAP != 0 {
            return self.calls.map_region(&self.file, Mapping::registers(region.offset, length)).map(Some);
        }
        let file = self.calls.sys.try_clone(&self.file)?;
        let registers = Called { sys: self.calls.sys.clone(), file, start: region.offset };
        Ok(Some(Mmio::called(Arc::new(registers), length)))
    }

    /// What the kernel tells of a region of the device file.
    fn region(&self, index: u32) -> sys::Result<VfioRegionInfo> {
        let argument = VfioRegionInfo { index, ..VfioRegionInfo::new() };
        self.calls.ioctl(&self.file, argument, |done| format!("region {index}: {} bytes", done.size))
    }

    pub(super) fn vectors(&self, kind: InterruptKind) -> sys::Result<u32> {
        let argument = VfioIrqInfo { index: irq_index(kind), ..VfioIrqInfo::new() };
        let words = |done: &VfioIrqInfo| format!("{kind}: {} vectors", done.count);
        self.calls.ioctl(&self.file, argument, words).map(|done| done.count)
    }

    /// Enables the first vectors of a kind, one for each eventfd.
    pub(crate) fn enable(&self, kind: InterruptKind, events: &[BorrowedFd<'_>]) -> sys::Result<()> {
        let count = events.len() as u32;
        let descriptors = size_of::<i32>() * events.len();
        let mut argument = Tailed::new(
            VfioIrqSet {
                argsz: (size_of::<VfioIrqSet>() + descriptors) as u32,
                flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                index: irq_index(kind),
                start: 0,
                count,
            },
            descriptors,
        );
        for (place, event) in argument.tail_mut().chunks_exact_mut(size_of::<i32>()).zip(events) {
            place.copy_from_slice(&event.as_raw_fd().to_ne_bytes());
        }
        self.set_irqs(argument, &format!("{count} {kind} vectors"))
    }

    /// Disables the interrupts of a kind.
    pub(crate) fn disable(&self, kind: InterruptKind) -> sys::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        let argument = VfioIrqSet { flags, index: irq_index(kind), ..VfioIrqSet::new() };
        self.set_irqs(Tailed::new(argument, 0), "disabled")
    }

    pub(crate) fn unmask_line(&self) -> sys::Result<()> {
        let argument = VfioIrqSet {
            flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
            index: VFIO_PCI_INTX_IRQ_INDEX,
            count: 1,
            ..VfioIrqSet::new()
        };
        self.set_irqs(Tailed::new(argument, 0), "INTx unmasked")
    }

    fn set_irqs(&self, mut argument: Tailed<VfioIrqSet>, words: &str) -> sys::Result<()> {
        self.calls.ioctl_tailed(&self.file, &mut argument, || words.to_owned()).map(drop)
    }

    pub(super) fn reset(&self) -> sys::Result<()> {
        self.calls.reset(&self.file)
    }
}

impl<S: Sys> Drop for VfioDevice<S> {
    fn drop(&mut self) {
        if let Hold::Attachment = self.hold {
            // A device that has gone refuses it, and does no harm any more.
            let detach = VfioDeviceDetachIommufdPt::new();
            let _gone = self.calls.ioctl(&self.file, detach, |_| "detached".to_owned());
        }
    }
}

impl<S: Sys> AsFd for VfioDevice<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const fn irq_index(kind: InterruptKind) -> u32 {
    match kind {
        InterruptKind::Line => VFIO_PCI_INTX_IRQ_INDEX,
        InterruptKind::Msi => VFIO_PCI_MSI_IRQ_INDEX,
        InterruptKind::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
    }
}
