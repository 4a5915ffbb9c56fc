//! Emulated devices of the simulated host: one region, and what their drivers have pinned.

use std::collections::BTreeMap;

use subsystem::{Emulated, Function, Mapping, Transfer};

use super::bus::Functions;
use super::host::TestHost;
use super::memory::{PAGE, Pin};

/// Emulated devices are numbered from here on.
pub(crate) const FIRST: u32 = 1 << 16;

/// An emulated device.
#[derive(Default)]
pub(crate) struct TestDevice {
    /// The bytes of region 0.
    pub(crate) region: Vec<u8>,
    /// The physical addresses of pages that its driver was told of, by IOVA, and how often.
    pub(crate) pages: BTreeMap<u64, Vec<u64>>,
    /// What its driver was told to let go, as first and last IOVA.
    pub(crate) unmapped: Vec<(u64, u64)>,
}

impl TestHost {
    /// Adds an emulated device with a region of 16 bytes.
    pub(crate) fn add_emulated(&self) -> Function {
        self.bus(|bus| {
            bus.emulated.push(TestDevice { region: vec![0; 16], ..TestDevice::default() });
            Function(FIRST + u32::try_from(bus.emulated.len() - 1).unwrap())
        })
    }

    /// Works on an emulated device.
    pub(crate) fn emulated<R>(&self, function: Function, f: impl FnOnce(&mut TestDevice) -> R) -> R {
        self.bus(|bus: &mut Functions| f(&mut bus.emulated[(function.0 - FIRST) as usize]))
    }
}

impl Emulated for TestHost {
    fn emulated_region(&self, function: Function, index: u32) -> u64 {
        self.emulated(function, |device| if index == 0 { device.region.len() as u64 } else { 0 })
    }

    fn emulated_read(&self, function: Function, index: u32, offset: u64, width: u8) -> u32 {
        assert!(index == 0 && matches!(width, 1 | 2 | 4) && offset.is_multiple_of(width.into()));
        self.emulated(function, |device| {
            let bytes = &device.region[offset as usize..][..usize::from(width)];
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
        })
    }

    fn emulated_write(&self, function: Function, index: u32, offset: u64, width: u8, value: u32) {
        assert!(index == 0 && matches!(width, 1 | 2 | 4) && offset.is_multiple_of(width.into()));
        self.emulated(function, |device| {
            let bytes = &value.to_le_bytes()[..usize::from(width)];
            device.region[offset as usize..][..usize::from(width)].copy_from_slice(bytes);
        });
    }

    fn emulated_reset(&self, function: Function) {
        self.emulated(function, |device| device.region.fill(0));
    }

    fn pages_pinned(&self, function: Function, pages: &mut dyn Iterator<Item = Mapping<Pin>>) {
        for mapping in pages {
            for page in 0..mapping.pages {
                let physical = self.ram(|ram| ram.pin_physical(mapping.pin, mapping.first + page));
                self.emulated(function, |device| {
                    device.pages.entry(mapping.iova + page * PAGE).or_default().push(physical);
                });
            }
        }
    }

    fn dma_unmap(&self, function: Function, first: u64, last: u64) {
        self.emulated(function, |device| device.unmapped.push((first, last)));
    }
}

/// Copying for drivers.
pub(crate) fn copy(host: &TestHost, pin: Pin, at: u64, bytes: Transfer<'_>) {
    host.ram(|ram| match bytes {
        Transfer::Read(bytes) => ram.read_pin(pin, at, bytes),
        Transfer::Write(bytes) => ram.write_pin(pin, at, bytes),
    });
}
