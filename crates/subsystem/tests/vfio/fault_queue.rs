//! Fault queues: their objects, their files, and the page tables that name them.

use subsystem::{FileId, MapRequest, Ready, UserMemory, Whence};
use uapi::Command;
use uapi::iommufd::*;
use zerocopy::IntoBytes;

use crate::client::{Client, assert_refused, machine, state};
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Descriptor};

/// A process with a device bound to a context, which has an IOAS: the files, and the ids of device and IOAS.
struct Bound<'a> {
    client: Client<'a>,
    device: FileId,
    iommufd: FileId,
    ids: (u32, u32),
}

impl<'a> Bound<'a> {
    fn new(vfio: &'a crate::client::Vfio) -> Self {
        let mut client = Client::new(vfio);
        let device = client.open(0);
        let (iommufd, fd) = client.iommufd();
        let devid = client.bind(device, fd).expect("bind");
        let ioas = client.ioas(iommufd);
        Bound { client, device, iommufd, ids: (devid, ioas) }
    }
}

fn respond(client: &Client<'_>, queue: FileId, cookie: u32, code: u32) -> Result<usize, subsystem::Refusal> {
    let response = IommuHwptPageResponse { cookie, code };
    client.vfio.write_stream(&client.caller.ctx(), queue, response.as_bytes())
}

#[test]
fn b391_b392_a_queue_lives_as_long_as_its_file() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let (id, file) = client.fault_queue(iommufd).unwrap();
    assert_eq!(id, 1);
    assert_refused!(client.destroy(iommufd, id), EBUSY, "destroy.queue-open");
    vfio.release(file);
    assert_eq!(client.destroy(iommufd, id), Ok(0));
    assert_refused!(client.destroy(iommufd, id), ENOENT, "destroy.unknown");
    assert_eq!(client.fault_queue(iommufd).unwrap().0, 1, "the id is free again");
}

#[test]
fn b393_to_b395_nothing_is_ever_queued() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let (_, file) = client.fault_queue(iommufd).unwrap();
    let read = |length| vfio.read_stream(&client.caller.ctx(), file, ARGUMENT, length);
    assert_eq!([read(0), read(40), read(80)], [Ok(0); 3]);
    assert_refused!(read(39), ESPIPE, "fault-queue.read-size");
    assert_refused!(respond(&client, file, 0, 0), EINVAL, "fault-queue.cookie");
    assert_refused!(respond(&client, file, 0, 1), EINVAL, "fault-queue.cookie");
    assert_refused!(respond(&client, file, 1, 2), EINVAL, "fault-queue.code");
    let write = |length| vfio.write_stream(&client.caller.ctx(), file, &vec![0; length]);
    assert_eq!(write(0), Ok(0));
    assert_refused!(write(9), ESPIPE, "fault-queue.write-size");
    assert_refused!(write(16), EINVAL, "fault-queue.cookie");
}

#[test]
fn b396_a_queue_without_faults_is_writable_only() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let (_, file) = client.fault_queue(iommufd).unwrap();
    assert_eq!(vfio.poll(file), Ready { read: false, write: true });
    assert_eq!(vfio.poll(iommufd), Ready { read: true, write: true });
}

#[test]
fn b397_the_argument_is_checked_before_anything_is_made() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let before = state(&vfio);
    let alloc = |size, flags| client.call(iommufd, &mut IommuFaultAlloc { size, flags, ..Command::new() });
    assert_refused!(alloc(16, 1), EOPNOTSUPP, "fault-queue.flags");
    assert_refused!(alloc(15, 1), EINVAL, "iommufd.argument-too-small");
    let mut long = [20_u32, 0, 0, 0, 1];
    let result = client.raw(iommufd, IOMMU_FAULT_QUEUE_ALLOC, long.as_mut_bytes());
    assert_refused!(result, E2BIG, "iommufd.argument-tail");
    let result = vfio.ioctl(&client.caller.ctx(), iommufd, IOMMU_FAULT_QUEUE_ALLOC, 8);
    assert_refused!(result, EFAULT, "iommufd.argument-unreadable");
    assert_eq!(state(&vfio), before);
}

#[test]
fn a_reply_that_cannot_be_written_leaves_nothing() {
    const READ_ONLY: u64 = 0x9000;
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let alloc = || vfio.ioctl(&client.caller.ctx(), iommufd, IOMMU_FAULT_QUEUE_ALLOC, READ_ONLY);
    vfio.host().ram(|ram| {
        let layout = crate::support::memory::Layout::Scattered;
        ram.map(client.caller.task, READ_ONLY, 1, layout, true);
    });
    client.caller.write(READ_ONLY, IommuFaultAlloc::new().as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(client.caller.task, READ_ONLY, false));
    let (before, descriptors) = (state(&vfio), client.caller.descriptors());
    assert_refused!(alloc(), EFAULT, "iommufd.argument-unwritable");
    assert_eq!((state(&vfio), client.caller.descriptors()), (before, descriptors));
    assert_eq!(client.fault_queue(iommufd).unwrap().0, 1);
}

#[test]
fn a_caller_without_room_for_a_descriptor_gets_no_queue() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    client.caller.descriptor_limit = client.caller.descriptors();
    let before = state(&vfio);
    assert_refused!(client.fault_queue(iommufd), EMFILE, "queue.descriptor");
    assert_eq!(state(&vfio), before);
}

#[test]
fn the_file_has_no_positions_no_ioctls_and_no_memory() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let (_, file) = client.fault_queue(iommufd).unwrap();
    assert_refused!(client.read(file, 0, 40), ESPIPE, "queue.position");
    assert_refused!(client.write(file, 0, &[0; 8]), ESPIPE, "queue.position");
    assert_refused!(vfio.seek(file, Whence::Start, 0), ESPIPE, "queue.position");
    assert_refused!(client.destroy(file, 1), ENOTTY, "queue.ioctl");
    assert_refused!(client.fault_queue(file), ENOTTY, "queue.ioctl");
    let map =
        |shared| vfio.map(&client.caller.ctx(), file, MapRequest { shared, ..MapRequest::shared(0, 4096) });
    assert_refused!(map(true), ENODEV, "queue.map");
    assert_refused!(map(false), ENODEV, "queue.map");
    let device = client.open(0);
    let fd = client.caller.install(Descriptor::Ours(file));
    assert_refused!(client.bind(device, fd), EBADFD, "bind.not-iommufd");
}

#[test]
fn a_device_file_does_not_make_queues() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    assert_refused!(client.fault_queue(device), ENOTTY, "device.unknown-command");
    let unbound = client.open(0);
    assert_refused!(client.fault_queue(unbound), EINVAL, "device.not-bound");
}

#[test]
fn the_file_keeps_its_context() {
    let vfio = machine(&[]);
    let mut client = Client::new(&vfio);
    let (iommufd, _) = client.iommufd();
    let (_, file) = client.fault_queue(iommufd).unwrap();
    vfio.release(iommufd);
    assert_eq!((vfio.usage().files, vfio.usage().contexts, vfio.usage().objects), (1, 1, 1));
    assert_eq!(vfio.read_stream(&client.caller.ctx(), file, ARGUMENT, 40), Ok(0));
    vfio.release(file);
    vfio.release(file);
    assert_eq!(vfio.usage(), Default::default());
}

#[test]
fn a_context_goes_with_queues_that_nobody_destroyed() {
    let vfio = machine(&[TestFunction::express()]);
    let Bound { client, device, iommufd, ids } = Bound::new(&vfio);
    let (queue, file) = client.fault_queue(iommufd).unwrap();
    client.faulting_hwpt(iommufd, ids, queue).unwrap();
    for file in [device, file, iommufd] {
        vfio.release(file);
    }
    assert_eq!((vfio.usage().contexts, vfio.usage().objects), (0, 0));
}

#[test]
fn b097_a_queue_is_no_page_table() {
    let vfio = machine(&[TestFunction::express()]);
    let Bound { client, device, iommufd, ids } = Bound::new(&vfio);
    let (queue, _) = client.fault_queue(iommufd).unwrap();
    assert_refused!(client.attach(device, queue), EINVAL, "attach.type");
    let parent = client.faulting_hwpt(iommufd, (ids.0, queue), queue);
    assert_refused!(parent, EINVAL, "hwpt-alloc.parent");
}

#[test]
fn b405_b406_b626_a_page_table_may_name_a_queue() {
    let vfio = machine(&[TestFunction::express()]);
    let Bound { client, device, iommufd, ids } = Bound::new(&vfio);
    let (queue, file) = client.fault_queue(iommufd).unwrap();
    let before = state(&vfio);
    for other in [0, 99, ids.0, ids.1] {
        let refused = client.faulting_hwpt(iommufd, ids, other);
        assert_refused!(refused, ENOENT, "hwpt-alloc.fault-queue");
    }
    assert_eq!(state(&vfio), before);

    let hwpt = client.faulting_hwpt(iommufd, ids, queue).unwrap();
    assert_eq!(client.attach(device, hwpt), Ok(hwpt));
    vfio.release(file);
    assert_refused!(client.destroy(iommufd, queue), EBUSY, "destroy.fault-queue-in-use");
    client.detach(device).unwrap();
    assert_refused!(client.destroy(iommufd, queue), EBUSY, "destroy.fault-queue-in-use");
    client.destroy(iommufd, hwpt).unwrap();
    assert_eq!(client.destroy(iommufd, queue), Ok(0));
}

#[test]
fn a_page_table_whose_reply_fails_lets_go_of_the_queue() {
    let vfio = machine(&[TestFunction::express()]);
    let Bound { client, iommufd, ids, .. } = Bound::new(&vfio);
    let (queue, file) = client.fault_queue(iommufd).unwrap();
    vfio.release(file);
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    let (dev_id, pt_id) = ids;
    let argument = IommuHwptAlloc { flags, dev_id, pt_id, fault_id: queue, ..Command::new() };
    client.caller.write(ARGUMENT, argument.as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(client.caller.task, ARGUMENT, false));
    let refused = vfio.ioctl(&client.caller.ctx(), iommufd, IOMMU_HWPT_ALLOC, ARGUMENT);
    assert_refused!(refused, EFAULT, "iommufd.argument-unwritable");
    vfio.host().ram(|ram| ram.protect(client.caller.task, ARGUMENT, true));
    assert_eq!(client.destroy(iommufd, queue), Ok(0));
}
