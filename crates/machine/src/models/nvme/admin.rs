//! Admin commands (NVMe 1.4, section 5).

use super::command::{ALL_NAMESPACES, Command};
use super::events::{EventKind, TEMPERATURE_THRESHOLD};
use super::features::TEMPERATURE_WARNING;
use super::prp::to_host;
use super::queue::{CompletionQueue, IO_PAIRS, SubmissionQueue};
use super::registers::MAX_QUEUE_ENTRIES;
use super::status::Status;
use super::{MAX_TRANSFER, Nvme, VECTORS};
use crate::dma::DmaPort;
use crate::model::Reach;

const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
const GET_LOG_PAGE: u8 = 0x02;
const DELETE_COMPLETION_QUEUE: u8 = 0x04;
const CREATE_COMPLETION_QUEUE: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const ABORT: u8 = 0x08;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;
const ASYNC_EVENT_REQUEST: u8 = 0x0c;

/// What becomes of an admin command that does not fail.
pub(super) enum Outcome {
    /// It completes now, with this in dword 0.
    Done(u32),
    /// It completes some time.
    Later,
}

/// The name of a command, for findings.
pub(super) fn name(opcode: u8) -> Option<&'static str> {
    Some(match opcode {
        DELETE_SUBMISSION_QUEUE => "DELETE I/O SUBMISSION QUEUE",
        CREATE_SUBMISSION_QUEUE => "CREATE I/O SUBMISSION QUEUE",
        GET_LOG_PAGE => "GET LOG PAGE",
        DELETE_COMPLETION_QUEUE => "DELETE I/O COMPLETION QUEUE",
        CREATE_COMPLETION_QUEUE => "CREATE I/O COMPLETION QUEUE",
        IDENTIFY => "IDENTIFY",
        ABORT => "ABORT",
        SET_FEATURES => "SET FEATURES",
        GET_FEATURES => "GET FEATURES",
        ASYNC_EVENT_REQUEST => "ASYNCHRONOUS EVENT REQUEST",
        _ => return None,
    })
}

impl Nvme {
    /// Executes an admin command.
    pub(super) fn execute_admin(
        &mut self,
        command: &Command,
        reach: &mut Reach<'_>,
    ) -> Result<Outcome, Status> {
        name(command.opcode).ok_or(Status::INVALID_OPCODE)?;
        command.check_flags()?;
        if self.events.is_outstanding(command.id) {
            return Err(Status::COMMAND_ID_CONFLICT);
        }
        let result = match command.opcode {
            DELETE_SUBMISSION_QUEUE => self.delete_submission_queue(command, reach),
            CREATE_SUBMISSION_QUEUE => self.create_submission_queue(command, reach),
            GET_LOG_PAGE => self.get_log_page(command, reach.dma),
            DELETE_COMPLETION_QUEUE => self.delete_completion_queue(command, reach),
            CREATE_COMPLETION_QUEUE => self.create_completion_queue(command, reach),
            IDENTIFY => self.identify(command, reach.dma),
            ABORT => Ok(self.abort(command)),
            SET_FEATURES => self.set_features(command),
            GET_FEATURES => self.features.get(command),
            _ => {
                self.events.request(command.id)?;
                return Ok(Outcome::Later);
            }
        };
        result.map(Outcome::Done)
    }

    fn create_completion_queue(&mut self, command: &Command, reach: &Reach<'_>) -> Result<u32, Status> {
        let request = QueueRequest::of(command);
        let at = request.identifier(self.features.completion_queues)?;
        if self.queues.completion[at].is_some() {
            return Err(Status::INVALID_QUEUE_IDENTIFIER);
        }
        let fits = self.registers.configuration.completion_entries_fit();
        let (base, entries) = request.ring(fits, self.registers.configuration.page_size())?;
        let interrupts = command.dword::<11>() & 2 != 0;
        let vector = (command.dword::<11>() >> 16) as u16;
        let usable = vector == 0 || !interrupts || reach.interrupts.msix_enabled();
        if vector >= VECTORS || !usable {
            return Err(Status::INVALID_INTERRUPT_VECTOR);
        }
        let vector = interrupts.then_some(vector);
        let queue = CompletionQueue::new(request.id, vector, base, entries, reach.doorbells);
        self.queues.completion[at] = Some(queue);
        Ok(0)
    }

    fn create_submission_queue(&mut self, command: &Command, reach: &Reach<'_>) -> Result<u32, Status> {
        let request = QueueRequest::of(command);
        let at = request.identifier(self.features.submission_queues)?;
        if self.queues.submission[at].is_some() {
            return Err(Status::INVALID_QUEUE_IDENTIFIER);
        }
        let completion = (command.dword::<11>() >> 16) as u16;
        if completion == 0 || completion > IO_PAIRS {
            return Err(Status::INVALID_QUEUE_IDENTIFIER);
        }
        if self.queues.completion[usize::from(completion)].is_none() {
            return Err(Status::COMPLETION_QUEUE_INVALID);
        }
        let fits = self.registers.configuration.submission_entries_fit();
        let (base, entries) = request.ring(fits, self.registers.configuration.page_size())?;
        let queue = SubmissionQueue::new(request.id, completion, base, entries, reach.doorbells);
        self.queues.submission[at] = Some(queue);
        Ok(0)
    }

    fn delete_submission_queue(&mut self, command: &Command, reach: &Reach<'_>) -> Result<u32, Status> {
        let at = QueueRequest::of(command).identifier(IO_PAIRS)?;
        let deleted = self.queues.delete_submission(at, reach.doorbells);
        if deleted { Ok(0) } else { Err(Status::INVALID_QUEUE_IDENTIFIER) }
    }

    fn delete_completion_queue(&mut self, command: &Command, reach: &Reach<'_>) -> Result<u32, Status> {
        let request = QueueRequest::of(command);
        let at = request.identifier(IO_PAIRS)?;
        if self.queues.submission.iter().flatten().any(|queue| queue.completion == request.id) {
            return Err(Status::INVALID_QUEUE_DELETION);
        }
        let deleted = self.queues.delete_completion(at, reach.doorbells);
        if deleted { Ok(0) } else { Err(Status::INVALID_QUEUE_IDENTIFIER) }
    }

    fn identify(&mut self, command: &Command, dma: &mut DmaPort) -> Result<u32, Status> {
        let structure = command.dword::<10>() as u8;
        let bytes = self.names.identify(structure, command.namespace, &self.namespace)?;
        let segments = self.prp.resolve(dma, command.prp, bytes.len())?;
        to_host(dma, segments, &*bytes)?;
        Ok(0)
    }

    fn get_log_page(&mut self, command: &Command, dma: &mut DmaPort) -> Result<u32, Status> {
        let page = command.dword::<10>() as u8;
        let bytes = self.log.page(page, &self.features).ok_or(Status::INVALID_LOG_PAGE)?;
        // No log page is kept by namespace.
        if !matches!(command.namespace, 0 | ALL_NAMESPACES) {
            return Err(Status::INVALID_FIELD);
        }
        let dwords = command.dword::<10>() >> 16 | command.dword::<11>() << 16;
        let length = (u64::from(dwords) + 1) * 4;
        let offset = u64::from(command.dword::<12>()) | u64::from(command.dword::<13>()) << 32;
        if length > MAX_TRANSFER as u64 || !offset.is_multiple_of(4) || offset > bytes.len() as u64 {
            return Err(Status::INVALID_FIELD);
        }
        // What is asked for behind the end of the page is left as it is.
        let rest = &bytes[offset as usize..];
        let segments = self.prp.resolve(dma, command.prp, length as usize)?;
        to_host(dma, segments, &rest[..rest.len().min(length as usize)])?;
        let retain = command.dword::<10>() & 1 << 15 != 0;
        if !retain {
            self.events.log_page_was_read(page);
        }
        Ok(0)
    }

    /// Bit 0 of the result: the command was not aborted. Only requests for events last long enough to be.
    fn abort(&mut self, command: &Command) -> u32 {
        let queue = command.dword::<10>() as u16;
        let id = (command.dword::<10>() >> 16) as u16;
        u32::from(!(queue == 0 && self.events.abort(id)))
    }

    fn set_features(&mut self, command: &Command) -> Result<u32, Status> {
        let result = self.features.set(command, self.queues.has_io_queues())?;
        if self.features.reported_warnings() & TEMPERATURE_WARNING != 0 {
            self.events.raise(EventKind::Health, TEMPERATURE_THRESHOLD);
        }
        Ok(result)
    }
}

/// The fields that the commands about queues share.
struct QueueRequest {
    id: u16,
    entries: u32,
    contiguous: bool,
    base: u64,
}

impl QueueRequest {
    fn of(command: &Command) -> Self {
        QueueRequest {
            id: command.dword::<10>() as u16,
            entries: (command.dword::<10>() >> 16) + 1,
            contiguous: command.dword::<11>() & 1 != 0,
            base: command.prp[0],
        }
    }

    /// The identifier as an index, if it is that of an I/O queue.
    fn identifier(&self, granted: u16) -> Result<usize, Status> {
        if (1..=granted).contains(&self.id) {
            Ok(usize::from(self.id))
        } else {
            Err(Status::INVALID_QUEUE_IDENTIFIER)
        }
    }

    /// Address and number of entries of the ring, if they are acceptable. `fits`: the size of an entry is.
    fn ring(&self, fits: bool, page: u64) -> Result<(u64, u32), Status> {
        if !fits || !(2..=MAX_QUEUE_ENTRIES).contains(&self.entries) {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        if !self.contiguous {
            return Err(Status::INVALID_FIELD);
        }
        if !self.base.is_multiple_of(page) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        Ok((self.base, self.entries))
    }
}
