//! The NVM command set (NVMe 1.4, section 6): what happens to blocks.

use super::command::{ALL_NAMESPACES, Command};
use super::prp::{from_host, to_host};
use super::status::Status;
use super::{MAX_TRANSFER, NAMESPACE, Nvme};
use crate::dma::DmaPort;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;

const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// The name of a command, for findings.
pub(super) fn name(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        FLUSH => "FLUSH",
        WRITE => "WRITE",
        READ => "READ",
        WRITE_ZEROES => "WRITE ZEROES",
        _ => return None,
    })
}

impl Command {
    /// The first block, of a command that concerns blocks.
    pub(super) fn first_block(&self) -> u64 {
        u64::from(self.dword::<10>()) | u64::from(self.dword::<11>()) << 32
    }

    /// How many blocks, 1 to 65536.
    fn blocks(&self) -> u32 {
        (self.dword::<12>() & 0xffff) + 1
    }
}

impl Nvme {
    /// Executes an I/O command.
    pub(super) fn execute_io(&mut self, command: &Command, dma: &mut DmaPort) -> Result<(), Status> {
        name(command.opcode).ok_or(Status::INVALID_OPCODE)?;
        command.check_flags()?;
        match (command.opcode, command.namespace) {
            (_, NAMESPACE) | (FLUSH, ALL_NAMESPACES) => {}
            _ => return Err(Status::INVALID_NAMESPACE),
        }
        match command.opcode {
            FLUSH => self.namespace.flush(),
            WRITE => self.write_blocks(command, dma),
            READ => self.read_blocks(command, dma),
            _ => self.zero_blocks(command),
        }
    }

    fn read_blocks(&mut self, command: &Command, dma: &mut DmaPort) -> Result<(), Status> {
        let length = transfer_length(command)?;
        let extent = self.namespace.extent(command.first_block(), command.blocks())?;
        let segments = self.prp.resolve(dma, command.prp, length)?;
        to_host(dma, segments, self.namespace.read(extent)?)?;
        self.log.reads.count(length);
        Ok(())
    }

    fn write_blocks(&mut self, command: &Command, dma: &mut DmaPort) -> Result<(), Status> {
        let length = transfer_length(command)?;
        let extent = self.namespace.extent(command.first_block(), command.blocks())?;
        let segments = self.prp.resolve(dma, command.prp, length)?;
        self.namespace.write(extent, |bytes| from_host(dma, segments, bytes))?;
        self.log.writes.count(length);
        self.settle(command)
    }

    fn zero_blocks(&mut self, command: &Command) -> Result<(), Status> {
        let extent = self.namespace.extent(command.first_block(), command.blocks())?;
        self.namespace.zero(extent)?;
        self.settle(command)
    }

    /// Without a write cache, or if the command asks for it, what was written is durable before it completes.
    fn settle(&mut self, command: &Command) -> Result<(), Status> {
        let forced = command.dword::<12>() & FORCE_UNIT_ACCESS != 0;
        if forced || !self.features.write_cache { self.namespace.flush() } else { Ok(()) }
    }
}

/// The bytes that a command moves.
fn transfer_length(command: &Command) -> Result<usize, Status> {
    let length = command.blocks() as usize * super::namespace::BLOCK_BYTES as usize;
    if length <= MAX_TRANSFER { Ok(length) } else { Err(Status::INVALID_FIELD) }
}
