//! Log pages (NVMe 1.4, section 5.14.1): errors, health, firmware.

use std::collections::VecDeque;

use super::command::Command;
use super::features::{Features, TEMPERATURE};
use super::namespace::BLOCK_BYTES;
use super::status::Status;

pub(super) const ERROR_INFORMATION: u8 = 0x01;
pub(super) const HEALTH_INFORMATION: u8 = 0x02;
pub(super) const FIRMWARE_SLOTS: u8 = 0x03;

/// The firmware's revision.
pub(super) const FIRMWARE: &[u8; 8] = b"1.4     ";

/// Entries in the error log.
pub(super) const ERROR_ENTRIES: usize = 16;

const ERROR_BYTES: usize = 64;
const PAGE_BYTES: usize = 512;

/// What is counted and recorded for the host. It outlives every reset.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Newest first.
    errors: VecDeque<ErrorEntry>,
    error_count: u64,
    pub(super) reads: Traffic,
    pub(super) writes: Traffic,
    media_errors: u64,
}

/// Commands and the blocks they moved.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    commands: u64,
    bytes: u64,
}

impl Traffic {
    pub(super) fn count(&mut self, bytes: usize) {
        self.commands += 1;
        self.bytes += bytes as u64;
    }

    /// Thousands of 512-byte units, rounded up.
    fn units(&self) -> u64 {
        self.bytes.div_ceil(1000 * 512)
    }
}

#[derive(Clone, Copy, Debug)]
struct ErrorEntry {
    count: u64,
    queue: u16,
    command: u16,
    status: Status,
    block: u64,
    namespace: u32,
}

impl Log {
    /// A command of `queue` failed.
    pub(super) fn command_failed(&mut self, queue: u16, command: &Command, status: Status) {
        if matches!(status, Status::UNRECOVERED_READ_ERROR | Status::WRITE_FAULT) {
            self.media_errors += 1;
        }
        let block = if queue == 0 { 0 } else { command.first_block() };
        self.record(queue, command.id, status, block, command.namespace);
    }

    /// Something was wrong with a doorbell of `queue`, for which no command is to blame.
    pub(super) fn doorbell_failed(&mut self, queue: u16) {
        self.record(queue, 0xffff, Status::SUCCESS, 0, 0);
    }

    fn record(&mut self, queue: u16, command: u16, status: Status, block: u64, namespace: u32) {
        self.error_count += 1;
        self.errors.truncate(ERROR_ENTRIES - 1);
        let count = self.error_count;
        self.errors.push_front(ErrorEntry { count, queue, command, status, block, namespace });
    }

    /// The bytes of a log page.
    pub(super) fn page(&self, page: u8, features: &Features) -> Option<Vec<u8>> {
        match page {
            ERROR_INFORMATION => Some(self.error_page()),
            HEALTH_INFORMATION => Some(self.health_page(features)),
            FIRMWARE_SLOTS => Some(firmware_page()),
            _ => None,
        }
    }

    fn error_page(&self) -> Vec<u8> {
        let mut page = vec![0; ERROR_ENTRIES * ERROR_BYTES];
        for (entry, bytes) in self.errors.iter().zip(page.chunks_exact_mut(ERROR_BYTES)) {
            bytes[0..8].copy_from_slice(&entry.count.to_le_bytes());
            bytes[8..10].copy_from_slice(&entry.queue.to_le_bytes());
            bytes[10..12].copy_from_slice(&entry.command.to_le_bytes());
            bytes[12..14].copy_from_slice(&entry.status.with_phase(false).to_le_bytes());
            // No parameter is named as the culprit.
            bytes[14..16].copy_from_slice(&[0xff, 0xff]);
            bytes[16..24].copy_from_slice(&entry.block.to_le_bytes());
            bytes[24..28].copy_from_slice(&entry.namespace.to_le_bytes());
        }
        page
    }

    fn health_page(&self, features: &Features) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        page[0] = features.critical_warnings();
        page[1..3].copy_from_slice(&TEMPERATURE.to_le_bytes());
        page[3] = 100; // available spare, per cent
        page[4] = 10; // its threshold
        let mut counter = |at: usize, value: u64| page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        counter(32, self.reads.units());
        counter(48, self.writes.units());
        counter(64, self.reads.commands);
        counter(80, self.writes.commands);
        counter(112, 1); // power cycles
        counter(160, self.media_errors);
        counter(176, self.error_count);
        page
    }
}

/// One slot, active, which cannot be written.
fn firmware_page() -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    page[0] = 1;
    page[8..16].copy_from_slice(FIRMWARE);
    page
}

/// SMART counts in units of 512 bytes, whatever a block is.
const _: () = assert!(BLOCK_BYTES == 512);
