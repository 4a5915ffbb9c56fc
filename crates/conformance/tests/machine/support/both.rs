//! A device with both kinds of messages, and a ROM.

use machine::model::{Bar, BarKind, Identity, Model, MsixSpec, Reach, Register, Work};

use super::bare;

/// A function with one vector of MSI, two of MSI-X, and an image of 1 KiB in its expansion ROM.
pub(crate) struct Both;

impl Model for Both {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: 8192, kind: BarKind::Memory32 });
        let msix =
            MsixSpec { vectors: 2, table_bar: 0, table_offset: 4096, pending_bar: 0, pending_offset: 4352 };
        Identity { bars, msi: Some(1), msix: Some(msix), ..bare() }
    }

    fn rom(&self) -> Option<Vec<u8>> {
        let mut image = vec![0; 1024];
        image[..2].copy_from_slice(&[0x55, 0xaa]);
        image[0x18] = 0x1c; // where the data structure is
        image[0x1c..0x20].copy_from_slice(b"PCIR");
        image[0x1c + 0x10] = 2; // units of 512 bytes
        image[0x1c + 0x15] = 0x80; // the last image
        Some(image)
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
