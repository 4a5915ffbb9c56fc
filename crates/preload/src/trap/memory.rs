//! The program's memory: what the bus covers is asked of it, all else is there.

use sys::{Width, guarded};

use super::locks::{Kept, Locks};
use super::step::Stop;
use super::{Bus, PAGE};

pub(super) struct Memory<'a, B> {
    bus: &'a B,
    locks: &'a Locks,
    /// What a locked instruction keeps.
    kept: Option<Kept<'a>>,
}

impl<'a, B: Bus> Memory<'a, B> {
    /// # Safety
    ///
    /// What is written by it is what the program itself would have written.
    pub(super) unsafe fn of_program(bus: &'a B, locks: &'a Locks) -> Self {
        Memory { bus, locks, kept: None }
    }

    /// From here on, no other thread writes to the page with this address.
    pub(super) fn keep(&mut self, address: u64) {
        self.kept = Some(self.locks.keep(address));
    }

    /// Reads 1, 2, 4 or 8 bytes, extended by zeros.
    pub(super) fn load(&self, address: u64, size: usize) -> Result<u64, Stop> {
        let width = widest(address, size);
        if width.bytes() == size && self.bus.covers(address) {
            return self.bus.read(address, width).map_err(|_| Stop::Revoked { address });
        }
        let mut bytes = [0; 8];
        self.read(address, &mut bytes[..size])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes the lowest 1, 2, 4 or 8 bytes.
    pub(super) fn store(&self, address: u64, size: usize, value: u64) -> Result<(), Stop> {
        self.write(address, &value.to_le_bytes()[..size])
    }

    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Stop> {
        let mut at = 0;
        while at < bytes.len() {
            let here = address.wrapping_add(at as u64);
            if self.bus.covers(here) {
                let width = widest(here, bytes.len() - at);
                let value = self.bus.read(here, width).map_err(|_| Stop::Revoked { address: here })?;
                bytes[at..at + width.bytes()].copy_from_slice(&value.to_le_bytes()[..width.bytes()]);
                at += width.bytes();
            } else {
                let end = bytes.len().min(at + rest_of_page(here));
                // SAFETY: the handlers recover, as `Emulator::new` asks for.
                unsafe { guarded::read(here, &mut bytes[at..end]) }
                    .map_err(|address| Stop::Fault { address, write: false })?;
                at = end;
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Stop> {
        let mut at = 0;
        while at < bytes.len() {
            let here = address.wrapping_add(at as u64);
            if self.bus.covers(here) {
                let width = widest(here, bytes.len() - at);
                let mut value = [0; 8];
                value[..width.bytes()].copy_from_slice(&bytes[at..at + width.bytes()]);
                let _kept = self.kept.is_none().then(|| self.locks.keep(here));
                self.bus
                    .write(here, width, u64::from_le_bytes(value))
                    .map_err(|_| Stop::Revoked { address: here })?;
                at += width.bytes();
            } else {
                let end = bytes.len().min(at + rest_of_page(here));
                // SAFETY: the program would have written it itself, as `of_program` was promised.
                unsafe { guarded::write(here, &bytes[at..end]) }
                    .map_err(|address| Stop::Fault { address, write: true })?;
                at = end;
            }
        }
        Ok(())
    }
}

/// The widest access that is aligned here and goes no further than so many bytes, of which there is one at least.
fn widest(address: u64, bytes: usize) -> Width {
    [Width::U64, Width::U32, Width::U16]
        .into_iter()
        .find(|width| width.bytes() <= bytes && address.is_multiple_of(width.bytes() as u64))
        .unwrap_or(Width::U8)
}

fn rest_of_page(address: u64) -> usize {
    (PAGE - address % PAGE) as usize
}
