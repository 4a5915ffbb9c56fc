//! Devices with PASIDs, attached to page tables of all kinds.

use super::*;
use crate::client::assert_refused;

const PASID: u32 = IOMMU_HWPT_ALLOC_PASID;

impl Guest<'_> {
    fn pasid_op(&self, op: u32, pasid: u32, pt_id: u32) -> Result<u32, Refusal> {
        self.test(op, self.stdev, IommuTestPasidAttach { pasid, pt_id }).map(|reply| reply.pt_id)
    }

    fn attach_pasid(&self, pasid: u32, pt_id: u32) -> Result<u32, Refusal> {
        self.pasid_op(IOMMU_TEST_OP_PASID_ATTACH, pasid, pt_id)
    }

    fn replace_pasid(&self, pasid: u32, pt_id: u32) -> Result<u32, Refusal> {
        self.pasid_op(IOMMU_TEST_OP_PASID_REPLACE, pasid, pt_id)
    }

    fn detach_pasid(&self, pasid: u32) {
        self.pasid_op(IOMMU_TEST_OP_PASID_DETACH, pasid, 0).expect("it needs not be attached");
    }

    /// Whether the device is attached to a page table under a PASID; 0: to none.
    fn is_at(&self, pasid: u32, hwpt_id: u32) -> bool {
        let operand = IommuTestPasidCheck { pasid, hwpt_id };
        let result = self.test(IOMMU_TEST_OP_PASID_CHECK_HWPT, self.stdev, operand).map(|_| ());
        if result.is_err() {
            assert_refused!(result, EINVAL, "test.pasid-table");
        }
        result.is_ok()
    }
}

#[test]
fn a_device_has_page_tables_of_all_kinds() {
    let vfio = kernel();
    let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
    let nested = [PASID, PASID, 0].map(|flags| guest.nested(guest.parent, flags).unwrap());
    let table = guest.table(PASID).unwrap();
    guest.detach_pasid(100);
    guest.replace(guest.parent).unwrap();
    assert_refused!(guest.attach_pasid(100, table), EINVAL, "attach.pasid-table");
    guest.replace(table).unwrap();
    assert_eq!(guest.attach_pasid(100, nested[0]), Ok(nested[0]));
    assert_refused!(guest.replace(guest.parent), EINVAL, "attach.pasid-table");
    assert!(guest.is_at(100, nested[0]) && !guest.is_at(100, 0) && !guest.is_at(100, table));
    assert_refused!(guest.destroy(nested[0]), EBUSY, "destroy.hwpt-in-use");
    assert_refused!(guest.attach_pasid(100, table), EBUSY, "test.pasid-attached");
    for unfit in [nested[2], guest.parent, guest.ioas] {
        assert_refused!(guest.replace_pasid(100, unfit), EINVAL, "attach.pasid-table");
        assert_refused!(guest.attach_pasid(101, unfit), EINVAL, "attach.pasid-table");
    }
    assert_refused!(guest.replace_pasid(101, table), EINVAL, "test.pasid-detached");
    assert_refused!(guest.attach_pasid(101, 99), ENOENT, "attach.unknown");
    assert_eq!(guest.replace_pasid(100, nested[1]), Ok(nested[1]));
    assert_eq!(guest.replace_pasid(100, table), Ok(table));
    guest.destroy(nested[1]).unwrap();
    guest.detach_pasid(100);
    assert!(guest.is_at(100, 0) && guest.is_at(0, table));
    guest.replace(guest.ioas).expect("no PASID is in use");
    guest.close(&[]);
}

#[test]
fn a_pasid_is_one_that_the_device_has() {
    let vfio = kernel();
    let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
    let table = guest.table(PASID).unwrap();
    guest.replace(table).unwrap();
    assert_refused!(guest.attach_pasid(1 << MOCK_PASID_WIDTH, table), EINVAL, "attach.pasid-width");
    assert_eq!(guest.attach_pasid((1 << MOCK_PASID_WIDTH) - 1, table), Ok(table));
    let (stdev, _) = guest.new_device(0);
    let without = Guest { stdev, ..guest };
    without.replace(table).expect("a page table for PASIDs suits a device that has none");
    assert_refused!(without.attach_pasid(1, table), EINVAL, "attach.pasid-width");
    without.close(&[]);
}

#[test]
fn the_second_page_table_under_the_reserved_pasid_fails() {
    const RESERVED: u32 = IOMMU_TEST_PASID_RESERVED;
    let vfio = kernel();
    let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
    let [first, second] = [0; 2].map(|_| guest.table(PASID).unwrap());
    guest.replace(first).unwrap();
    guest.attach_pasid(RESERVED, first).unwrap();
    assert_refused!(guest.replace_pasid(RESERVED, second), ENOMEM, "test.pasid-reserved");
    assert!(guest.is_at(RESERVED, first));
    guest.replace_pasid(RESERVED, second).expect("the third time");
    guest.detach_pasid(RESERVED);
    guest.attach_pasid(RESERVED, first).expect("detaching begins anew");
    guest.close(&[]);
}

#[test]
fn faults_under_a_pasid_go_to_its_page_table() {
    let vfio = kernel();
    let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
    let (queue, file) = guest.client.fault_queue(guest.iommufd).unwrap();
    let faulting = guest.faulting(guest.parent, PASID, queue).unwrap();
    let table = guest.table(PASID).unwrap();
    guest.replace(table).unwrap();
    guest.attach_pasid(2048, faulting).unwrap();
    let operand = IommuTestTriggerIopf { dev_id: guest.device, pasid: 2048, ..Default::default() };
    guest.test(IOMMU_TEST_OP_TRIGGER_IOPF, 0, operand).unwrap();
    assert!(vfio.poll(file).read);
    guest.replace_pasid(2048, table).unwrap();
    assert!(!vfio.poll(file).read, "its faults are over");
    guest.detach_pasid(2048);
    vfio.release(file);
    guest.destroy(faulting).unwrap();
    guest.destroy(queue).unwrap();
    guest.close(&[]);
}
