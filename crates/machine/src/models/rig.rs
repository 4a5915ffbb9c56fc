//! What tests drive a model with: memory, interrupts and doorbells, but no bus.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use subsystem::{Function, IrqKind, Mapping, Rights, Source};
use sys::{Memory, MemoryOptions, PageSize};

use crate::bus::{Doorbells, Event, Interrupts, Outbox};
use crate::dma::{Checker, DmaPort, Doing, Domains, Mode, PortControl};
use crate::model::Reach;
use crate::ram::{FRAME, LayoutKind, Ram, RamSpec};

/// Bytes of memory that the model may reach, in one physical piece.
pub(super) const MEMORY: u64 = 16 << 20;

pub(super) struct Rig {
    dma: DmaPort,
    _control: PortControl,
    /// The host's own way to the same memory.
    host: RefCell<DmaPort>,
    domains: Domains,
    base: u64,
    /// How many findings were taken.
    taken: Cell<usize>,
    interrupts: Interrupts,
    events: Vec<OwnedFd>,
    doorbells: Doorbells,
    _memory: Memory,
}

impl Rig {
    pub(super) fn new() -> Self {
        let spec = RamSpec { bytes: 2 * MEMORY, layout: LayoutKind::Contiguous, seed: 1 };
        let ram = Ram::new(&spec).expect("RAM");
        let options = MemoryOptions { length: MEMORY as usize, page_size: PageSize::Base, highest: u64::MAX };
        let memory = ram.allocate(&options).expect("memory");
        let task = ram.accounts().task(0, None);
        let source = Source::User { task, address: memory.start().as_ptr() as u64 };
        let pages = MEMORY / FRAME;
        let pin = ram.pin(source, 0, pages, true).expect("machine RAM");
        let base = ram.run(pin, 0, pages).address;

        let domains = Domains::new(ram, Arc::new(Checker::new(Mode::Enforce)));
        let domain = domains.create(None);
        domains.map(
            domain,
            &Mapping { iova: 0, pin, first: 0, pages, rights: Rights { read: true, write: true } },
        );
        let port = |name| {
            let (port, control) = domains.port(name, 64, None);
            control.set_bus_master(true);
            domains.attach(&control, Some(domain));
            (port, control)
        };
        let (dma, control) = port("device");
        let (host, _) = port("host");
        let interrupts = Interrupts::new(Function(0), true, Arc::new(Outbox::default()));
        interrupts.set_bus_master(true);
        Rig {
            dma,
            _control: control,
            host: RefCell::new(host),
            domains,
            base,
            taken: Cell::new(0),
            interrupts,
            events: Vec::new(),
            doorbells: Doorbells::new(4096),
            _memory: memory,
        }
    }

    pub(super) fn reach(&mut self) -> Reach<'_> {
        Reach { dma: &mut self.dma, interrupts: &self.interrupts, doorbells: &self.doorbells }
    }

    pub(super) fn doorbells(&self) -> &Doorbells {
        &self.doorbells
    }

    /// The physical address of the byte at `offset` of the memory.
    pub(super) fn address(&self, offset: u64) -> u64 {
        self.base + offset
    }

    pub(super) fn store(&self, offset: u64, bytes: &[u8]) {
        self.host.borrow_mut().write(self.address(offset), bytes).expect("the rig's memory");
    }

    pub(super) fn load(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.host.borrow_mut().read(self.address(offset), &mut bytes).expect("the rig's memory");
        bytes
    }

    /// The findings since the last call: what the model was doing, and where.
    pub(super) fn take_findings(&self) -> Vec<(Option<Doing>, u64)> {
        let all = self.domains.checker().findings();
        let new = all.iter().skip(self.taken.replace(all.len()));
        new.map(|finding| (finding.doing, finding.address)).collect()
    }

    /// Enables MSI or MSI-X with `count` vectors.
    pub(super) fn enable_messages(&mut self, kind: IrqKind, count: u32) {
        self.interrupts.enable(kind, count);
        for vector in 0..count {
            let fd = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
            let event = Event::new(fd.try_clone().expect("a second descriptor"));
            self.interrupts.set(kind, vector, Some(event));
            self.events.push(fd);
        }
    }

    /// How often a vector was sent since the last call.
    pub(super) fn take_messages(&self, vector: usize) -> u64 {
        let mut bytes = [0; 8];
        rustix::io::read(&self.events[vector], &mut bytes).map_or(0, |_| u64::from_ne_bytes(bytes))
    }

    /// The level of the line.
    pub(super) fn line(&self) -> bool {
        self.interrupts.line_level()
    }
}
