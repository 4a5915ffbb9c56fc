//! Mediated devices: a driver of the kernel emulates them, and what they reach of the user's memory, it reaches for them in
//! software. There is one kind, the [`Copier`].
//!
//! The driver does not call the subsystem: a command that needs memory waits until the call that is under way has returned,
//! and is performed then, with no lock held ([`MediatedDevice::take_command`]).
#![forbid(unsafe_code)]

mod copier;

use std::sync::{Arc, Mutex, MutexGuard};

use subsystem::{Function, Mapping, Memory as _};
use uapi::Errno;
use uapi::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX};

use self::copier::{BAR_SIZE, CONFIG_SIZE, Copier};
use crate::lock::lock;
use crate::ram::{Pin, Ram};
use crate::spec::{MediatedSpec, Uuid};
use crate::world::World;

pub(crate) use copier::Command;

/// The driver, and the device of the kernel that mediated ones are children of.
pub(crate) const DRIVER: &str = "copier";

/// The mediated devices of a machine. Their numbers follow those of the functions on the bus.
pub(crate) struct MediatedDevices {
    first: u32,
    devices: Vec<MediatedDevice>,
}

/// A mediated device.
pub(crate) struct MediatedDevice {
    number: Function,
    uuid: Uuid,
    ram: Arc<Ram>,
    copier: Mutex<Copier>,
}

impl MediatedDevices {
    /// Devices that are numbered from `first` on.
    pub(crate) fn new(first: u32, specs: &[MediatedSpec], ram: &Arc<Ram>) -> Self {
        let devices = (first..).zip(specs).map(|(number, spec)| MediatedDevice {
            number: Function(number),
            uuid: spec.uuid,
            ram: Arc::clone(ram),
            copier: Mutex::default(),
        });
        MediatedDevices { first, devices: devices.collect() }
    }

    pub(crate) fn get(&self, function: Function) -> Option<&MediatedDevice> {
        self.devices.get(function.0.checked_sub(self.first)? as usize)
    }

    pub(crate) fn all(&self) -> &[MediatedDevice] {
        &self.devices
    }
}

impl MediatedDevice {
    pub(crate) fn number(&self) -> Function {
        self.number
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn copier(&self) -> MutexGuard<'_, Copier> {
        lock(&self.copier)
    }
}

/// What its user sees.
impl MediatedDevice {
    pub(crate) fn region(&self, index: u32) -> u64 {
        match index {
            VFIO_PCI_BAR0_REGION_INDEX => BAR_SIZE,
            VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_SIZE,
            _ => 0,
        }
    }

    pub(crate) fn read(&self, index: u32, offset: u64, width: u8) -> u32 {
        let word = match index {
            VFIO_PCI_CONFIG_REGION_INDEX => self.copier().config(offset & !3),
            _ => self.copier().register(offset & !3),
        };
        let kept = u32::MAX >> (32 - 8 * u32::from(width));
        (word >> (8 * (offset & 3))) & kept
    }

    /// What is narrower than a register is dropped.
    pub(crate) fn write(&self, index: u32, offset: u64, width: u8, value: u32) {
        match (index, width) {
            (VFIO_PCI_CONFIG_REGION_INDEX, 4) => self.copier().set_config(offset, value),
            (_, 4) => self.copier().set_register(offset, value, &self.ram),
            _ => {}
        }
    }

    pub(crate) fn reset(&self) {
        self.copier().reset();
    }
}

/// What its driver does in software.
impl MediatedDevice {
    /// The command that waits for memory; it is under way from now on, until [`MediatedDevice::complete`].
    pub(crate) fn take_command(&self) -> Option<Command> {
        self.copier().take_command()
    }

    /// What became of the command that is under way.
    pub(crate) fn complete(&self, result: Result<(), Errno>) {
        self.copier().complete(result);
    }

    /// The pages that the command under way has asked for.
    pub(crate) fn pages_pinned(&self, pages: &mut dyn Iterator<Item = Mapping<Pin>>) {
        let mut pages = pages.peekable();
        let Some(iova) = pages.peek().map(|mapping| mapping.iova) else { return };
        let frames = pages.flat_map(|mapping| {
            self.ram.pinned_frames(mapping.pin, mapping.first, mapping.pages).into_iter().flatten()
        });
        self.copier().pages_pinned(iova, frames.collect());
    }

    /// What was pinned there is no longer used.
    pub(crate) fn dma_unmap(&self, first: u64, last: u64) {
        self.copier().dma_unmap(first, last);
    }
}

/// How many pages hold so many bytes.
fn pages(length: u32) -> u64 {
    u64::from(length).div_ceil(World::PAGE)
}
