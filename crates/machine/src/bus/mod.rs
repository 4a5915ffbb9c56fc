//! The PCI bus: configuration space, BARs, interrupts, and what runs a device model.
#![forbid(unsafe_code)]

mod config;
mod doorbells;
mod function;
mod interrupts;
mod outbox;
mod parker;
mod runner;
pub(crate) mod sriov;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::Arc;

use subsystem::Function;

use crate::dma::{DmaPort, PortControl};
use crate::log::Log;
use crate::model::{Bar, BarKind, Identity, Model};
use crate::spec::PciAddress;

pub use doorbells::Doorbells;
pub(crate) use function::{PciFunction, Rom};
pub(crate) use interrupts::Event;
pub use interrupts::Interrupts;
pub(crate) use outbox::Outbox;
pub(crate) use runner::Runner;
pub(crate) use sriov::{Role, VirtualFunctions};
pub(crate) use topology::Topology;

/// The functions of a machine, and the windows of bus addresses that their BARs are placed in.
pub(crate) struct Bus {
    functions: Vec<Arc<PciFunction>>,
    topology: Topology,
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
    pub(crate) fn new(topology: Topology) -> Self {
        let next = Windows { memory32: 0xe000_0000, memory64: 0x3800_0000_0000, io: 0xc000 };
        Bus { functions: Vec::new(), topology, outbox: Arc::new(Outbox::default()), next }
    }

    /// Puts a function on the bus, and says whether its device has more; `vfs`: as many virtual functions can it have, of
    /// this identity. Functions are numbered in the order in which they
    /// are added, which is that of their addresses.
    pub(crate) fn add(
        &mut self,
        (address, several): (PciAddress, bool),
        (identity, model): (Identity, Box<dyn Model>),
        vfs: Option<(Identity, u8)>,
        ports: (DmaPort, PortControl),
        log: &Arc<Log>,
    ) -> Arc<PciFunction> {
        let number = Function(self.functions.len() as u32);
        let role = vfs.map_or(Role::Plain, |(identity, total)| {
            Role::Physical(VirtualFunctions::new(&identity, total, |bar| self.next.place(bar)))
        });
        let addresses = identity.bars.map(|bar| bar.map_or(0, |bar| self.next.place(bar)));
        let rom = model.rom().map(|bytes| {
            let size = (bytes.len() as u64).next_power_of_two().max(Rom::LEAST);
            Rom { bytes, size, address: self.next.place(Bar { size, kind: BarKind::Memory32 }) }
        });
        let place = function::Place { number, address, several, addresses, rom, role };
        let function = Arc::new(PciFunction::new(place, (identity, model), ports, &self.outbox, log));
        self.functions.push(Arc::clone(&function));
        function
    }

    /// Puts a virtual function on the bus, at its place behind its physical one; Linux does not know of it yet. `None`: it has
    /// no such place.
    pub(crate) fn add_virtual(
        &mut self,
        (physical, index): (Function, u8),
        (identity, model): (Identity, Box<dyn Model>),
        ports: (DmaPort, PortControl),
        log: &Arc<Log>,
    ) -> Option<()> {
        let of = self.get(physical)?;
        let (address, addresses) =
            (sriov::address(of.address(), index)?, of.virtual_functions()?.addresses(index));
        let (number, role) = (Function(self.functions.len() as u32), Role::Virtual(physical, index));
        let place = function::Place { number, address, several: false, addresses, rom: None, role };
        let function = PciFunction::new(place, (identity, model), ports, &self.outbox, log);
        function.set_present(false);
        self.functions.push(Arc::new(function));
        Some(())
    }

    /// The virtual functions of a physical one, enabled or not, with their indices.
    pub(crate) fn virtual_functions(
        &self,
        physical: Function,
    ) -> impl Iterator<Item = (u8, &Arc<PciFunction>)> {
        self.functions.iter().filter_map(move |function| match function.role() {
            Role::Virtual(of, index) if *of == physical => Some((*index, function)),
            _ => None,
        })
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

    /// Which buses are behind ports.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The functions on the bus of this one that Linux knows of, itself among them, by ascending address.
    pub(crate) fn siblings(&self, address: PciAddress) -> impl Iterator<Item = &Arc<PciFunction>> {
        let bus = |address: PciAddress| (address.domain(), address.bus());
        let present = self.functions.iter().filter(|function| function.is_present());
        present.filter(move |function| bus(function.address()) == bus(address))
    }

    /// The functions on the bus behind this one.
    pub(crate) fn behind(&self, port: PciAddress) -> impl Iterator<Item = &Arc<PciFunction>> {
        self.functions.iter().filter(move |function| self.topology.port(function.address()) == Some(port))
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
