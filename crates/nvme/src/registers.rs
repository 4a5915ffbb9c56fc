//! The registers of a controller (NVMe 1.4, section 3.1).

use std::time::Duration;

use ioasis::Bar;

use crate::spec::register;

/// The registers. A controller that is gone reads as all ones and ignores writes, as a slot of the bus
/// without a card does.
#[derive(Clone)]
pub(crate) struct Registers(Bar);

impl Registers {
    pub(crate) fn new(bar: Bar) -> Self {
        Registers(bar)
    }

    pub(crate) fn read32(&self, offset: usize) -> u32 {
        self.0.try_read32(offset).unwrap_or(u32::MAX)
    }

    pub(crate) fn read64(&self, offset: usize) -> u64 {
        self.0.try_read64(offset).unwrap_or(u64::MAX)
    }

    #[inline]
    pub(crate) fn write32(&self, offset: usize, value: u32) {
        // Whoever waits for the effect sees in CSTS that the controller is gone.
        let _gone = self.0.try_write32(offset, value);
    }

    pub(crate) fn write64(&self, offset: usize, value: u64) {
        let _gone = self.0.try_write64(offset, value);
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities(self.read64(register::CAP))
    }

    /// How many pairs of I/O queues have their doorbells in the BAR.
    pub(crate) fn doorbell_pairs(&self, stride: usize) -> u16 {
        let pairs = self.0.length().saturating_sub(register::DOORBELLS) / (2 * stride);
        // The first pair is the admin queues'.
        u16::try_from(pairs.saturating_sub(1)).unwrap_or(u16::MAX)
    }
}

/// The CAP register (section 3.1.1).
#[derive(Clone, Copy)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// A controller that is gone has all of them.
    pub(crate) fn is_gone(self) -> bool {
        self.0 == u64::MAX
    }

    pub(crate) fn max_depth(self) -> u16 {
        // MQES counts from 0.
        (self.0 as u16).saturating_add(1)
    }

    /// How long it may take to become ready or disabled.
    pub(crate) fn ready_within(self) -> Duration {
        Duration::from_millis(500) * ((self.0 >> 24) as u8).max(1).into()
    }

    /// Bytes from one doorbell to the next.
    pub(crate) fn stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    pub(crate) fn runs_nvm_with_4k_pages(self) -> bool {
        self.0 >> 37 & 1 == 1 && self.0 >> 48 & 0xf == 0
    }
}
