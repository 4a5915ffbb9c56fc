//! A virtual function of the 82576, as far as it can be bound, opened and reset: its registers hold what was written to them.

use sys::Width;

use super::Igb;
use crate::model::{Bar, BarKind, Express, Identity, Model, MsixSpec, Reach, Register, Work};

const SIZE: u64 = 16 << 10;

/// The model.
pub(crate) struct IgbVirtual {
    registers: Vec<u32>,
}

impl IgbVirtual {
    pub(crate) fn new() -> Self {
        IgbVirtual { registers: vec![0; (SIZE / 4) as usize] }
    }
}

impl Model for IgbVirtual {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: SIZE, kind: BarKind::Memory64 });
        bars[3] = Some(Bar { size: SIZE, kind: BarKind::Memory64 });
        Identity {
            device: 0x10ca,
            bars,
            line: false,
            msi: None,
            msix: Some(MsixSpec {
                vectors: 3,
                table_bar: 3,
                table_offset: 0,
                pending_bar: 3,
                pending_offset: 0x2000,
            }),
            express: Some(Express { function_reset: true }),
            ..Igb::new().identity()
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        let register = self.registers.get((at.offset / 4) as usize);
        register.filter(|_| at.bar == 0 && at.width == Width::U32).map_or(u64::MAX, |it| u64::from(*it))
    }

    fn write(&mut self, at: Register, value: u64, _: &mut Reach<'_>) {
        let register = self.registers.get_mut((at.offset / 4) as usize);
        if let Some(register) = register.filter(|_| at.bar == 0 && at.width == Width::U32) {
            *register = value as u32;
        }
    }

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        self.registers.fill(0);
    }
}
