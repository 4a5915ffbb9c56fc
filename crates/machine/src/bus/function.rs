//! One PCI function: configuration space, BARs and the model behind them.

mod run;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use subsystem::{Function, IrqKind};
use sys::Width;

use super::config::{ConfigSpace, command};
use super::parker::Parker;
use super::{Doorbells, Event, Interrupts, Outbox, Role, VirtualFunctions};
use crate::dma::{DmaPort, PortControl};
use crate::lock::lock;
use crate::log::Log;
use crate::model::{BarKind, DoorbellWindow, Identity, Model, MsixSpec, Register};
use crate::spec::PciAddress;

use run::Device;

/// What a read gives that nobody answers.
const ONES: u64 = u64::MAX;

/// A function on the bus.
pub(crate) struct PciFunction {
    number: Function,
    address: PciAddress,
    identity: Identity,
    /// Where its BARs are on the bus.
    addresses: [u64; 6],
    rom: Option<Rom>,
    role: Role,
    /// How many virtual functions of it are enabled.
    enabled_vfs: AtomicU8,
    config: Mutex<ConfigSpace>,
    /// What the configuration space says, kept where an access finds it at once.
    decodes_memory: AtomicBool,
    decodes_io: AtomicBool,
    /// Whether mappings of its BARs answer.
    mappings: AtomicBool,
    /// How often they were told not to.
    revocations: AtomicU32,
    interrupts: Interrupts,
    doorbells: Doorbells,
    window: Option<DoorbellWindow>,
    dma: PortControl,
    device: Mutex<Device>,
    /// How many wait for the device: whoever runs the model lets them in first.
    waiting: AtomicU32,
    /// Whether Linux knows of it: it was not taken off the bus.
    present: AtomicBool,
    /// Where the thread that runs the model sleeps, if it has one.
    pub(super) parker: Parker,
    log: Arc<Log>,
}

/// Where a function is, and where what it decodes is.
pub(super) struct Place {
    pub(super) number: Function,
    pub(super) address: PciAddress,
    /// Whether its device has several functions.
    pub(super) several: bool,
    /// Of its BARs.
    pub(super) addresses: [u64; 6],
    pub(super) rom: Option<Rom>,
    pub(super) role: Role,
}

/// An expansion ROM.
pub(crate) struct Rom {
    pub(super) bytes: Vec<u8>,
    /// A power of two.
    pub(crate) size: u64,
    pub(crate) address: u64,
}

impl Rom {
    /// The least size of one in bytes.
    pub(super) const LEAST: u64 = 2048;
    /// Its number among the regions.
    pub(crate) const REGION: u8 = 6;

    /// Up to 4 bytes of it; what is behind its content reads as ones.
    fn read(&self, offset: u64, width: Width) -> u64 {
        let byte = |at: u64| self.bytes.get(at as usize).copied().unwrap_or(0xff);
        (0..width.bytes() as u64).fold(0, |value, at| value | u64::from(byte(offset + at)) << (8 * at))
    }
}

impl PciFunction {
    pub(super) fn new(
        place: Place,
        (identity, model): (Identity, Box<dyn Model>),
        (port, dma): (DmaPort, PortControl),
        outbox: &Arc<Outbox>,
        log: &Arc<Log>,
    ) -> Self {
        let window = model.doorbells();
        let config = ConfigSpace::new(&identity, model.secondary_bus(), &place);
        let Place { number, address, addresses, rom, role, .. } = place;
        PciFunction {
            number,
            address,
            addresses,
            rom,
            role,
            enabled_vfs: AtomicU8::new(0),
            decodes_memory: AtomicBool::new(config.decodes(BarKind::Memory32)),
            decodes_io: AtomicBool::new(config.decodes(BarKind::Io)),
            config: Mutex::new(config),
            mappings: AtomicBool::new(false),
            revocations: AtomicU32::new(0),
            interrupts: Interrupts::new(number, identity.line, Arc::clone(outbox)),
            doorbells: Doorbells::new(window.map_or(0, |window| window.length)),
            window,
            dma,
            identity,
            device: Mutex::new(Device::new(model, port)),
            waiting: AtomicU32::new(0),
            present: AtomicBool::new(true),
            parker: Parker::default(),
            log: Arc::clone(log),
        }
    }

    pub(crate) fn number(&self) -> Function {
        self.number
    }

    pub(crate) fn address(&self) -> PciAddress {
        self.address
    }

    /// Whether Linux knows of it.
    pub(crate) fn is_present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// It is found on the bus, or leaves it.
    pub(crate) fn set_present(&self, present: bool) {
        self.present.store(present, Ordering::Release);
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where BAR `index` is on the bus.
    pub(crate) fn bar_address(&self, index: usize) -> u64 {
        self.addresses.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn rom(&self) -> Option<&Rom> {
        self.rom.as_ref()
    }

    /// What it is with regard to SR-IOV.
    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// The virtual functions that it can have.
    pub(crate) fn virtual_functions(&self) -> Option<&VirtualFunctions> {
        match &self.role {
            Role::Physical(functions) => Some(functions),
            Role::Plain | Role::Virtual(..) => None,
        }
    }

    /// How many of them are enabled.
    pub(crate) fn enabled_vfs(&self) -> u8 {
        self.enabled_vfs.load(Ordering::Acquire)
    }

    /// So many of them are from now on, as configuration space says too.
    pub(crate) fn set_enabled_vfs(&self, count: u8) {
        self.enabled_vfs.store(count, Ordering::Release);
        lock(&self.config).set_enabled_vfs(count);
    }

    /// The bus's half of its way to memory.
    pub(crate) fn dma(&self) -> &PortControl {
        &self.dma
    }

    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }
}

/// Configuration space.
impl PciFunction {
    pub(crate) fn config_size(&self) -> u16 {
        lock(&self.config).size()
    }

    pub(crate) fn config_read(&self, offset: u16, width: u8) -> u32 {
        lock(&self.config).read(offset, width, self.interrupts.line_level())
    }

    pub(crate) fn config_write(&self, offset: u16, width: u8, value: u32) {
        let resets = {
            let mut config = lock(&self.config);
            let resets = config.write(offset, width, value);
            self.follow(&config);
            resets
        };
        if resets {
            self.reset();
        }
    }

    /// All of it, as sysfs shows it.
    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        lock(&self.config).bytes(self.interrupts.line_level())
    }

    /// Does what the configuration space says.
    fn follow(&self, config: &ConfigSpace) {
        let command = config.command();
        self.dma.set_bus_master(command & command::BUS_MASTER != 0);
        self.interrupts.set_bus_master(command & command::BUS_MASTER != 0);
        self.interrupts.disable_line(command & command::LINE_DISABLE != 0);
        self.decodes_memory.store(config.decodes(BarKind::Memory32), Ordering::Release);
        self.decodes_io.store(config.decodes(BarKind::Io), Ordering::Release);
    }

    /// Resets the function.
    pub(crate) fn reset(&self) {
        self.dma.set_bus_master(false);
        self.with_device(|model, reach| {
            reach.doorbells.clear();
            model.reset(reach);
        });
        self.interrupts.reset();
        let mut config = lock(&self.config);
        config.reset();
        self.follow(&config);
    }
}

/// Interrupts, as the host sets them up.
impl PciFunction {
    /// Enables `count` vectors of a kind. Answers how many can be had; if that is less, nothing is enabled.
    pub(crate) fn vectors_enable(&self, kind: IrqKind, count: u32) -> u32 {
        let available = match kind {
            IrqKind::Line => u32::from(self.identity.line),
            // Without an IOMMU that remaps interrupts a platform has no block of messages to give: one vector.
            IrqKind::Msi => self.identity.msi.map_or(0, |_| 1),
            IrqKind::MsiX => self.identity.msix.map_or(0, |msix| u32::from(msix.vectors)),
        };
        if count > available {
            return available;
        }
        match kind {
            IrqKind::Line => self.interrupts.enable(kind, 1),
            IrqKind::Msi => {
                self.set_messages(|config| config.enable_msi(Some(count)), true);
                self.interrupts.enable(kind, count);
            }
            // The whole table is there, so that vectors can be added while MSI-X is enabled.
            IrqKind::MsiX => {
                self.set_messages(|config| config.enable_msix(true), true);
                self.interrupts.enable(kind, available);
            }
        }
        count
    }

    pub(crate) fn vector_set(&self, kind: IrqKind, vector: u32, event: Option<Event>) {
        self.interrupts.set(kind, vector, event);
    }

    pub(crate) fn vectors_disable(&self, kind: IrqKind) {
        self.interrupts.disable(kind);
        match kind {
            IrqKind::Line => {}
            IrqKind::Msi => self.set_messages(|config| config.enable_msi(None), false),
            IrqKind::MsiX => self.set_messages(|config| config.enable_msix(false), false),
        }
    }

    /// The line is disabled while messages are enabled.
    fn set_messages(&self, change: impl FnOnce(&mut ConfigSpace), on: bool) {
        let mut config = lock(&self.config);
        change(&mut config);
        config.set_command(command::LINE_DISABLE, on);
        self.follow(&config);
    }
}

/// BARs.
impl PciFunction {
    /// Whether mappings of the BARs answer from now on.
    pub(crate) fn enable_mappings(&self, on: bool) {
        self.mappings.store(on, Ordering::SeqCst);
        self.revocations.fetch_add(u32::from(!on), Ordering::SeqCst);
    }

    pub(crate) fn revocations(&self) -> u32 {
        self.revocations.load(Ordering::SeqCst)
    }

    pub(crate) fn mappings_enabled(&self) -> bool {
        self.mappings.load(Ordering::Acquire)
    }

    /// Reads a register; all ones where nothing decodes the address.
    pub(crate) fn read(&self, at: Register) -> u64 {
        if at.bar == Rom::REGION {
            let decodes = self.decodes_memory.load(Ordering::Acquire);
            return self.rom.as_ref().filter(|_| decodes).map_or(ONES, |rom| rom.read(at.offset, at.width));
        }
        if !self.decodes(at.bar) {
            return ONES;
        }
        if let Some(offset) = self.doorbell(at) {
            return self.doorbell_read(offset, at.width);
        }
        match self.msix_part(at) {
            Some(MsixPart::Table) => ONES,
            Some(MsixPart::Pending { word }) => self.interrupts.pending(word),
            None => self.with_device(|model, reach| model.read(at, reach)).unwrap_or(ONES),
        }
    }

    /// Writes a register; nothing happens where nothing decodes the address.
    pub(crate) fn write(&self, at: Register, value: u64) {
        if !self.decodes(at.bar) {
            return;
        }
        if let Some(offset) = self.doorbell(at) {
            self.doorbell_write(offset, at.width, value);
            return;
        }
        if self.msix_part(at).is_none() {
            self.with_device(|model, reach| model.write(at, value, reach));
            self.parker.wake_if_asleep();
        }
    }

    fn decodes(&self, bar: u8) -> bool {
        match self.identity.bars.get(usize::from(bar)) {
            Some(Some(bar)) if bar.kind == BarKind::Io => self.decodes_io.load(Ordering::Acquire),
            Some(Some(_)) => self.decodes_memory.load(Ordering::Acquire),
            // The host makes it decode legacy addresses for each access.
            _ => bar == Register::VGA,
        }
    }

    /// The offset of a register in the doorbell window, if it is there.
    #[inline]
    fn doorbell(&self, at: Register) -> Option<u64> {
        let window = self.window.filter(|window| window.bar == at.bar)?;
        at.offset.checked_sub(window.offset).filter(|&offset| offset < window.length)
    }

    fn doorbell_read(&self, offset: u64, width: Width) -> u64 {
        let word = |at| u64::from(self.doorbells.load(at));
        match width {
            Width::U64 => word(offset) | word(offset + 4) << 32,
            _ => word(offset) >> (8 * (offset % 4)),
        }
    }

    /// Plain registers are 32 bits wide: a narrower write is dropped.
    #[inline]
    fn doorbell_write(&self, offset: u64, width: Width, value: u64) {
        match width {
            Width::U8 | Width::U16 => return,
            Width::U32 => self.doorbells.store(offset, value as u32),
            Width::U64 => {
                self.doorbells.store(offset, value as u32);
                self.doorbells.store(offset + 4, (value >> 32) as u32);
            }
        }
        self.parker.wake_if_asleep();
    }

    fn msix_part(&self, at: Register) -> Option<MsixPart> {
        let MsixSpec { vectors, table_bar, table_offset, pending_bar, pending_offset } = self.identity.msix?;
        let inside = |bar: u8, start: u32, length: u64| {
            let offset = at.offset.checked_sub(u64::from(start)).filter(|_| at.bar == bar)?;
            (offset < length).then_some(offset)
        };
        if inside(table_bar, table_offset, 16 * u64::from(vectors)).is_some() {
            return Some(MsixPart::Table);
        }
        let offset = inside(pending_bar, pending_offset, u64::from(vectors).div_ceil(64) * 8)?;
        Some(MsixPart::Pending { word: (offset / 4) as usize })
    }
}

/// The parts of a BAR that the bus answers for the model.
enum MsixPart {
    /// The table: it is the host's. Reads give all ones, writes are dropped.
    Table,
    /// Pending bits, from this word of 32 on.
    Pending { word: usize },
}
