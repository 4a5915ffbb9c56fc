//! The PCI bus: configuration space, BARs, interrupts, and what runs a device model.
#![forbid(unsafe_code)]

mod config;
mod doorbells;
mod function;
mod interrupts;
mod runner;

use std::sync::Arc;

use subsystem::Function;

use crate::dma::{DmaPort, PortControl};
use crate::log::Log;
use crate::model::{Bar, BarKind, Model};
use crate::spec::PciAddress;

pub use doorbells::Doorbells;
pub(crate) use function::PciFunction;
pub use interrupts::Interrupts;
pub(crate) use interrupts::{Event, Outbox};
pub(crate) use runner::Runner;

/// The functions of a machine, and the windows of bus addresses that their BARs are placed in.
pub(crate) struct Bus {
    functions: Vec<Arc<PciFunction>>,
    outbox: Arc<Outbox>,
    next: Windows,
}

/// The next free bus address of each kind. RAM is elsewhere: below 3 GiB, or far below the 64-bit window.
struct Windows {
    memory32: u64,
    memory64: u64,
    io: u64,
}

impl Bus {
    pub(crate) fn new() -> Self {
        let next = Windows { memory32: 0xe000_0000, memory64: 0x3800_0000_0000, io: 0xc000 };
        Bus { functions: Vec::new(), outbox: Arc::new(Outbox::default()), next }
    }

    /// Puts a device on the bus. Functions are numbered in the order in which they are added.
    pub(crate) fn add(
        &mut self,
        address: PciAddress,
        model: Box<dyn Model>,
        ports: (DmaPort, PortControl),
        log: &Arc<Log>,
    ) -> Arc<PciFunction> {
        let number = Function(self.functions.len() as u32);
        let addresses = model.identity().bars.map(|bar| bar.map_or(0, |bar| self.next.place(bar)));
        let function =
            Arc::new(PciFunction::new((number, address), model, addresses, ports, &self.outbox, log));
        self.functions.push(Arc::clone(&function));
        function
    }

    /// The function of this number; the machine hands out no other numbers.
    pub(crate) fn get(&self, function: Function) -> Option<&Arc<PciFunction>> {
        self.functions.get(function.0 as usize)
    }

    pub(crate) fn at(&self, address: PciAddress) -> Option<&Arc<PciFunction>> {
        self.functions.iter().find(|function| function.address() == address)
    }

    pub(crate) fn functions(&self) -> &[Arc<PciFunction>] {
        &self.functions
    }

    /// What has happened on the bus and is to be told to drivers.
    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}

impl Windows {
    /// BARs are aligned to their size.
    fn place(&mut self, bar: Bar) -> u64 {
        let next = match bar.kind {
            BarKind::Memory32 => &mut self.memory32,
            BarKind::Memory64 => &mut self.memory64,
            BarKind::Io => &mut self.io,
        };
        // Memory BARs have their pages to themselves, as a kernel places them for pass-through.
        let size = if bar.kind == BarKind::Io { bar.size } else { bar.size.max(4096) };
        let address = next.next_multiple_of(size);
        *next = address + size;
        address
    }
}
