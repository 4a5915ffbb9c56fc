//! Page faults: which queue they go to, and how they end.

use subsystem::Ready;

use super::*;
use crate::client::assert_refused;

impl Guest<'_> {
    /// The device faults.
    fn fault(&self, pasid: u32, addr: u64) {
        let operand = IommuTestTriggerIopf { dev_id: self.device, pasid, grpid: 2, perm: 3, addr };
        self.test(IOMMU_TEST_OP_TRIGGER_IOPF, 0, operand).expect("a fault");
    }

    /// The faults that are queued, at most so many.
    fn faults(&self, queue: FileId, most: u64) -> Vec<IommuHwptPgfault> {
        let bytes = self.read(queue, 40 * most).expect("faults");
        bytes.chunks(40).map(|fault| IommuHwptPgfault::read_from_bytes(fault).unwrap()).collect()
    }

    fn respond(&self, queue: FileId, cookies: &[u32]) -> Result<usize, Refusal> {
        let code = IOMMUFD_PAGE_RESP_SUCCESS;
        let responses: Vec<_> =
            cookies.iter().map(|&cookie| IommuHwptPageResponse { cookie, code }).collect();
        self.write(queue, responses.as_bytes())
    }
}

/// A guest whose device is attached to a page table that names a fault queue: that queue, its file, and the page table.
fn faulting(vfio: &Vfio) -> (Guest<'_>, (u32, FileId), u32) {
    let guest = Guest::new(vfio);
    let queue = guest.client.fault_queue(guest.iommufd).unwrap();
    let table = guest.faulting(guest.parent, 0, queue.0).unwrap();
    assert_eq!(guest.replace(table), Ok(table));
    (guest, queue, table)
}

#[test]
fn a_fault_is_read_and_answered_once() {
    let vfio = kernel();
    let (guest, (_, file), _) = faulting(&vfio);
    assert_eq!(vfio.poll(file), Ready { read: false, write: true });
    guest.fault(0, 0x1000);
    guest.fault(0, 0x2000);
    assert_eq!(vfio.poll(file), Ready { read: true, write: true });
    assert_refused!(guest.read(file, 0), EINVAL, "fault-queue.read-room");
    assert_refused!(guest.read(file, 41), ESPIPE, "fault-queue.read-size");
    let expected = |addr, cookie| IommuHwptPgfault {
        flags: IOMMU_PGFAULT_FLAGS_LAST_PAGE,
        dev_id: guest.device,
        grpid: 2,
        perm: 3,
        addr,
        cookie,
        ..Default::default()
    };
    // One that cannot be copied stays queued.
    assert_refused!(guest.read_to(ARGUMENT + 4096, file, 40), EFAULT, "queue.read-memory");
    assert_refused!(guest.respond(file, &[1]), EINVAL, "fault-queue.cookie");
    assert_eq!(guest.faults(file, 1), [expected(0x1000, 1)]);
    assert_eq!(guest.faults(file, 9), [expected(0x2000, 2)]);
    assert_eq!(vfio.poll(file), Ready { read: false, write: true });
    assert_eq!(guest.respond(file, &[1, 1, 2]), Ok(8), "what comes after a wrong one is not looked at");
    assert_eq!(guest.respond(file, &[2]), Ok(8));
    assert_refused!(guest.respond(file, &[2]), EINVAL, "fault-queue.cookie");
    guest.fault(0, 0x3000);
    assert_eq!(guest.faults(file, 1), [expected(0x3000, 1)], "the cookie is free again");
    guest.close(&[file]);
}

#[test]
fn the_faults_of_a_device_are_over_when_it_leaves_the_page_table() {
    let vfio = kernel();
    let (guest, (_, file), table) = faulting(&vfio);
    guest.fault(0, 0x1000);
    guest.faults(file, 1);
    guest.fault(0, 0x2000);
    guest.replace(guest.parent).unwrap();
    assert_eq!(vfio.poll(file), Ready { read: false, write: true });
    assert_refused!(guest.respond(file, &[1]), EINVAL, "fault-queue.cookie");
    guest.fault(0, 0x3000);
    assert_eq!(guest.faults(file, 1), [], "nobody handles it");
    guest.replace(table).unwrap();
    guest.fault(0, 0x4000);
    guest.destroy(guest.stdev).unwrap();
    assert_eq!(guest.faults(file, 1), []);
    guest.close(&[file]);
}

#[test]
fn a_nested_page_table_takes_the_faults_of_all_pasids() {
    let vfio = kernel();
    let (guest, (_, file), _) = faulting(&vfio);
    guest.fault(5, 0x1000);
    let [fault] = guest.faults(file, 1)[..] else { panic!("a fault") };
    let flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE | IOMMU_PGFAULT_FLAGS_PASID_VALID;
    assert_eq!((fault.flags, fault.pasid), (flags, 5));
    guest.replace(guest.parent).unwrap();
    assert_refused!(guest.respond(file, &[fault.cookie]), EINVAL, "fault-queue.cookie");
    guest.close(&[file]);
}

#[test]
fn a_page_table_of_an_ioas_takes_no_faults_of_pasids() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let (queue, file) = guest.client.fault_queue(guest.iommufd).unwrap();
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    let (dev_id, pt_id, fault_id) = (guest.device, guest.ioas, queue);
    let mut argument = IommuHwptAlloc { dev_id, pt_id, flags, fault_id, ..Command::new() };
    guest.call(&mut argument).unwrap();
    guest.replace(argument.out_hwpt_id).unwrap();
    guest.fault(5, 0x1000);
    assert_eq!(guest.faults(file, 1), []);
    guest.fault(0, 0x1000);
    assert_eq!(guest.faults(file, 1).len(), 1);
    guest.close(&[file]);
}

#[test]
fn a_fault_that_cannot_be_kept_is_over() {
    let vfio = kernel();
    let (guest, (_, file), _) = faulting(&vfio);
    vfio.host().fail_allocation(Some(0));
    guest.fault(0, 0x1000);
    vfio.host().fail_allocation(None);
    assert_eq!(guest.faults(file, 1), []);
    guest.fault(0, 0x2000);
    vfio.host().fail_allocation(Some(0));
    assert_refused!(guest.read(file, 40), ENOMEM, "iommufd.no-memory");
    vfio.host().fail_allocation(None);
    assert_eq!(guest.faults(file, 1).len(), 1, "it is still there");
    guest.close(&[file]);
}

#[test]
fn only_a_device_of_the_unit_can_be_made_to_fault() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let operand = IommuTestTriggerIopf { dev_id: guest.ioas, ..Default::default() };
    assert_refused!(guest.test(IOMMU_TEST_OP_TRIGGER_IOPF, 0, operand), ENOENT, "test.device");
    guest.close(&[]);
}
