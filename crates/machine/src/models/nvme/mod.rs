//! An NVMe controller (NVM Express Base Specification 1.4) with one namespace.
//!
//! BAR 0 has the controller's registers in its first page, the doorbells in the second, which is plain, the MSI-X table
//! in the third and the pending bits in the fourth.
//!
//! A command is executed from beginning to end when it is fetched, so that nothing but requests for asynchronous events
//! is ever outstanding. A path through here: [`Model::work`] → [`Nvme::serve`] fetches → [`Nvme::execute`] dispatches to
//! `admin.rs` or `io.rs` → completions are posted → [`Nvme::interrupt`] tells the host, once per batch.

mod admin;
mod command;
mod events;
mod features;
mod identify;
mod io;
mod log;
mod namespace;
mod prp;
mod queue;
mod registers;
mod status;
#[cfg(test)]
mod tests;

use sys::Width;

pub(crate) use namespace::Namespace;

use admin::Outcome;
use command::{Command, Completion, SUBMISSION_BYTES};
use events::{EventKind, Events, INVALID_DOORBELL_VALUE, WRITE_TO_INVALID_DOORBELL};
use features::Features;
use identify::Names;
use log::Log;
use prp::Prp;
use queue::{BATCH, CompletionQueue, Entries, InvalidDoorbell, PAIRS, Queues, SubmissionQueue};
use registers::{CSTS_FATAL, CSTS_READY, CSTS_SHUTDOWN_COMPLETE, DOORBELLS, Registers, Request};
use status::Status;

use crate::dma::{DmaError, Doing};
use crate::model::{Bar, BarKind, DoorbellWindow, Express, Identity, Model, MsixSpec, Reach, Register, Work};

const VENDOR: u16 = 0x1b36;
const SUBSYSTEM_VENDOR: u16 = 0x1af4;

/// Interrupt vectors: more than completion queues.
const VECTORS: u16 = 32;

/// The identifier of the namespace.
const NAMESPACE: u32 = 1;

/// Most bytes that a command may transfer.
const MAX_TRANSFER: usize = 4 << 20;

/// The model.
pub(crate) struct Nvme {
    names: Names,
    namespace: Namespace,
    registers: Registers,
    features: Features,
    /// None exist while the controller is disabled.
    queues: Queues,
    events: Events,
    log: Log,
    prp: Prp,
    entries: Box<Entries>,
    /// Whether the line is asserted.
    line: bool,
}

impl Nvme {
    /// A controller that answers to `serial`, the first 20 characters of which the host sees.
    pub(crate) fn new(namespace: Namespace, serial: &str) -> Self {
        let registers = Registers::default();
        Nvme {
            names: Names::new(serial),
            namespace,
            prp: Prp::new(registers.configuration.page_size(), MAX_TRANSFER),
            registers,
            features: Features::default(),
            queues: Queues::default(),
            events: Events::default(),
            log: Log::default(),
            entries: Box::new([[0; SUBMISSION_BYTES]; BATCH]),
            line: false,
        }
    }

    fn store(&mut self, offset: u64, value: u32, reach: &mut Reach<'_>) {
        match self.registers.store(offset, value) {
            Some(Request::Enable) => self.enable(reach),
            Some(Request::Disable) => self.disable(reach),
            Some(Request::Shutdown) => self.shut_down(),
            Some(Request::Mask) => self.set_line(reach),
            None => {}
        }
    }

    fn enable(&mut self, reach: &mut Reach<'_>) {
        let Some(admin) = self.registers.admin_queues() else {
            self.registers.status = CSTS_FATAL;
            return;
        };
        reach.doorbells.clear();
        let (base, entries) = admin.completion;
        self.queues.completion[0] = Some(CompletionQueue::new(0, Some(0), base, entries, reach.doorbells));
        let (base, entries) = admin.submission;
        self.queues.submission[0] = Some(SubmissionQueue::new(0, 0, base, entries, reach.doorbells));
        self.prp = Prp::new(self.registers.configuration.page_size(), MAX_TRANSFER);
        self.registers.status = CSTS_READY;
    }

    /// A controller reset: queues, outstanding requests and settings are gone.
    fn disable(&mut self, reach: &mut Reach<'_>) {
        self.registers.reset_controller();
        self.queues = Queues::default();
        self.events = Events::default();
        self.features = Features::default();
        self.set_line(reach);
    }

    fn shut_down(&mut self) {
        // The host learns that it is done; that the medium failed it would have learnt from a flush.
        let _failed = self.namespace.flush();
        self.registers.status |= CSTS_SHUTDOWN_COMPLETE;
    }

    /// Serves each submission queue, with one batch at most. Returns whether there was anything to do. An error is an
    /// access to a queue that was refused: without its queues the controller cannot go on.
    fn serve_all(&mut self, reach: &mut Reach<'_>) -> Result<bool, DmaError> {
        let mut busy = self.take_heads(reach);
        busy |= self.tell_events(reach)?;
        for at in 0..PAIRS {
            busy |= self.serve(at, reach)?;
        }
        Ok(busy)
    }

    /// Takes over how far the host has consumed completions. Returns whether something was wrong.
    fn take_heads(&mut self, reach: &Reach<'_>) -> bool {
        let mut wrong = false;
        for queue in self.queues.completion.iter_mut().flatten() {
            if queue.take_head(reach.doorbells) == Err(InvalidDoorbell) {
                self.log.doorbell_failed(queue.id);
                self.events.raise(EventKind::Error, INVALID_DOORBELL_VALUE);
                wrong = true;
            }
        }
        wrong
    }

    /// Completes requests for asynchronous events. Returns whether there was one.
    fn tell_events(&mut self, reach: &mut Reach<'_>) -> Result<bool, DmaError> {
        let mut told = false;
        while self.queues.room(0) > 0
            && let Some(completion) = self.events.next()
        {
            self.queues.complete(reach.dma, 0, completion)?;
            told = true;
        }
        Ok(told)
    }

    /// Executes a batch of commands of one submission queue, as many as there is room for completions. Returns whether
    /// there was anything.
    fn serve(&mut self, at: usize, reach: &mut Reach<'_>) -> Result<bool, DmaError> {
        let room = self.queues.room(at);
        let Some(queue) = &mut self.queues.submission[at] else { return Ok(false) };
        let id = queue.id;
        if queue.take_tail(reach.doorbells) == Err(InvalidDoorbell) {
            self.log.doorbell_failed(id);
            self.events.raise(EventKind::Error, INVALID_DOORBELL_VALUE);
            return Ok(true);
        }
        let count = queue.fetch(reach.dma, &mut self.entries, room)?;
        for index in 0..count {
            let command = Command::parse(&self.entries[index]);
            if let Some(completion) = self.execute(id, &command, reach) {
                self.queues.complete(reach.dma, id, completion)?;
            }
        }
        Ok(count > 0)
    }

    fn execute(&mut self, queue: u16, command: &Command, reach: &mut Reach<'_>) -> Option<Completion> {
        let what = if queue == 0 { admin::name(command.opcode) } else { io::name(command.opcode) };
        let what = what.unwrap_or("unknown command");
        reach.dma.doing(Doing { what, queue: Some(queue), id: Some(command.id.into()) });
        let result = if queue == 0 {
            self.execute_admin(command, reach)
        } else {
            self.execute_io(command, reach.dma).map(|()| Outcome::Done(0))
        };
        let (result, status) = match result {
            Ok(Outcome::Later) => return None,
            Ok(Outcome::Done(result)) => (result, Status::SUCCESS),
            Err(status) => {
                self.log.command_failed(queue, command, status);
                (0, status.logged())
            }
        };
        Some(Completion { result, command: command.id, status })
    }

    /// Interrupts the host for what was posted.
    fn interrupt(&mut self, reach: &Reach<'_>) {
        if !self.queues.has_posted() && !self.line {
            return;
        }
        let messages = reach.interrupts.msix_enabled();
        for vector in self.queues.take_posted() {
            if messages {
                reach.interrupts.message(vector);
            }
        }
        self.set_line(reach);
    }

    /// Asserts or releases the line, which stands in where there is no MSI-X.
    fn set_line(&mut self, reach: &Reach<'_>) {
        let pending = self.queues.interrupt_pending(self.registers.mask);
        let level = pending && !reach.interrupts.msix_enabled();
        if level != self.line {
            self.line = level;
            reach.interrupts.line(level);
        }
    }

    /// Reports a doorbell that was written although it belongs to no queue.
    fn report_stray_doorbell(&mut self, reach: &Reach<'_>) -> bool {
        let Some(queue) = self.queues.take_stray_doorbell(reach.doorbells) else { return false };
        self.log.doorbell_failed(queue);
        self.events.raise(EventKind::Error, WRITE_TO_INVALID_DOORBELL);
        true
    }
}

impl Model for Nvme {
    fn identity(&self) -> Identity {
        Identity {
            vendor: VENDOR,
            device: 0x0010,
            subsystem_vendor: SUBSYSTEM_VENDOR,
            subsystem: 0x1100,
            revision: 2,
            class: 0x01_0802,
            bars: [Some(Bar { size: 0x4000, kind: BarKind::Memory64 }), None, None, None, None, None],
            line: true,
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

    fn storage(&self) -> Option<&[u8]> {
        self.namespace.bytes()
    }

    fn doorbells(&self) -> Option<DoorbellWindow> {
        Some(DoorbellWindow { bar: 0, offset: DOORBELLS, length: 0x1000 })
    }

    fn read(&mut self, at: Register, _: &mut Reach<'_>) -> u64 {
        let word = u64::from(self.registers.load(at.offset & !3));
        match at.width {
            Width::U64 => word | u64::from(self.registers.load(at.offset + 4)) << 32,
            _ => word >> (8 * (at.offset & 3)),
        }
    }

    fn write(&mut self, at: Register, value: u64, reach: &mut Reach<'_>) {
        match at.width {
            // The registers are to be written by dwords, or in pairs of them.
            Width::U8 | Width::U16 => {}
            Width::U32 => self.store(at.offset, value as u32, reach),
            Width::U64 => {
                self.store(at.offset, value as u32, reach);
                self.store(at.offset + 4, (value >> 32) as u32, reach);
            }
        }
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        if !self.registers.is_running() {
            return Work::Idle;
        }
        let busy = match self.serve_all(reach) {
            Ok(busy) => busy || self.report_stray_doorbell(reach),
            Err(_) => {
                self.registers.status |= CSTS_FATAL;
                false
            }
        };
        self.interrupt(reach);
        if busy { Work::More } else { Work::Idle }
    }

    fn reset(&mut self, reach: &mut Reach<'_>) {
        self.disable(reach);
        self.registers = Registers::default();
        reach.doorbells.clear();
    }
}
