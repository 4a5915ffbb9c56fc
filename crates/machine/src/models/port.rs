//! A root port of PCI Express: a bridge to the bus behind it, and nothing else.

use crate::model::{Express, Identity, Model, Reach, Register, Work};

/// A root port, `1b36:000c` as QEMU's generic one, of one lane at 2.5 GT/s.
pub(crate) struct Port {
    /// The bus behind it.
    pub(crate) bus: u8,
}

impl Model for Port {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1b36,
            device: 0x000c,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: 0x06_0400,
            bars: [None; 6],
            line: false,
            msi: None,
            msix: None,
            express: Some(Express { function_reset: false }),
            dma_bits: 64,
        }
    }

    fn secondary_bus(&self) -> Option<u8> {
        Some(self.bus)
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        u64::MAX
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {}
}
