//! The world as the subsystem's emulated devices: the mediated ones.

use subsystem::{Emulated, Function, Mapping};

use super::World;
use crate::mediated::MediatedDevice;
use crate::ram::Pin;

impl World {
    fn with_mediated<R>(&self, function: Function, otherwise: R, f: impl FnOnce(&MediatedDevice) -> R) -> R {
        self.mediated.get(function).map_or(otherwise, f)
    }
}

impl Emulated for World {
    fn emulated_region(&self, function: Function, index: u32) -> u64 {
        self.with_mediated(function, 0, |device| device.region(index))
    }

    fn emulated_read(&self, function: Function, index: u32, offset: u64, width: u8) -> u32 {
        self.with_mediated(function, u32::MAX, |device| device.read(index, offset, width))
    }

    fn emulated_write(&self, function: Function, index: u32, offset: u64, width: u8, value: u32) {
        self.with_mediated(function, (), |device| device.write(index, offset, width, value));
    }

    fn emulated_reset(&self, function: Function) {
        self.with_mediated(function, (), MediatedDevice::reset);
    }

    fn pages_pinned(&self, function: Function, pages: &mut dyn Iterator<Item = Mapping<Pin>>) {
        self.with_mediated(function, (), |device| device.pages_pinned(pages));
    }

    fn dma_unmap(&self, function: Function, first: u64, last: u64) {
        self.with_mediated(function, (), |device| device.dma_unmap(first, last));
    }
}
