//! A device with I/O ports.

use machine::model::{Bar, BarKind, Identity, Model, Reach, Register, Work};

use super::bare;

/// A function with a page of memory and 64 ports, all of which read as zero, and 16 vectors of MSI that it never uses.
pub(crate) struct Ports;

impl Model for Ports {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: 4096, kind: BarKind::Memory32 });
        bars[2] = Some(Bar { size: 64, kind: BarKind::Io });
        Identity { bars, msi: Some(16), ..bare() }
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        0
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {}
}
