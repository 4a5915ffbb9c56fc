//! An Ethernet controller without a cable: Intel 82576, whose frames come back to it (Intel 82576 Gigabit Ethernet
//! Controller datasheet; section numbers below are its).
//!
//! What is there is what it takes to use its two descriptor rings as an engine that copies memory: one transmit and one
//! receive queue with advanced descriptors (7.1.5, 7.2.2), loopback of the PHY (3.5.6.3) or, as QEMU's `igb` has it, of
//! the MAC, MSI-X with one vector for each cause (7.3), the management interface of the PHY (8.2.4), and resets (4.2.1). Every
//! other register holds what was written to it. A frame that no loopback brings back is sent, and nobody hears it.
//!
//! A descriptor or buffer that the device cannot reach stops its engine until the function is reset, as it does on hardware.

mod registers;
#[cfg(test)]
mod tests;
mod virtual_function;

use sys::Width;

use self::registers::*;
pub(crate) use self::virtual_function::IgbVirtual;
use crate::dma::Doing;
use crate::model::{Bar, BarKind, Express, Identity, Model, MsixSpec, Reach, Register, Work};

/// How many descriptors are worked off in a turn.
const TURN: u32 = 32;
/// The length of a descriptor in bytes.
const DESCRIPTOR: u64 = 16;
/// The longest frame: of 9.5 KiB (RLPML, 8.10.6).
const LONGEST: usize = 9728;
/// The shortest frame without its checksum; shorter ones are padded.
const SHORTEST: usize = 60;
const VECTORS: u16 = 10;

/// The model.
pub(crate) struct Igb {
    registers: Vec<u32>,
    phy: [u16; 32],
    /// The frame that is being sent, as far as its descriptors have been read.
    frame: Vec<u8>,
    /// An access to memory was refused: the engine stands still.
    stopped: bool,
}

/// An access to memory was refused.
struct Stopped;

impl Igb {
    pub(crate) fn new() -> Self {
        let mut igb =
            Igb { registers: vec![0; (SIZE / 4) as usize], phy: [0; 32], frame: Vec::new(), stopped: false };
        igb.power_on();
        igb
    }

    /// Registers as a reset leaves them (4.2.1).
    fn power_on(&mut self) {
        self.registers.fill(0);
        self.frame.clear();
        self.set(EECD, EECD_AUTO_RD);
        self.phy = [0; 32];
    }

    fn get(&self, offset: u64) -> u32 {
        self.registers.get((offset / 4) as usize).copied().unwrap_or(u32::MAX)
    }

    fn set(&mut self, offset: u64, value: u32) {
        if let Some(register) = self.registers.get_mut((offset / 4) as usize) {
            *register = value;
        }
    }

    fn link_is_up(&self) -> bool {
        self.get(CTRL) & CTRL_SLU != 0
    }

    /// A command to the PHY: to write one of its registers, or to read one into the lower half of the command.
    fn command_phy(&mut self, command: u32) {
        let register = self.phy.get_mut((command >> 16 & 0x1f) as usize);
        let data = match register {
            Some(register) if command & MDIC_OPERATION == MDIC_READ => *register,
            Some(register) => {
                *register = command as u16;
                *register
            }
            None => 0,
        };
        self.set(MDIC, command & !0xffff | u32::from(data) | MDIC_READY);
    }
}

/// Interrupts.
impl Igb {
    /// Causes have arisen: those that are enabled are sent, each by the vector of its own number, and cleared and masked
    /// where that is automatic (7.3.4).
    fn raise(&mut self, causes: u32, reach: &Reach<'_>) {
        self.set(EICR, self.get(EICR) | causes);
        self.send_raised(reach);
    }

    fn send_raised(&mut self, reach: &Reach<'_>) {
        let sent = self.get(EICR) & self.get(EIMS);
        (0..VECTORS)
            .filter(|vector| sent >> vector & 1 != 0)
            .for_each(|vector| reach.interrupts.message(vector));
        self.set(EICR, self.get(EICR) & !(sent & self.get(EIAC)));
        if self.get(GPIE) & GPIE_EIAME != 0 {
            self.set(EIMS, self.get(EIMS) & !(sent & self.get(EIAM)));
        }
    }

    /// The receive queue (`shift` 0) or the transmit queue (8) has something to tell.
    fn raise_queue(&mut self, shift: u32, reach: &Reach<'_>) {
        let entry = self.get(IVAR0) >> shift;
        if entry & IVAR_VALID != 0 {
            self.raise(1 << (entry & IVAR_VECTOR), reach);
        }
    }
}

/// Rings.
impl Igb {
    fn is_enabled(&self, queue: u64, control: u64, bit: u32) -> bool {
        self.get(queue + QUEUE_CONTROL) & QUEUE_ENABLE != 0 && self.get(control) & bit != 0
    }

    /// The descriptor at the head of a queue; `None` if the device has none left there.
    fn descriptor(&self, queue: u64) -> Option<u64> {
        let (head, tail) = (self.get(queue + HEAD), self.get(queue + TAIL));
        let base =
            u64::from(self.get(queue + BASE_LOW) & !0x7f) | u64::from(self.get(queue + BASE_HIGH)) << 32;
        (head != tail).then(|| base.wrapping_add(u64::from(head) * DESCRIPTOR))
    }

    /// The head goes on to the next descriptor.
    fn advance(&mut self, queue: u64) {
        let count = (self.get(queue + LENGTH) / DESCRIPTOR as u32).max(1);
        self.set(queue + HEAD, (self.get(queue + HEAD) + 1) % count);
    }

    /// Works off a transmit descriptor; false if there is none.
    fn transmit(&mut self, reach: &mut Reach<'_>) -> Result<bool, Stopped> {
        if !self.link_is_up() || !self.is_enabled(TRANSMIT, TCTL, TCTL_EN) {
            return Ok(false);
        }
        let Some(at) = self.descriptor(TRANSMIT) else { return Ok(false) };
        reach.dma.doing(doing("transmit descriptor", self.get(TRANSMIT + HEAD)));
        let buffer = reach.dma.read_u64(at)?;
        let command = reach.dma.read_u32(at + 8)?;
        if command & TX_DEXT != 0 && command & TX_TYPE == TX_TYPE_DATA {
            let length = (command & TX_LENGTH) as usize;
            let start = self.frame.len();
            self.frame.resize(start + length, 0);
            reach.dma.doing(doing("transmit", self.get(TRANSMIT + HEAD)));
            reach.dma.read(buffer, &mut self.frame[start..])?;
            if command & TX_EOP != 0 {
                let mut frame = std::mem::take(&mut self.frame);
                // Without a checksum it is none, and too long a frame neither.
                if command & TX_IFCS != 0 && frame.len() <= LONGEST {
                    frame.resize(frame.len().max(SHORTEST), 0);
                    self.loop_back(frame, reach)?;
                }
            }
        }
        if command & TX_RS != 0 {
            reach.dma.doing(doing("transmit write-back", self.get(TRANSMIT + HEAD)));
            reach.dma.write_u32_release(at + 12, DONE)?;
        }
        self.advance(TRANSMIT);
        if command & TX_RS != 0 {
            self.raise_queue(8, reach);
        }
        Ok(true)
    }

    /// A frame comes back, if there is a loopback.
    fn loop_back(&mut self, mut frame: Vec<u8>, reach: &mut Reach<'_>) -> Result<(), Stopped> {
        let control = self.get(RCTL);
        let looped =
            control & RCTL_LOOPBACK == RCTL_LOOPBACK_MAC || self.phy[PHY_CONTROL] & PHY_LOOPBACK != 0;
        let wanted = match frame.as_slice() {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => control & (RCTL_BAM | RCTL_MPE) != 0,
            [first, ..] if first & 1 != 0 => control & RCTL_MPE != 0,
            _ => control & RCTL_UPE != 0,
        };
        if !looped || !wanted || !self.is_enabled(RECEIVE, RCTL, RCTL_EN) {
            return Ok(());
        }
        if control & RCTL_SECRC == 0 {
            frame.extend(checksum(&frame).to_le_bytes());
        }
        self.receive(&frame, reach)
    }

    /// Writes a frame to receive buffers, as many as it takes. Where there are too few, the rest of it is lost.
    fn receive(&mut self, frame: &[u8], reach: &mut Reach<'_>) -> Result<(), Stopped> {
        let mut pieces = frame.chunks(self.buffer_size()).peekable();
        while let Some(piece) = pieces.next() {
            let Some(at) = self.descriptor(RECEIVE) else { return Ok(()) };
            reach.dma.doing(doing("receive descriptor", self.get(RECEIVE + HEAD)));
            let buffer = reach.dma.read_u64(at)?;
            reach.dma.doing(doing("receive", self.get(RECEIVE + HEAD)));
            reach.dma.write(buffer, piece)?;
            reach.dma.doing(doing("receive write-back", self.get(RECEIVE + HEAD)));
            let end = if pieces.peek().is_none() { RX_EOP } else { 0 };
            reach.dma.write_u64_release(at, 0)?;
            // The status last: it says that all of it is there.
            reach.dma.write_u32_release(at + 12, piece.len() as u32)?;
            reach.dma.write_u32_release(at + 8, DONE | end)?;
            self.advance(RECEIVE);
        }
        self.raise_queue(0, reach);
        Ok(())
    }

    /// The size of a receive buffer (7.1.3.1).
    fn buffer_size(&self) -> usize {
        match self.get(RECEIVE + SRRCTL) & SRRCTL_BSIZE {
            0 => 2048 >> ((self.get(RCTL) & RCTL_BSIZE) >> 16),
            kilobytes => kilobytes as usize * 1024,
        }
    }
}

impl From<crate::dma::DmaError> for Stopped {
    fn from(_: crate::dma::DmaError) -> Self {
        Stopped
    }
}

fn doing(what: &'static str, descriptor: u32) -> Doing {
    Doing { what, queue: Some(0), id: Some(descriptor) }
}

/// The frame check sequence (IEEE 802.3, 3.2.9).
fn checksum(frame: &[u8]) -> u32 {
    !frame.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 != 0 { 0xedb8_8320 } else { 0 })
    })
}

/// Where a register is: queues have two places.
fn place(offset: u64) -> u64 {
    let aliased = ALIASES.iter().find_map(|(alias, queue)| {
        offset.checked_sub(*alias).filter(|inside| *inside < ALIAS_SIZE).map(|inside| queue + inside)
    });
    aliased.unwrap_or(offset)
}

impl Model for Igb {
    fn identity(&self) -> Identity {
        let mut bars = [None; 6];
        bars[0] = Some(Bar { size: SIZE, kind: BarKind::Memory32 });
        bars[2] = Some(Bar { size: 32, kind: BarKind::Io });
        bars[3] = Some(Bar { size: 16 << 10, kind: BarKind::Memory32 });
        Identity {
            vendor: 0x8086,
            device: 0x10c9,
            subsystem_vendor: 0x8086,
            subsystem: 0xa02c,
            revision: 1,
            class: 0x02_0000,
            bars,
            line: true,
            msi: Some(1),
            msix: Some(MsixSpec {
                vectors: VECTORS,
                table_bar: 3,
                table_offset: 0,
                pending_bar: 3,
                pending_offset: 0x2000,
            }),
            express: Some(Express { function_reset: true }),
            dma_bits: 64,
        }
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        if at.bar != 0 || at.width != Width::U32 {
            return u64::MAX;
        }
        let value = match place(at.offset) {
            STATUS if self.link_is_up() => STATUS_LINK,
            offset => self.get(offset),
        };
        value.into()
    }

    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>) {
        if at.bar != 0 || at.width != Width::U32 {
            return;
        }
        let value = value as u32;
        match place(at.offset) {
            CTRL if value & CTRL_RST != 0 => self.power_on(),
            STATUS | EECD => {}
            MDIC => self.command_phy(value),
            EICS => self.raise(value, reach),
            EICR => self.set(EICR, self.get(EICR) & !value),
            EIMS => {
                self.set(EIMS, self.get(EIMS) | value);
                self.send_raised(reach);
            }
            EIMC => self.set(EIMS, self.get(EIMS) & !value),
            offset => self.set(offset, value),
        }
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        for _ in 0..TURN {
            if self.stopped {
                return Work::Idle;
            }
            match self.transmit(reach) {
                Ok(true) => {}
                Ok(false) => return Work::Idle,
                Err(Stopped) => self.stopped = true,
            }
        }
        Work::More
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        *self = Igb::new();
    }
}
