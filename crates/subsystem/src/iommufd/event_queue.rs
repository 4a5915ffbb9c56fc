//! The queue for events of a vIOMMU: what its IOMMU reports of the devices of a guest.
//!
//! It holds so many events as its depth says. Of those that come when it is full, the program learns that they were lost.

use uapi::iommufd::{IOMMU_VEVENTQ_FLAG_LOST_EVENTS, IommuVeventqAlloc, IommufdVeventHeader};
use zerocopy::IntoBytes;

use super::call::Call;
use super::context::Context;
use super::hardware::MOST_ENTRIES;
use super::objects::Object;
use super::queue::{OpenFile, Queue, QueueKind, ReadTo, Reply};
use crate::mem::{List, OutOfMemory};
use crate::rules::{guest, iommufd as rule};
use crate::{Host, Polling, Refusal, RwLock};

/// The events that wait to be read.
pub(super) struct EventQueue {
    viommu: u32,
    /// `IOMMU_VEVENTQ_TYPE_*`
    kind: u32,
    depth: u32,
    /// The number of the next event.
    sequence: u32,
    unread: List<Event>,
    /// The number of the last event, if it was lost.
    lost: Option<u32>,
}

/// The largest event that an IOMMU reports, in bytes.
const LARGEST: usize = 32;

struct Event {
    sequence: u32,
    data: [u8; LARGEST],
    length: usize,
}

impl Event {
    fn data(&self) -> &[u8] {
        self.data.get(..self.length).unwrap_or(&self.data)
    }
}

impl EventQueue {
    pub(super) fn viommu(&self) -> u32 {
        self.viommu
    }

    pub(super) fn is_for(&self, viommu: u32, kind: u32) -> bool {
        self.viommu == viommu && self.kind == kind
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.lost.is_some()
    }

    /// Queues an event, or notes that it was lost; refused if that is for want of memory.
    pub(super) fn report(&mut self, host: &impl Host, bytes: &[u8]) -> Result<(), Refusal> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1) & i32::MAX.cast_unsigned();
        let mut event = Event { sequence, data: [0; LARGEST], length: bytes.len() };
        let reserved = self.unread.reserve(host);
        self.lost = match (reserved, event.data.get_mut(..bytes.len())) {
            (Ok(()), Some(data)) if self.unread.len() < self.depth as usize => {
                data.copy_from_slice(bytes);
                self.unread.push_reserved(event);
                None
            }
            _ => Some(sequence),
        };
        reserved.map_err(|OutOfMemory| rule::NO_MEMORY)
    }

    /// Reads as many events as are queued and fit, each behind its header. One that cannot be copied stays queued.
    pub(super) fn read(&mut self, mut to: ReadTo<'_>) -> Result<usize, Refusal> {
        const HEADER: usize = size_of::<IommufdVeventHeader>();
        if to.length < HEADER as u64 {
            return Err(guest::EVENT_QUEUE_READ_SIZE);
        }
        while let Some(event) = self.unread.get(0) {
            let header = IommufdVeventHeader { flags: 0, sequence: event.sequence };
            if to.left() < HEADER.saturating_add(event.length) as u64 {
                // What is left may hold a header, but not the event.
                return to.done_or(guest::EVENT_QUEUE_READ_ROOM);
            }
            if to.put([header.as_bytes(), event.data()]).is_err() {
                return to.done_or(guest::QUEUE_READ_MEMORY);
            }
            self.unread.remove(0);
        }
        if let Some(sequence) = self.lost.filter(|_| to.left() >= HEADER as u64) {
            let header = IommufdVeventHeader { flags: IOMMU_VEVENTQ_FLAG_LOST_EVENTS, sequence };
            if to.put([header.as_bytes(), &[]]).is_err() {
                return to.done_or(guest::QUEUE_READ_MEMORY);
            }
            self.lost = None;
        }
        Ok(to.done)
    }
}

impl<H: Host> Context<H> {
    /// `IOMMU_VEVENTQ_ALLOC`
    pub(super) fn event_queue_alloc(
        &self,
        call: &Call<'_, H>,
        open: &mut OpenFile<'_>,
    ) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuVeventqAlloc>()?;
        let command = argument.value;
        if command.flags != 0 || command.reserved != 0 || command.type_ == 0 {
            return Err(rule::EVENT_QUEUE_FIELDS);
        }
        if !(1..=MOST_ENTRIES).contains(&command.veventq_depth) {
            return Err(rule::EVENT_QUEUE_DEPTH);
        }
        let (viommu, kind, depth) = (command.viommu_id, command.type_, command.veventq_depth);
        let id = self.objects.write(|objects| {
            objects.viommu(viommu)?;
            if objects.event_queue_mut(viommu, kind).is_some() {
                return Err(guest::EVENT_QUEUE_TYPE);
            }
            let queue = EventQueue { viommu, kind, depth, sequence: 0, unread: List::new(), lost: None };
            let queue = Queue::new(QueueKind::Events(queue));
            let id = objects.insert(call.host, Object::Queue(queue))?;
            objects.hold_viommu(viommu);
            Ok(id)
        })?;
        argument.value.out_veventq_id = id;
        let descriptor = |argument: &mut IommuVeventqAlloc, fd| argument.out_veventq_fd = fd;
        let polling = Polling::State { writable: false };
        self.open_queue(call, id, Reply { argument, descriptor, polling }, open)
    }
}
