//! A device that looks on while it is reset.

use machine::model::{Bar, BarKind, Express, Identity, Model, Reach, Register, Work};

use super::bare;

/// A function with function-level reset. Whenever it is reset, it calls `seen`.
pub(crate) struct Witness {
    pub(crate) seen: Box<dyn Fn() + Send>,
}

impl Model for Witness {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: 4096, kind: BarKind::Memory32 });
        Identity { bars, express: Some(Express { function_reset: true }), ..bare() }
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        0
    }

    fn write(&mut self, _: Register, _: u64, _: &mut Reach<'_>) {}

    fn work(&mut self, _: &mut Reach<'_>) -> Work {
        Work::Idle
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        (self.seen)();
    }
}
