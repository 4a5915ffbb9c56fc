//! Queues of events.

use subsystem::{MapRequest, Ready, Whence};

use super::*;
use crate::client::{assert_refused, state};

/// The header of an event, and what it says.
fn event(flags: u32, sequence: u32, virt_id: Option<u32>) -> Vec<u8> {
    let header = IommufdVeventHeader { flags, sequence };
    [header.as_bytes(), virt_id.as_ref().map_or(&[], IntoBytes::as_bytes)].concat()
}

const LOST: u32 = IOMMU_VEVENTQ_FLAG_LOST_EVENTS;

impl Guest<'_> {
    fn trigger(&self) -> Result<(), Refusal> {
        let operand = IommuTestTriggerVevent { dev_id: self.device };
        self.test(IOMMU_TEST_OP_TRIGGER_VEVENT, 0, operand).map(|_| ())
    }

    /// A vIOMMU whose device is called 0x99, and attached to a page table of it.
    fn inside(&self) -> u32 {
        let viommu = self.viommu().unwrap();
        self.vdevice(viommu, self.device, 0x99).unwrap();
        let nested = self.nested(viommu, 0).unwrap();
        self.replace(nested).unwrap();
        viommu
    }
}

#[test]
fn what_a_queue_is_made_from() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let before = state(&vfio);
    let good = IommuVeventqAlloc {
        viommu_id: viommu,
        type_: IOMMU_VEVENTQ_TYPE_SELFTEST,
        veventq_depth: 1,
        ..Command::new()
    };
    let alloc = |argument: IommuVeventqAlloc| guest.call(&mut { argument });
    assert_refused!(alloc(IommuVeventqAlloc { flags: 1, ..good }), EOPNOTSUPP, "event-queue.fields");
    assert_refused!(alloc(IommuVeventqAlloc { reserved: 1, ..good }), EOPNOTSUPP, "event-queue.fields");
    assert_refused!(guest.events(viommu, 0), EINVAL, "event-queue.depth");
    assert_refused!(guest.events(viommu, (1 << 19) + 1), EINVAL, "event-queue.depth");
    assert_refused!(guest.events(guest.parent, 1), ENOENT, "viommu.unknown");
    assert_eq!(state(&vfio), before);

    let (first, file) = guest.events(viommu, 1 << 19).unwrap();
    assert_refused!(guest.events(viommu, 1), EEXIST, "event-queue.type");
    let mut another = IommuVeventqAlloc { type_: 1, ..good };
    guest.call(&mut another).expect("another type");
    let another = guest.client.caller.file(another.out_veventq_fd.cast_signed()).unwrap();
    assert_refused!(guest.destroy(first), EBUSY, "destroy.queue-open");
    vfio.release(file);
    guest.destroy(first).unwrap();
    let (_, file) = guest.events(viommu, 1).expect("the type is free again");
    guest.close(&[another, file]);
}

#[test]
fn a_caller_without_room_for_a_descriptor_gets_no_queue() {
    let vfio = kernel();
    let mut guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    guest.client.caller.descriptor_limit = guest.client.caller.descriptors();
    let before = state(&vfio);
    assert_refused!(guest.events(viommu, 1), EMFILE, "queue.descriptor");
    assert_eq!(state(&vfio), before);
    guest.destroy(viommu).expect("nothing uses it");
    guest.close(&[]);
}

#[test]
fn events_are_read_in_order() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    assert_refused!(guest.trigger(), ENOENT, "test.event-guest");
    let viommu = guest.inside();
    assert_refused!(guest.trigger(), EOPNOTSUPP, "test.event-queue");
    let (_, file) = guest.events(viommu, 2).unwrap();
    assert_eq!(vfio.poll(file), Ready { read: false, write: false });
    assert_refused!(guest.read(file, 0), EINVAL, "event-queue.read-size");
    assert_refused!(guest.read(file, 7), EINVAL, "event-queue.read-size");
    assert_eq!(guest.read(file, 8), Ok(vec![]));

    guest.trigger().unwrap();
    assert_eq!(vfio.poll(file), Ready { read: true, write: false });
    assert_refused!(guest.read(file, 7), EINVAL, "event-queue.read-size");
    assert_refused!(guest.read(file, 11), EINVAL, "event-queue.read-room");
    guest.trigger().unwrap();
    let first = event(0, 0, Some(0x99));
    assert_eq!(guest.read(file, 23), Ok(first));
    assert_eq!(guest.read(file, 64), Ok(event(0, 1, Some(0x99))));
    assert_eq!(vfio.poll(file), Ready { read: false, write: false });
    guest.close(&[file]);
}

#[test]
fn events_that_were_lost_are_told() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.inside();
    let (_, file) = guest.events(viommu, 2).unwrap();
    let trigger = |times| (0..times).for_each(|_| guest.trigger().unwrap());
    trigger(4);
    let two = [event(0, 0, Some(0x99)), event(0, 1, Some(0x99))].concat();
    assert_eq!(guest.read(file, 31), Ok(two.clone()), "there is no room for the header");
    assert_eq!(vfio.poll(file), Ready { read: true, write: false });
    assert_eq!(guest.read(file, 8), Ok(event(LOST, 3, None)));
    assert_eq!(guest.read(file, 64), Ok(vec![]));

    // One that comes after others were lost shows it by its number.
    trigger(3);
    guest.read(file, 12).unwrap();
    trigger(1);
    let rest = [event(0, 5, Some(0x99)), event(0, 7, Some(0x99))].concat();
    assert_eq!(guest.read(file, 64), Ok(rest));
    guest.close(&[file]);
}

#[test]
fn events_that_cannot_be_copied_stay_queued() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.inside();
    let (_, file) = guest.events(viommu, 2).unwrap();
    let trigger = |times| (0..times).for_each(|_| guest.trigger().unwrap());
    trigger(3);
    // The page of arguments ends behind the header, then behind the first event.
    let end = ARGUMENT + 4096;
    assert_refused!(guest.read_to(end, file, 64), EFAULT, "queue.read-memory");
    assert_refused!(guest.read_to(end - 8, file, 64), EFAULT, "queue.read-memory");
    assert_eq!(guest.read_to(end - 12, file, 64), Ok(12));
    assert_eq!(guest.read(file, 12), Ok(event(0, 1, Some(0x99))));
    assert_refused!(guest.read_to(end, file, 64), EFAULT, "queue.read-memory");
    assert_eq!(guest.read(file, 64), Ok(event(LOST, 2, None)));
    guest.close(&[file]);
}

#[test]
fn an_event_that_there_is_no_memory_for_is_lost() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.inside();
    let (_, file) = guest.events(viommu, 2).unwrap();
    vfio.host().fail_allocation(Some(0));
    assert_refused!(guest.trigger(), ENOMEM, "iommufd.no-memory");
    vfio.host().fail_allocation(None);
    assert_eq!(guest.read(file, 64), Ok(event(LOST, 0, None)));
    guest.close(&[file]);
}

#[test]
fn a_device_that_left_its_guest_reports_nothing() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.inside();
    let (_, file) = guest.events(viommu, 2).unwrap();
    guest.replace(guest.ioas).unwrap();
    assert_refused!(guest.trigger(), ENOENT, "test.event-guest");
    guest.close(&[file]);
}

#[test]
fn the_file_is_read_only_and_has_no_positions() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let (_, file) = guest.events(viommu, 2).unwrap();
    assert_refused!(guest.write(file, &[0; 8]), EINVAL, "event-queue.write");
    assert_refused!(guest.client.read(file, 0, 16), ESPIPE, "queue.position");
    assert_refused!(guest.client.write(file, 0, &[0; 8]), ESPIPE, "queue.position");
    assert_refused!(vfio.seek(file, Whence::Start, 0), ESPIPE, "queue.position");
    assert_refused!(guest.client.destroy(file, 1), ENOTTY, "queue.ioctl");
    let mapped = vfio.map(&guest.client.caller.ctx(), file, MapRequest::shared(0, 4096));
    assert_refused!(mapped, ENODEV, "queue.map");
    guest.close(&[file]);
}
