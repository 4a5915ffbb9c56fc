//! The capability list and the capabilities that drivers look at.
#![forbid(unsafe_code)]

use sys::Sys;

use super::{Config, Status};
use crate::Result;

const CAPABILITY_POINTER: u16 = 0x34;
/// The list lies behind the header.
const FIRST: u8 = 0x40;
/// More capabilities than fit between the header and the end of the 256 bytes: the list goes round in a circle.
const MOST: usize = (256 - FIRST as usize) / 4;

const POWER_MANAGEMENT: u8 = 0x01;
const MSI: u8 = 0x05;
const EXPRESS: u8 = 0x10;
const MSIX: u8 = 0x11;

/// An entry of the capability list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is, by the number that the PCI SIG gave it.
    pub id: u8,
    /// Where it starts in configuration space.
    pub offset: u16,
}

/// Message-signalled interrupts (PCI 3.0, section 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiCapability {
    /// Where it starts.
    pub offset: u16,
    /// Whether it is enabled.
    pub enabled: bool,
    /// How many vectors there are: a power of two up to 32.
    pub vectors: u8,
    /// Whether addresses of 64 bits are possible.
    pub wide: bool,
    /// Whether each vector can be masked.
    pub maskable: bool,
}

/// Message-signalled interrupts with a table (PCI 3.0, section 6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixCapability {
    /// Where it starts.
    pub offset: u16,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether all vectors are masked.
    pub masked: bool,
    /// How many vectors there are: 1 to 2048.
    pub vectors: u16,
    /// The BAR with the table, and where in it.
    pub table: (u8, u32),
    /// The BAR with the pending bits, and where in it.
    pub pending: (u8, u32),
}

/// PCI Express (PCI Express Base, section 7.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpressCapability {
    /// Where it starts.
    pub offset: u16,
    /// The kind of device: 0 for an endpoint.
    pub device_type: u8,
    /// The largest payload of a packet that the function can take, in bytes.
    pub max_payload: u16,
    /// Whether the function can be reset on its own (FLR).
    pub function_reset: bool,
}

/// Power management (PCI Power Management 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCapability {
    /// Where it starts.
    pub offset: u16,
    /// The power state that it is in: 0 for D0, up to 3 for D3hot.
    pub state: u8,
    /// Whether the function keeps its state when it goes from D3hot to D0.
    pub no_soft_reset: bool,
}

impl<S: Sys> Config<'_, S> {
    /// The capability list, in order. A list that is broken ends where it breaks.
    pub fn capabilities(&self) -> Result<Vec<Capability>> {
        let mut found = Vec::new();
        if !self.status()?.contains(Status::CAPABILITIES) {
            return Ok(found);
        }
        let mut next = self.read_u8(CAPABILITY_POINTER)? & !3;
        while next >= FIRST && found.len() < MOST {
            let [id, following] = self.read_u16(next.into())?.to_le_bytes();
            found.push(Capability { id, offset: next.into() });
            next = following & !3;
        }
        Ok(found)
    }

    /// Where the first capability of this number starts.
    pub fn find(&self, id: u8) -> Result<Option<u16>> {
        let found = self.capabilities()?;
        Ok(found.iter().find(|capability| capability.id == id).map(|capability| capability.offset))
    }

    /// The MSI capability.
    pub fn msi(&self) -> Result<Option<MsiCapability>> {
        let Some(offset) = self.find(MSI)? else { return Ok(None) };
        let control = self.read_u16(offset + 2)?;
        Ok(Some(MsiCapability {
            offset,
            enabled: control & 1 != 0,
            vectors: 1 << (control >> 1 & 7).min(5),
            wide: control & 1 << 7 != 0,
            maskable: control & 1 << 8 != 0,
        }))
    }

    /// The MSI-X capability.
    pub fn msix(&self) -> Result<Option<MsixCapability>> {
        let Some(offset) = self.find(MSIX)? else { return Ok(None) };
        let control = self.read_u16(offset + 2)?;
        let place = |word: u32| ((word & 7) as u8, word & !7);
        Ok(Some(MsixCapability {
            offset,
            enabled: control & 1 << 15 != 0,
            masked: control & 1 << 14 != 0,
            vectors: (control & 0x7ff) + 1,
            table: place(self.read_u32(offset + 4)?),
            pending: place(self.read_u32(offset + 8)?),
        }))
    }

    /// The PCI Express capability.
    pub fn express(&self) -> Result<Option<ExpressCapability>> {
        let Some(offset) = self.find(EXPRESS)? else { return Ok(None) };
        let flags = self.read_u16(offset + 2)?;
        let capabilities = self.read_u32(offset + 4)?;
        Ok(Some(ExpressCapability {
            offset,
            device_type: (flags >> 4 & 0xf) as u8,
            max_payload: 128 << (capabilities & 7),
            function_reset: capabilities & 1 << 28 != 0,
        }))
    }

    /// The power management capability.
    pub fn power_management(&self) -> Result<Option<PowerCapability>> {
        let Some(offset) = self.find(POWER_MANAGEMENT)? else { return Ok(None) };
        let control = self.read_u16(offset + 4)?;
        Ok(Some(PowerCapability { offset, state: (control & 3) as u8, no_soft_reset: control & 1 << 3 != 0 }))
    }
}
