//! A bridge to nowhere.

use machine::model::{Identity, Model, Reach, Register, Work};

use super::bare;

/// A function with the header of a bridge.
pub(crate) struct Bridge;

impl Model for Bridge {
    fn identity(&self) -> Identity {
        Identity { class: 0x06_0400, ..bare() }
    }

    fn secondary_bus(&self) -> Option<u8> {
        Some(9)
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
