//! A DMA engine: the QuickData engine of Intel's Skylake servers, version 3.3 of I/OAT (Intel Xeon Processor Scalable Family
//! datasheet, volume 2, "Intel QuickData Technology").
//!
//! What is there is one channel that works off a chain of descriptors (copy, fill, nothing), writes completions, interrupts
//! by MSI-X, can be suspended and reset, and halts at an error. DMACOUNT is a running total: the channel executes descriptors
//! until it has done as many, and a chain that leads back into itself may be as short as one. Not there are XOR and P+Q
//! operations, page breaks, DCA, and the INTx line. What is no register reads 0 and ignores writes.
//!
//! The error registers in extended configuration space (DMAUNCERRSTS at 0x148, CHANERR_INT at 0x180), which drivers clear,
//! read 0: errors are told by CHANERR alone.

mod registers;
#[cfg(test)]
mod tests;

use self::registers::*;
use crate::dma::Doing;
use crate::model::{Bar, BarKind, Express, Identity, Model, MsixSpec, Reach, Register, Work};

/// How many descriptors are worked off in a turn.
const TURN: u32 = 32;
/// The length of a descriptor in bytes, to which it is aligned.
const DESCRIPTOR: u64 = 64;
/// XFERCAP: the most bytes that a descriptor moves are two to this power.
const TRANSFER_BITS: u64 = 14;
const LONGEST: usize = 1 << TRANSFER_BITS;
const VECTORS: u16 = 1;

/// The model.
pub(crate) struct Ioat {
    intrctrl: u64,
    channel: Channel,
    /// What is on its way from source to destination.
    buffer: Box<[u8; LONGEST]>,
}

/// The channel, as a reset leaves it by default.
#[derive(Default)]
struct Channel {
    state: State,
    control: u64,
    /// CHAINADDR
    chain: u64,
    /// The descriptor that is next.
    next: u64,
    /// The one that was executed last.
    completed: u64,
    /// DMACOUNT: how many are to be executed since CHAINADDR was written.
    count: u16,
    /// How many were.
    executed: u16,
    /// CHANCMP: where completions are written to.
    completion: u64,
    errors: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Halted,
    Suspended,
    Running,
}

/// Bits of CHANERR, at which the channel halts.
struct Halt(u64);

/// A descriptor, as far as it is looked at.
struct Descriptor {
    size: u32,
    control: u32,
    /// Where from; or the pattern that memory is filled with.
    source: u64,
    destination: u64,
    next: u64,
}

impl Descriptor {
    fn from_bytes(bytes: &[u8; DESCRIPTOR as usize]) -> Self {
        let word = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        let long = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        Descriptor {
            size: u32::from_le_bytes(word(0)),
            control: u32::from_le_bytes(word(4)),
            source: u64::from_le_bytes(long(8)),
            destination: u64::from_le_bytes(long(16)),
            next: u64::from_le_bytes(long(24)),
        }
    }
}

impl Channel {
    fn is_active(&self) -> bool {
        self.state == State::Running && self.executed != self.count
    }

    /// CHANSTS
    fn status(&self) -> u64 {
        let state = match self.state {
            State::Halted => CHANSTS_HALTED,
            State::Suspended => CHANSTS_SUSPENDED,
            State::Running if self.is_active() => CHANSTS_ACTIVE,
            State::Running => CHANSTS_DONE,
        };
        self.completed | state
    }

    /// A new chain: nothing of it is to be executed yet.
    fn begin(&mut self, chain: u64) {
        (self.chain, self.next) = (chain, chain);
        (self.count, self.executed) = (0, 0);
    }

    /// So many descriptors are there. Errors hold the channel until they are cleared.
    fn go_on(&mut self, count: u16) {
        self.count = count;
        if self.errors == 0 && self.executed != count {
            self.state = State::Running;
        }
    }

    fn doing(&self, what: &'static str) -> Doing {
        Doing { what, queue: Some(0), id: Some(self.executed.into()) }
    }

    /// Reads the next descriptor.
    fn fetch(&self, reach: &mut Reach<'_>) -> Result<Descriptor, Halt> {
        let is_first = self.executed == 0;
        if !self.next.is_multiple_of(DESCRIPTOR) {
            return Err(Halt(if is_first { error::CHAIN_ADDRESS } else { error::NEXT_ALIGNMENT }));
        }
        let mut bytes = [0; DESCRIPTOR as usize];
        reach.dma.doing(self.doing("descriptor"));
        reach
            .dma
            .read(self.next, &mut bytes)
            .map_err(|_| Halt(if is_first { error::CHAIN_ADDRESS } else { error::NEXT_ADDRESS }))?;
        Ok(Descriptor::from_bytes(&bytes))
    }

    /// Moves what a descriptor asks to be moved.
    fn transfer(
        &self,
        descriptor: &Descriptor,
        buffer: &mut [u8; LONGEST],
        reach: &mut Reach<'_>,
    ) -> Result<(), Halt> {
        if descriptor.control & DESCRIPTOR_NULL != 0 {
            return Ok(());
        }
        let operation = (descriptor.control >> 24) as u8;
        let bytes = match buffer.get_mut(..descriptor.size as usize) {
            Some(bytes) if !bytes.is_empty() => bytes,
            _ => return Err(Halt(error::LENGTH)),
        };
        match operation {
            COPY => {
                reach.dma.doing(self.doing("copy"));
                reach.dma.read(descriptor.source, bytes).map_err(|_| Halt(error::READ))?;
            }
            FILL => {
                reach.dma.doing(self.doing("fill"));
                let pattern = descriptor.source.to_le_bytes();
                bytes.iter_mut().zip(pattern.iter().cycle()).for_each(|(byte, new)| *byte = *new);
            }
            _ => return Err(Halt(error::CONTROL)),
        }
        reach.dma.write(descriptor.destination, bytes).map_err(|_| Halt(error::WRITE))
    }

    /// Writes the status to memory.
    fn complete(&self, reach: &mut Reach<'_>) -> Result<(), Halt> {
        reach.dma.doing(self.doing("completion"));
        let written = reach.dma.write_u64_release(self.completion & !7, self.status());
        written.map_err(|_| Halt(error::COMPLETION_ADDRESS))
    }
}

impl Ioat {
    pub(crate) fn new() -> Self {
        Ioat { intrctrl: 0, channel: Channel::default(), buffer: Box::new([0; LONGEST]) }
    }

    /// Executes the next descriptor.
    fn execute(&mut self, reach: &mut Reach<'_>) -> Result<(), Halt> {
        let channel = &mut self.channel;
        let descriptor = channel.fetch(reach)?;
        channel.transfer(&descriptor, &mut self.buffer, reach)?;
        channel.completed = channel.next;
        channel.next = descriptor.next;
        channel.executed = channel.executed.wrapping_add(1);
        if descriptor.control & DESCRIPTOR_COMPLETION != 0 {
            channel.complete(reach)?;
        }
        if descriptor.control & DESCRIPTOR_INTERRUPT != 0 {
            self.interrupt(reach);
        }
        Ok(())
    }

    /// The channel stops, and tells as it was asked to.
    fn halt(&mut self, Halt(error): Halt, reach: &mut Reach<'_>) {
        self.channel.state = State::Halted;
        self.channel.errors |= error;
        if self.channel.control & CHANCTRL_ERR_COMPLETION != 0
            && let Err(Halt(error)) = self.channel.complete(reach)
        {
            self.channel.errors |= error;
        }
        if self.channel.control & CHANCTRL_ERR_INT != 0 {
            self.interrupt(reach);
        }
    }

    /// Sends one interrupt; the next one only when software has asked for it.
    fn interrupt(&mut self, reach: &Reach<'_>) {
        if self.intrctrl & INTRCTRL_VECTORS != 0 && self.channel.control & CHANCTRL_INT_DISABLE == 0 {
            self.channel.control |= CHANCTRL_INT_DISABLE;
            reach.interrupts.message(0);
        }
    }

    fn get(&self, field: Field) -> u64 {
        let channel = &self.channel;
        match field {
            CHANCNT => 1,
            XFERCAP => TRANSFER_BITS,
            INTRCTRL => self.intrctrl,
            VER => VERSION,
            DMACAP => DMACAP_FILL,
            CHANCTRL => channel.control,
            DMACOUNT => channel.count.into(),
            CHANSTS => channel.status(),
            CHAINADDR => channel.chain,
            CHANCMP => channel.completion,
            CDAR => channel.next,
            CHANERR => channel.errors,
            // A command is done when it reads.
            _ => 0,
        }
    }

    fn set(&mut self, field: Field, part: Part, reach: &mut Reach<'_>) {
        let channel = &mut self.channel;
        match field {
            INTRCTRL => self.intrctrl = part.value & INTRCTRL_VECTORS,
            CHANCTRL => {
                // Its lowest bit is cleared by a one.
                let disabled = channel.control & !part.value & CHANCTRL_INT_DISABLE;
                channel.control = part.over(channel.control) & !CHANCTRL_INT_DISABLE | disabled;
            }
            CHANCMD => match part.value {
                0 => {}
                CHANCMD_RESET => self.channel = Channel::default(),
                CHANCMD_SUSPEND if channel.state == State::Running => channel.state = State::Suspended,
                CHANCMD_SUSPEND => {}
                _ => self.halt(Halt(error::COMMAND), reach),
            },
            DMACOUNT => channel.go_on(part.over(channel.count.into()) as u16),
            CHAINADDR => channel.begin(part.over(channel.chain)),
            CHANCMP => channel.completion = part.over(channel.completion),
            CHANERR => channel.errors &= !part.value,
            _ => {}
        }
    }
}

impl Model for Ioat {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: SIZE, kind: BarKind::Memory64 });
        Identity {
            vendor: 0x8086,
            device: 0x2021,
            subsystem_vendor: 0x8086,
            subsystem: 0,
            revision: 4,
            class: 0x08_8000,
            bars,
            line: false,
            msi: None,
            msix: Some(MsixSpec {
                vectors: VECTORS,
                table_bar: 0,
                table_offset: 0x2000,
                pending_bar: 0,
                pending_offset: 0x3000,
            }),
            express: Some(Express { function_reset: true }),
            dma_bits: 64,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        FIELDS.iter().fold(0, |value, &field| value | field.seen(self.get(field), at.offset, at.width))
    }

    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>) {
        for field in FIELDS {
            if let Some(part) = field.part(value, at.offset, at.width) {
                self.set(field, part, reach);
            }
        }
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        for _ in 0..TURN {
            if !self.channel.is_active() {
                return Work::Idle;
            }
            if let Err(halt) = self.execute(reach) {
                self.halt(halt, reach);
            }
        }
        Work::More
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        *self = Ioat::new();
    }
}
