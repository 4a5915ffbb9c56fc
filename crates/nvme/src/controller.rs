//! The controller: bring-up, identification, queues, shutdown.

use std::sync::Arc;

use ioasis::{Device, Sys};
use zerocopy::{FromBytes, transmute};

use crate::error::{Error, Result};
use crate::lease::{Completions, Lease};
use crate::link::Link;
use crate::namespace::Namespace;
use crate::queue::Queue;
use crate::registers::Registers;
use crate::spec::{self, Command, IdentifyController, IdentifyNamespace, PAGE, admin, register};

/// The class code of an NVMe I/O controller.
const CLASS: u32 = 0x01_08_02;
/// How many pairs of I/O queues the controller is asked for, counted from 0.
const MOST_QUEUES: u32 = 63;

/// What a controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// Version of the specification: major, minor, tertiary.
    pub version: (u16, u8, u8),
    /// PCI vendor ID.
    pub vendor: u16,
    /// The largest transfer of one command, in bytes.
    pub max_transfer: usize,
    /// The largest depth of a queue.
    pub max_depth: u16,
    /// How many I/O queue pairs the controller grants.
    pub queues: u16,
    /// How many namespaces it may have.
    pub namespaces: u32,
    /// Whether it has a volatile write cache, so that only a flush makes writes durable.
    pub volatile_write_cache: bool,
}

/// An NVMe controller that is up.
///
/// It stays up until this and all its queues are dropped; then it is shut down, and its device is closed.
pub struct Controller<S: Sys> {
    link: Arc<Link<S>>,
    info: ControllerInfo,
}

impl<S: Sys> Controller<S> {
    /// Brings the controller of a device up: resets it, sets up the admin queues, enables it, and identifies
    /// it.
    ///
    /// `vectors` MSI-X vectors are enabled, one for each queue with [`Completions::Interrupt`] at a time.
    /// Polled queues need none.
    ///
    /// # Errors
    ///
    /// [`Error::NotNvme`] and [`Error::Unsuitable`] for a device that this driver cannot drive;
    /// [`Error::Device`] where memory, registers or interrupts are not to be had; [`Error::Timeout`],
    /// [`Error::Fatal`] and [`Error::Gone`] for a controller that does not come up.
    pub fn new(device: Device<S>, vectors: u16) -> Result<Self> {
        let class = device.config().class()?;
        if class != CLASS {
            return Err(Error::NotNvme { device: device.name().to_owned(), class });
        }
        device.set_bus_master(true)?;
        let registers = Registers::new(device.bar(0)?);
        let vectors = if vectors > 0 { device.interrupts().msix(vectors.into())? } else { Vec::new() };
        let link = Link::new(device, registers, vectors)?;
        let info = identify(&link)?;
        link.spare().ids = (1..=info.queues).rev().collect();
        Ok(Controller { link: Arc::new(link), info })
    }

    /// What the controller says of itself.
    #[must_use]
    pub fn info(&self) -> &ControllerInfo {
        &self.info
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device<S> {
        &self.link.device
    }

    /// The active namespaces.
    pub fn namespaces(&self) -> Result<Vec<Namespace>> {
        let list = self.link.identify(0, 2)?;
        let ids = list.chunks_exact(4).filter_map(|id| u32::read_from_bytes(id).ok());
        ids.take_while(|&id| id != 0).map(|id| self.namespace(id)).collect()
    }

    fn namespace(&self, id: u32) -> Result<Namespace> {
        let data: IdentifyNamespace = transmute!(self.link.identify(id, 0)?);
        let format = data.lbaf[usize::from(data.flbas & 0xf)];
        let shift = format >> 16 & 0xff;
        if !(9..=12).contains(&shift) || format as u16 != 0 {
            let why = "its block format is not of 512 to 4096 bytes without metadata";
            return Err(Error::Unsuitable { device: self.link.name(), why });
        }
        Ok(Namespace { id, blocks: data.nsze, block_size: 1 << shift })
    }

    /// A new pair of I/O queues with room for `depth - 1` commands under way. A queue that is dropped makes
    /// place for another.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a depth that the controller does not offer, and where all queue pairs or all
    /// vectors are in use; [`Error::Device`] where there is no memory, which a queue deeper than 64 needs in
    /// one piece of more than a page; [`Error::Command`] if the controller refuses.
    pub fn queue(&self, depth: u16, completions: Completions) -> Result<Queue<S>> {
        let most = self.info.max_depth;
        if !(2..=most).contains(&depth) {
            let what = format!("a queue of depth {depth} was asked for; 2 to {most} are possible");
            return Err(Error::Argument { device: self.link.name(), what });
        }
        Queue::create(Lease::take(&self.link, completions)?, depth, self.info.max_transfer)
    }
}

/// Asks the controller what it is, and for as many queues as it grants.
fn identify<S: Sys>(link: &Link<S>) -> Result<ControllerInfo> {
    let data: IdentifyController = transmute!(link.identify(0, 1)?);
    let granted = link.admin_command(
        "Set Features (Number of Queues)",
        Command {
            opcode: admin::SET_FEATURES,
            cdw10: [spec::FEATURE_QUEUES, MOST_QUEUES << 16 | MOST_QUEUES, 0, 0, 0, 0],
            ..Command::default()
        },
    )?;
    // Both counts are from 0: submission queues below, completion queues above.
    let granted = (granted.result as u16).min((granted.result >> 16) as u16).saturating_add(1);
    let limit = if data.mdts == 0 { usize::MAX } else { PAGE << data.mdts.min(20) };
    let version = link.registers.read32(register::VS);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(ControllerInfo {
        model: text(&data.model),
        serial: text(&data.serial),
        firmware: text(&data.firmware),
        version: ((version >> 16) as u16, (version >> 8) as u8, version as u8),
        vendor: data.vid,
        max_transfer: limit.min(crate::prp::LONGEST),
        max_depth: link.capabilities.max_depth(),
        queues: granted.min(link.registers.doorbell_pairs(link.capabilities.stride())),
        namespaces: data.nn,
        volatile_write_cache: data.vwc & 1 == 1,
    })
}
